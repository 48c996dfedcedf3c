"""Positions, the portfolio and limits over REST. What is not known (a mark, an equity) is null, never zero."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site.identity import Right
from portfolio import ledger, risk
from portfolio.domain.limits import PAPER_LIMITS
from portfolio.domain.pnl import mark_price
from portfolio.models import Position, Reservation, RiskLimit

READ = Right.of("portfolio.view_position", "read")
CENT = Decimal("0.01")


class PositionOut(serializers.ModelSerializer[Position]):
    """One market's holding. Prices are on the held side's own scale; `mark` is what the book pays for it now."""

    side = serializers.ChoiceField(choices=["yes", "no"], source="holding.side", allow_null=True)
    quantity = serializers.SerializerMethodField()
    average_price = serializers.DecimalField(
        max_digits=9, decimal_places=6, source="holding.average_price", allow_null=True
    )
    cost = serializers.DecimalField(max_digits=18, decimal_places=6)
    mark = serializers.SerializerMethodField()
    unrealized = serializers.SerializerMethodField()
    realized = serializers.DecimalField(max_digits=18, decimal_places=6)
    fees = serializers.DecimalField(max_digits=18, decimal_places=6)
    settlement_value = serializers.DecimalField(max_digits=9, decimal_places=6, allow_null=True)

    class Meta:
        model = Position
        fields = (
            *("ticker", "event_ticker", "title", "version", "side", "quantity", "average_price", "cost"),
            *("mark", "unrealized", "realized", "fees", "settled_at", "settlement_value", "updated_at"),
        )
        read_only_fields = fields

    def get_quantity(self, row: Position) -> str:
        """Contracts held, without sign; `side` says which."""
        return f"{abs(row.quantity):.2f}"

    def get_mark(self, row: Position) -> str | None:
        """What one contract would fetch now; null while nobody bids."""
        mark = self._mark(row)
        return None if mark is None else f"{mark:.4f}"

    def get_unrealized(self, row: Position) -> str | None:
        """The gain if sold at the mark, before fees; null while the mark is unknown."""
        gain = row.holding.unrealized(self._mark(row))
        return None if gain is None else f"{gain:.6f}"

    def _mark(self, row: Position) -> Decimal | None:
        facts = self.context.get("facts", {}).get(row.ticker)
        return None if facts is None else mark_price(row.holding, facts.book)


class PositionFilter(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["held", "all"], required=False, default="held")
    ticker = serializers.CharField(max_length=120, required=False)


class _Positions(GenericAPIView[Position]):
    serializer_class = PositionOut
    lookup_field = "ticker"
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    def get_queryset(self) -> QuerySet[Position]:
        """The positions at this profile's venue."""
        return Position.objects.filter(venue=settings.KALSHI_PROFILE)

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Hand the serializer the books of all rows at once."""
        shown = args[0] if args else []
        rows = [shown] if isinstance(shown, Position) else shown
        facts = risk.market_facts([row.ticker for row in rows])
        kwargs["context"] = {**self.get_serializer_context(), "facts": facts}
        return super().get_serializer(*args, **kwargs)


class PositionList(_Positions, ListAPIView[Position]):
    """What is held; `status=all` adds what was held."""

    def get_queryset(self) -> QuerySet[Position]:
        """Raises ValidationError on an unknown status."""
        wanted = PositionFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        queryset = super().get_queryset()
        if ticker := wanted.validated_data.get("ticker"):
            queryset = queryset.filter(ticker=ticker)
        return queryset if wanted.validated_data["status"] == "all" else queryset.exclude(quantity=0)

    @extend_schema(operation_id="list_positions", parameters=[PositionFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class PositionDetail(_Positions, RetrieveAPIView[Position]):
    """One market's holding, also when it is flat again."""

    @extend_schema(operation_id="get_position")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class PortfolioOut(serializers.Serializer[Any]):
    """Dollars with six decimals. cash + cost of positions + unrealized = equity; reserved is held back for orders."""

    equity = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    cash = serializers.DecimalField(max_digits=18, decimal_places=6)
    reserved = serializers.DecimalField(max_digits=18, decimal_places=6)
    available = serializers.DecimalField(max_digits=18, decimal_places=6)
    cost = serializers.DecimalField(max_digits=18, decimal_places=6)
    exposure = serializers.DecimalField(max_digits=18, decimal_places=6)
    realized = serializers.DecimalField(max_digits=18, decimal_places=6)
    unrealized = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    fees = serializers.DecimalField(max_digits=18, decimal_places=6)
    unmarked_positions = serializers.IntegerField()
    venue = serializers.CharField()


class Portfolio(APIView):
    """The account in numbers."""

    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    @extend_schema(operation_id="get_portfolio", responses=PortfolioOut)
    def get(self, request: Request) -> Response:
        """Equity and its parts at present marks; exposure is the most that positions and working orders can lose."""
        venue = settings.KALSHI_PROFILE
        now = ledger.valuation(venue)
        standing = list(Reservation.objects.standing(venue))
        at_risk = sum((abs(row.signed_quantity) * row.unit_cost for row in standing), Decimal(0))
        reserved = sum(
            (abs(row.signed_quantity) * (row.unit_cost + row.unit_fee) for row in standing), Decimal(0)
        )
        numbers = {
            "equity": now.equity,
            "cash": now.cash,
            "reserved": reserved,
            "available": now.cash - reserved,
            "cost": now.cost,
            "exposure": now.cost + at_risk,
            "realized": now.realized,
            "unrealized": now.unrealized,
            "fees": now.fees,
            "unmarked_positions": now.unmarked,
            "venue": venue,
        }
        return Response(PortfolioOut(numbers).data)


class LimitOut(serializers.ModelSerializer[RiskLimit]):
    """A limit of the risk gateway as it was set. `unit` says what `value` counts; `note` is the reason."""

    unit = serializers.SerializerMethodField()
    value = serializers.DecimalField(max_digits=18, decimal_places=6)

    class Meta:
        model = RiskLimit
        fields = ("name", "version", "value", "unit", "note", "updated_at")
        read_only_fields = fields

    def get_unit(self, row: RiskLimit) -> str:
        """Empty for a name that no rule reads."""
        limit = PAPER_LIMITS.get(row.name)
        return limit.unit if limit else ""
