"""A proposal's repeat over REST: the same terms once more, where nothing of it was ever at the exchange."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api import DECIDE, ProposalOut
from approvals.models import Proposal
from kalshi_site.idempotency import once
from kalshi_site.identity import Right
from trading.execution.repeats import propose_again


class ProposalRepeat(GenericAPIView[Proposal]):
    """Propose the same once more."""

    serializer_class = ProposalOut
    lookup_field = "public_id"
    rights: ClassVar[dict[str, Right]] = {"POST": DECIDE}

    def get_queryset(self) -> QuerySet[Proposal]:
        """The proposals of this profile's venue."""
        return Proposal.objects.filter(venue=settings.KALSHI_PROFILE)

    @extend_schema(operation_id="repeat_proposal", request=None, responses={201: ProposalOut})
    @once()
    def post(self, request: Request, public_id: str) -> Response:
        """Put it before people again. Only after it was voided, or its order is rejected, not sent or absent.

        Answers the new proposal, which somebody must approve; asked again, the same one.
        """
        made = propose_again(proposal=self.get_object(), actor=request.user.get_username())
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    # What the gateway says of it now; the other doors to it are described with their versions.
    post.refusals = ("E212", "E301", "E305", "E306", "E310", "E311", "E312", "E313")  # type: ignore[attr-defined]
