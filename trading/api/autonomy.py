"""The autonomy level over REST. Less room needs the right to stop, more room the right to resume."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.idempotency import etag, once, version_seen
from kalshi_site.identity import Right, require
from kalshi_site.models import ApiToken, User
from portfolio import risk
from portfolio.domain.autonomy import AutonomyLevel, is_raise
from portfolio.models import Autonomy
from trading.api.state import READ, RESUME, STOP, refuse_and_keep


class AutonomyOut(serializers.ModelSerializer[Autonomy]):
    """off: the analyst is not asked. propose: every proposal asks a person. auto: LOW risk may pass within a budget."""

    class Meta:
        model = Autonomy
        fields: tuple[str, ...] = ("venue", "level", "version", "reason", "changed_by", "changed_at")
        read_only_fields: tuple[str, ...] = fields


class AutonomyIn(serializers.Serializer[Any]):
    level = serializers.ChoiceField(choices=[level.value for level in AutonomyLevel])
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class AutonomyLevelDoor(GenericAPIView[Autonomy]):
    """How much the analyst may do by itself."""

    serializer_class = AutonomyOut
    queryset = Autonomy.objects.all()
    moves_with_tag = True  # who sits before the queue is written without its version, and not shown
    rights: ClassVar[dict[str, Right]] = {"GET": READ, "PUT": STOP}
    accepts = frozenset({"level", "reason"})

    @extend_schema(operation_id="get_autonomy", responses=AutonomyOut)
    def get(self, request: Request) -> Response:
        """The level of this profile's venue."""
        return self._answer(risk.autonomy(settings.KALSHI_PROFILE))

    @extend_schema(operation_id="set_autonomy", request=AutonomyIn, responses=AutonomyOut)
    @once(required=False, versioned=True)
    def put(self, request: Request) -> Response:
        """Change the level. Less room is never refused; more room needs a reason and the version that was seen.

        On a live desk auto takes two persons.
        """
        body = AutonomyIn(data=request.data)
        body.is_valid(raise_exception=True)
        venue, level = settings.KALSHI_PROFILE, AutonomyLevel(body.validated_data["level"])
        if is_raise(risk.level_of(venue), level):
            _require_resume(request)
        try:
            row = risk.set_autonomy(
                venue=venue,
                level=level,
                actor=request.user.get_username(),
                reason=body.validated_data["reason"],
                version=version_seen(request.headers),
            )
        except risk.SecondPersonNeeded as wanted:
            return refuse_and_keep(self, wanted)
        return self._answer(row)

    def _answer(self, row: Autonomy) -> Response:
        return Response(self.get_serializer(row).data, headers={"ETag": etag(row.version)})


def _require_resume(request: Request) -> None:
    """More room than now: raises ScopeMissing or RoleMissing unless the caller may resume trading."""
    assert isinstance(request.user, User)
    scopes = request.auth.scopes if isinstance(request.auth, ApiToken) else None
    require(request.user, RESUME, scopes=scopes)
