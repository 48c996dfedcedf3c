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
from rest_framework.views import APIView

from approvals.api import Reason
from kalshi_site.idempotency import once, version_seen
from kalshi_site.identity import Right
from portfolio import risk
from portfolio.domain import scopes
from portfolio.models import TradingState
from trading.execution import nets
from trading.execution.wake import wake

READ = Right.of("portfolio.view_tradingstate", "read")
STOP = Right.of("portfolio.stop_trading", "trade", "risk")
RESUME = Right.of("portfolio.resume_trading", "trade", "risk")


class TradingStateOut(serializers.ModelSerializer[TradingState]):
    """ACTIVE trades, REDUCING lets only exits pass, HALTED cancels working orders and sends nothing new."""

    class Meta:
        model = TradingState
        fields: tuple[str, ...] = (
            *("venue", "scope", "mode", "version", "kill_epoch", "reason", "changed_by", "changed_at"),
            "cleared_at",
        )
        read_only_fields: tuple[str, ...] = fields


class ScopeField(serializers.CharField):
    """`all`, `strategy:NAME`, `series:TICKER` or `market:TICKER`."""

    def to_internal_value(self, data: Any) -> str:
        """Raises ValidationError (E012) on a scope that names nothing."""
        try:
            return scopes.parse(super().to_internal_value(data))
        except scopes.UnknownScope as error:
            raise serializers.ValidationError(str(error), code="max_value") from error


class StateReason(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    scope = ScopeField(max_length=scopes.LONGEST, required=False, default=scopes.ALL)


class ChangedOut(TradingStateOut):
    """The new state. `warning` says so when nothing here goes by the scope's name; the change stands all the same."""

    warning = serializers.SerializerMethodField()

    class Meta(TradingStateOut.Meta):
        fields: tuple[str, ...] = (*TradingStateOut.Meta.fields, "warning")
        read_only_fields = fields

    def get_warning(self, row: TradingState) -> str:
        return risk.doubt_of(row.scope)


class StandingOut(TradingStateOut):
    """The state of everything, and under `standing` every scope that is paused or stopped by itself."""

    standing = TradingStateOut(many=True)

    class Meta(TradingStateOut.Meta):
        fields: tuple[str, ...] = (*TradingStateOut.Meta.fields, "standing")
        read_only_fields = fields


class State(GenericAPIView[TradingState]):
    """The trading state."""

    serializer_class = TradingStateOut
    queryset = TradingState.objects.all()
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    @extend_schema(operation_id="get_trading_state", responses=StandingOut)
    def get(self, request: Request) -> Response:
        """The state of this profile's venue: of everything, and of each scope that is paused or stopped by itself."""
        state = risk.trading_state(settings.KALSHI_PROFILE)
        body = self.get_serializer(state).data
        standing = [row for row in risk.standing(settings.KALSHI_PROFILE) if row.scope]
        return Response({**body, "standing": TradingStateOut(standing, many=True).data})


class _Change(GenericAPIView[TradingState]):
    serializer_class = ChangedOut
    queryset = TradingState.objects.all()
    accepts = frozenset({"reason", "scope"})

    def answer(self, state: TradingState) -> Response:
        """The new state."""
        return Response(self.get_serializer(state).data)


class Pause(_Change):
    """Let only exits pass."""

    rights: ClassVar[dict[str, Right]] = {"POST": STOP}

    @extend_schema(operation_id="pause_trading", request=StateReason, responses=ChangedOut)
    @once()
    def post(self, request: Request) -> Response:
        """REDUCING: working orders stay; a stop stays HALTED. With If-Match only from the version that was seen."""
        return self.answer(
            risk.pause(venue=settings.KALSHI_PROFILE, version=_seen(request), **_deed(request))
        )


class Resume(_Change):
    """Trade again."""

    rights: ClassVar[dict[str, Right]] = {"POST": RESUME}

    @extend_schema(operation_id="resume_trading", request=StateReason, responses=ChangedOut)
    @once(versioned=True)
    def post(self, request: Request) -> Response:
        """ACTIVE, for a reason, from the very state that was seen: a newer stop stands. On a live desk two persons."""
        try:
            return self.answer(
                risk.resume(
                    venue=settings.KALSHI_PROFILE,
                    version=version_seen(request.headers),
                    **_deed(request, silent=""),
                )
            )
        except risk.SecondPersonNeeded as wanted:
            return refuse_and_keep(self, wanted)


class Halt(_Change):
    """Stop."""

    rights: ClassVar[dict[str, Right]] = {"POST": STOP}
    uncounted = frozenset({"POST"})  # a way out

    @extend_schema(operation_id="halt_trading", request=StateReason, responses=ChangedOut)
    def post(self, request: Request) -> Response:
        """HALTED: nothing new goes out, execution cancels what works. Needs no key and no version."""
        return self.answer(risk.halt(venue=settings.KALSHI_PROFILE, **_deed(request)))


def refuse_and_keep(view: APIView, refusal: Exception) -> Response:
    """The refusal as an answer that is returned, not raised: what was noted for the second person is committed."""
    return view.handle_exception(refusal)


class NetsOut(serializers.Serializer[Any]):
    """How many order groups execution was asked to reset."""

    asked = serializers.IntegerField()


class ResetNets(GenericAPIView[TradingState]):
    """Let order groups that have tripped take orders again."""

    serializer_class = NetsOut
    rights: ClassVar[dict[str, Right]] = {"POST": RESUME}
    accepts = frozenset({"reason"})

    @extend_schema(operation_id="reset_order_groups", request=Reason, responses=NetsOut)
    @once()
    def post(self, request: Request) -> Response:
        """For a reason. Trading stays paused: resume it when they are reset."""
        body = Reason(data=request.data)
        body.is_valid(raise_exception=True)
        asked = nets.ask_to_reset(
            venue=settings.KALSHI_PROFILE,
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
        )
        transaction.on_commit(wake)
        return Response({"asked": asked})


def _deed(request: Request, *, silent: str = "by the API") -> dict[str, str]:
    body = StateReason(data=request.data)
    body.is_valid(raise_exception=True)
    given = body.validated_data
    return {
        "actor": request.user.get_username(),
        "reason": given["reason"] or silent,
        "scope": given["scope"],
    }


def _seen(request: Request) -> int | None:
    stated = request.headers.get("If-Match", "").strip()
    return version_seen(request.headers) if stated else None
