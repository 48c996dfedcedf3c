"""The circuit breakers over REST: how they stand, and closing one by hand."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site import breakers
from kalshi_site.idempotency import once
from kalshi_site.identity import Right

READ = Right.of("portfolio.view_tradingstate", "read")
RESET = Right.of("portfolio.resume_trading", "trade", "risk")


class BreakerOut(serializers.Serializer[Any]):
    """`failures` in a row; `retry_at`: when the next probe may go; `stops`: what waits while it is open."""

    name = serializers.CharField()
    state = serializers.ChoiceField(choices=[state.value for state in breakers.State])
    since = serializers.DateTimeField(allow_null=True)
    failures = serializers.IntegerField()
    reason = serializers.CharField()
    retry_at = serializers.DateTimeField(allow_null=True)
    blocks = serializers.BooleanField()
    stops = serializers.CharField()


class BreakersOut(serializers.Serializer[Any]):
    breakers = BreakerOut(many=True)


class ResetReason(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class BreakerList(APIView):
    """Every breaker."""

    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    @extend_schema(operation_id="list_breakers", responses=BreakersOut)
    def get(self, request: Request) -> Response:
        """How they stand now. With Redis dead: how this process sees them."""
        return Response(BreakersOut({"breakers": breakers.states()}).data)


class BreakerReset(APIView):
    """One breaker."""

    rights: ClassVar[dict[str, Right]] = {"POST": RESET}
    accepts = frozenset({"reason"})

    @extend_schema(operation_id="reset_breaker", request=ResetReason, responses=BreakerOut)
    @once(required=False)
    def post(self, request: Request, name: str) -> Response:
        """Close it now; it opens again if the failures go on. Harmless to repeat."""
        body = ResetReason(data=request.data)
        body.is_valid(raise_exception=True)
        reason = body.validated_data["reason"] or "by the API"
        return Response(BreakerOut(breakers.reset(name, request.user.get_username(), reason)).data)
