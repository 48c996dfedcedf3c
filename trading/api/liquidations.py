"""Emergency liquidation over REST: what it would bring, ask for it, follow it. Execution carries it out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.errors import DeskError
from kalshi_site.idempotency import once
from kalshi_site.identity import Right
from trading.api.state import READ
from trading.execution import liquidation, liquidation_plan
from trading.execution.wake import wake
from trading.models import Liquidation

SELL = Right.of("portfolio.close_position", "trade")
CENTS_5 = Decimal("0.05")


class StepOut(serializers.Serializer[Any]):
    """One step, in words; `ticker` is empty for the whole."""

    at = serializers.DateTimeField()
    ticker = serializers.CharField(allow_blank=True)
    text = serializers.CharField(source="reason")


class HeldOut(serializers.Serializer[Any]):
    ticker = serializers.CharField()
    side = serializers.ChoiceField(choices=["yes", "no"])
    quantity = serializers.CharField()


class LiquidationOut(serializers.ModelSerializer[Liquidation]):
    """Sell everything that is held, each market down to its floor. `finished_at` is null while it works."""

    id = serializers.CharField(source="public_id")
    slippage = serializers.DecimalField(max_digits=9, decimal_places=4)
    floors = serializers.DictField(child=serializers.CharField())
    remaining = HeldOut(many=True)
    steps = StepOut(many=True, source="events")

    class Meta:
        model = Liquidation
        fields = (
            *("id", "venue", "version", "actor", "reason", "slippage", "floors", "created_at", "ends_by"),
            *("finished_at", "outcome", "remaining", "steps"),
        )
        read_only_fields = fields


class PlanLineOut(serializers.Serializer[Any]):
    """One holding sold into the book as it stands; null where the book or the fee is not known."""

    ticker = serializers.CharField()
    side = serializers.ChoiceField(choices=["yes", "no"], source="side.value")
    quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    sold = serializers.DecimalField(max_digits=18, decimal_places=2)
    bid = serializers.DecimalField(max_digits=9, decimal_places=4, allow_null=True)
    floor = serializers.DecimalField(max_digits=9, decimal_places=4, allow_null=True)
    proceeds = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    slippage = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    fee = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)


class LiquidationsOut(serializers.Serializer[Any]):
    """What selling everything now would bring, and the last liquidation that was asked for."""

    plan = PlanLineOut(many=True)
    last = LiquidationOut(allow_null=True)


class LiquidateIn(serializers.Serializer[Any]):
    """`confirm` must be the word LIQUIDATE. `slippage`: most dollars below the best bid of the moment."""

    confirm = serializers.ChoiceField(choices=["LIQUIDATE"])
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    slippage = serializers.DecimalField(
        max_digits=5,
        decimal_places=4,
        min_value=liquidation.LEAST_SLIPPAGE,
        max_value=liquidation.MOST_SLIPPAGE,
        default=CENTS_5,
    )


class Liquidate(GenericAPIView[Liquidation]):
    """Sell everything that is held."""

    serializer_class = LiquidationOut
    queryset = Liquidation.objects.all()
    rights: ClassVar[dict[str, Right]] = {"GET": READ, "POST": SELL}
    uncounted = frozenset({"POST"})  # a way out
    accepts = frozenset({"confirm", "reason", "slippage"})

    @extend_schema(operation_id="get_liquidation", responses=LiquidationsOut)
    def get(self, request: Request) -> Response:
        """The plan at five cents of slippage, and the last liquidation with its steps."""
        venue = settings.KALSHI_PROFILE
        last = Liquidation.objects.filter(venue=venue).order_by("-id").first()
        body = {"plan": liquidation_plan.plan(venue, CENTS_5).lines, "last": last}
        return Response(LiquidationsOut(body).data)

    @extend_schema(operation_id="liquidate", request=LiquidateIn, responses=LiquidationOut)
    @once()
    def post(self, request: Request) -> Response:
        """Stop everything and sell what is held, by reduce-only immediate-or-cancel exits. Returns the one at work."""
        body = LiquidateIn(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        try:
            row = liquidation.request(
                venue=settings.KALSHI_PROFILE,
                actor=request.user.get_username(),
                reason=given["reason"] or "by the API",
                slippage=given["slippage"],
            )
        except liquidation.SlippageOutOfRange as error:
            raise DeskError(str(error), code=error.code) from error
        transaction.on_commit(wake)
        return Response(self.get_serializer(row).data)
