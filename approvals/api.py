"""Proposals over REST: read them, approve and decline them. Each decision names the version that was seen."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from approvals import decisions
from approvals.domain.lifecycle import ProposalState
from approvals.models import Proposal
from kalshi_site.idempotency import once, version_seen
from kalshi_site.identity import Right
from kalshi_site.models import User
from kalshi_site.prepared import prepared

READ = Right.of("approvals.view_proposal", "read")
DECIDE = Right.of("approvals.decide_proposal", "approve")


class ProposalOut(serializers.ModelSerializer[Proposal]):
    """A proposal as it was frozen when it was handed in, and what became of it."""

    id = serializers.CharField(source="public_id")
    status = serializers.ChoiceField(choices=[state.value for state in ProposalState], source="state")
    quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    limit_price = serializers.DecimalField(max_digits=9, decimal_places=4)
    notional = serializers.DecimalField(max_digits=18, decimal_places=6, source="terms.notional")
    clone_of = serializers.CharField(source="clone_of.public_id", default=None, allow_null=True)
    checks = serializers.ListField(child=serializers.DictField(), source="risk_report.checks", default=list)

    class Meta:
        model = Proposal
        fields = (
            *("id", "version", "status", "origin", "proposer", "strategy", "clone_of"),
            *("ticker", "event_ticker", "series_ticker", "title", "rules_text", "close_at"),
            *("action", "side", "quantity", "limit_price", "notional", "reduce_only", "terms_hash"),
            *("risk_level", "checks", "quote", "forecast"),
            *("deadline_at", "required_approvals", "approvals_count"),
            *("decided_at", "decided_by", "decision_reason", "created_at", "updated_at"),
        )
        read_only_fields = fields


@cache
def _written() -> ProposalOut:
    """One for the whole process: to build a serializer's fields takes ten times as long as to write a row with them."""
    return ProposalOut()


class ProposalFilter(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=[state.value for state in ProposalState], required=False)
    ticker = serializers.CharField(max_length=120, required=False)


class Note(serializers.Serializer[Any]):
    terms_hash = serializers.CharField(
        max_length=64,
        allow_blank=False,
        help_text="Of the proposal as it was shown: a yes is to these terms.",
    )
    note = serializers.CharField(max_length=1000, required=False, allow_blank=True, default="")


class Reason(serializers.Serializer[Any]):
    terms_hash = serializers.CharField(max_length=64, required=False, allow_blank=False)
    reason = serializers.CharField(max_length=1000, required=False, allow_blank=True, default="")


def _person(request: Request) -> User:
    assert isinstance(request.user, User)  # the permission class lets nobody else in
    return request.user


@prepared
def _named(venue: str, public_id: str) -> QuerySet[Proposal]:
    return Proposal.objects.filter(venue=venue, public_id=public_id)


class _Proposals(GenericAPIView[Proposal]):
    serializer_class = ProposalOut
    lookup_field = "public_id"
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    def get_queryset(self) -> QuerySet[Proposal]:
        """The proposals of this profile's venue."""
        return Proposal.objects.filter(venue=settings.KALSHI_PROFILE)

    def get_object(self) -> Proposal:
        """The one that the address names. Raises Http404."""
        found = _named.first(settings.KALSHI_PROFILE, self.kwargs[self.lookup_field])
        if found is None:
            raise Http404
        return found


class ProposalList(_Proposals, ListAPIView[Proposal]):
    """Proposals, newest first."""

    def get_queryset(self) -> QuerySet[Proposal]:
        """Raises ValidationError on a status that does not exist."""
        wanted = ProposalFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        renamed = {"status": "state"}
        fields = {renamed.get(name, name): value for name, value in wanted.validated_data.items()}
        return super().get_queryset().filter(**fields).select_related("clone_of")

    @extend_schema(operation_id="list_proposals", parameters=[ProposalFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class ProposalDetail(_Proposals, RetrieveAPIView[Proposal]):
    """One proposal."""

    moves_with_tag = True  # every column of it is written with its version

    @extend_schema(operation_id="get_proposal")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class ProposalApprove(_Proposals):
    """Approve exactly what was seen."""

    rights: ClassVar[dict[str, Right]] = {"POST": DECIDE}
    accepts = frozenset({"note", "terms_hash"})

    @extend_schema(operation_id="approve_proposal", request=Note, responses=ProposalOut)
    @once(versioned=True)
    def post(self, request: Request, public_id: str) -> Response:
        """Approve if it still stands and the gateway still says yes on fresh numbers. Execution then sends it once."""
        found = self.get_object()
        body = Note(data=request.data)
        body.is_valid(raise_exception=True)
        approved = decisions.approve(
            proposal=found,
            version=version_seen(request.headers),
            terms_hash=body.validated_data["terms_hash"],
            actor=_person(request),
            method="rest",
            note=body.validated_data["note"],
        )
        return Response(_written().to_representation(approved))


class ProposalDecline(_Proposals):
    """Say no to what was seen."""

    rights: ClassVar[dict[str, Right]] = {"POST": DECIDE}
    accepts = frozenset({"reason", "terms_hash"})

    @extend_schema(operation_id="decline_proposal", request=Reason, responses=ProposalOut)
    @once(versioned=True)
    def post(self, request: Request, public_id: str) -> Response:
        """Decline. Nothing is traded."""
        found = self.get_object()
        body = Reason(data=request.data)
        body.is_valid(raise_exception=True)
        declined = decisions.decline(
            proposal=found,
            version=version_seen(request.headers),
            terms_hash=body.validated_data.get("terms_hash", found.terms_hash),  # a no binds nobody to terms
            actor=_person(request),
            method="rest",
            reason=body.validated_data["reason"],
        )
        return Response(_written().to_representation(declined))
