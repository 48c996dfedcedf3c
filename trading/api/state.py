"""The trading state over REST: read it, pause, stop, resume. Stopping needs nothing but the right to."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.idempotency import once, version_seen
from kalshi_site.identity import Right
from portfolio import risk
from portfolio.models import TradingState
from trading.execution.wake import wake

READ = Right.of("portfolio.view_tradingstate", "read")
STOP = Right.of("portfolio.stop_trading", "trade", "risk")
RESUME = Right.of("portfolio.resume_trading", "trade", "risk")


class TradingStateOut(serializers.ModelSerializer[TradingState]):
    """ACTIVE trades, REDUCING lets only exits pass, HALTED cancels working orders and sends nothing new."""

    class Meta:
        model = TradingState
        fields = ("venue", "mode", "version", "kill_epoch", "reason", "changed_by", "changed_at")
        read_only_fields = fields


class StateReason(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class State(GenericAPIView[TradingState]):
    """The trading state."""

    serializer_class = TradingStateOut
    queryset = TradingState.objects.all()
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    @extend_schema(operation_id="get_trading_state")
    def get(self, request: Request) -> Response:
        """The state of this profile's venue."""
        return Response(self.get_serializer(risk.trading_state(settings.KALSHI_PROFILE)).data)


class _Change(GenericAPIView[TradingState]):
    serializer_class = TradingStateOut
    queryset = TradingState.objects.all()
    accepts = frozenset({"reason"})

    def answer(self, state: TradingState) -> Response:
        """The new state; execution looks at it at once."""
        transaction.on_commit(wake)
        return Response(self.get_serializer(state).data)


class Pause(_Change):
    """Let only exits pass."""

    rights: ClassVar[dict[str, Right]] = {"POST": STOP}

    @extend_schema(operation_id="pause_trading", request=StateReason, responses=TradingStateOut)
    @once()
    def post(self, request: Request) -> Response:
        """REDUCING: working orders stay. With If-Match only from the version that was seen."""
        return self.answer(
            risk.pause(venue=settings.KALSHI_PROFILE, version=_seen(request), **_deed(request))
        )


class Resume(_Change):
    """Trade again."""

    rights: ClassVar[dict[str, Right]] = {"POST": RESUME}

    @extend_schema(operation_id="resume_trading", request=StateReason, responses=TradingStateOut)
    @once()
    def post(self, request: Request) -> Response:
        """ACTIVE. With If-Match only from the version that was seen."""
        return self.answer(
            risk.resume(venue=settings.KALSHI_PROFILE, version=_seen(request), **_deed(request))
        )


class Halt(_Change):
    """Stop."""

    rights: ClassVar[dict[str, Right]] = {"POST": STOP}
    throttle_classes = ()  # the way out is never counted

    @extend_schema(operation_id="halt_trading", request=StateReason, responses=TradingStateOut)
    def post(self, request: Request) -> Response:
        """HALTED: nothing new goes out, execution cancels what works. Needs no key and no version."""
        return self.answer(risk.halt(venue=settings.KALSHI_PROFILE, **_deed(request)))


def _deed(request: Request) -> dict[str, str]:
    body = StateReason(data=request.data)
    body.is_valid(raise_exception=True)
    return {"actor": request.user.get_username(), "reason": body.validated_data["reason"] or "by the API"}


def _seen(request: Request) -> int | None:
    stated = request.headers.get("If-Match", "").strip()
    return version_seen(request.headers) if stated else None
