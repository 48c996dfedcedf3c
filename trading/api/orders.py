"""Orders and fills over REST, and the ways out: cancel one, cancel all, close a position. Cancels are never gated."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api import ProposalOut, Reason
from approvals.models import Proposal
from kalshi_site.errors import UnknownTicker
from kalshi_site.idempotency import once
from kalshi_site.identity import Right
from portfolio.models import Position
from trading.domain.orders import OPEN, OrderState
from trading.execution import cancels
from trading.execution.decreases import request_decrease
from trading.execution.exits import close_position
from trading.execution.wake import wake
from trading.models import Fill, Market, Order

READ = Right.of("trading.view_order", "read")
CANCEL = Right.of("trading.cancel_order", "trade", "risk")
CLOSE = Right.of("portfolio.close_position", "trade")


class OrderOut(serializers.ModelSerializer[Order]):
    """An order and what the exchange has proven of it. `evidence` says what its status rests on."""

    id = serializers.CharField(source="public_id")
    proposal_id = serializers.CharField(source="proposal.public_id", default=None, allow_null=True)
    status = serializers.ChoiceField(choices=[state.value for state in OrderState], source="state")
    quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    filled_quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    remaining_quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    reduced_quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    decrease_to = serializers.DecimalField(max_digits=18, decimal_places=2, allow_null=True)
    limit_price = serializers.DecimalField(max_digits=9, decimal_places=4)
    average_price = serializers.DecimalField(max_digits=9, decimal_places=6, allow_null=True)
    fees = serializers.DecimalField(max_digits=18, decimal_places=6)

    class Meta:
        model = Order
        fields = (
            *("id", "version", "proposal_id", "status", "evidence", "code", "origin"),
            *("client_order_id", "venue_order_id", "ticker", "event_ticker", "title"),
            *("action", "side", "quantity", "limit_price", "time_in_force", "reduce_only"),
            *("expires_at", "good_until", "reduced_quantity", "decrease_to"),
            *("filled_quantity", "remaining_quantity", "average_price", "fees"),
            *("cancel_requested_at", "cancel_requested_by", "acknowledged_at", "created_at", "updated_at"),
        )
        read_only_fields = fields


class OrderFilter(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["open", *(state.value for state in OrderState)], required=False)
    ticker = serializers.CharField(max_length=120, required=False)
    proposal_id = serializers.CharField(max_length=40, required=False)


class _Orders(GenericAPIView[Order]):
    serializer_class = OrderOut
    lookup_field = "public_id"
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    def get_queryset(self) -> QuerySet[Order]:
        """The orders at this profile's venue."""
        return Order.objects.filter(venue=settings.KALSHI_PROFILE).select_related("proposal")


class OrderList(_Orders, ListAPIView[Order]):
    """Orders, newest first. `status=open` gathers those that are not known to be over."""

    def get_queryset(self) -> QuerySet[Order]:
        """Raises ValidationError on a status that does not exist."""
        wanted = OrderFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        fields: dict[str, Any] = dict(wanted.validated_data)
        if status := fields.pop("status", None):
            fields["state__in"] = OPEN if status == "open" else [status]
        if proposal := fields.pop("proposal_id", None):
            fields["proposal__public_id"] = proposal
        return super().get_queryset().filter(**fields)

    @extend_schema(operation_id="list_orders", parameters=[OrderFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class OrderDetail(_Orders, RetrieveAPIView[Order]):
    """One order."""

    moves_with_tag = True  # columns written without its version (`sent_at`, `scans`, renewals) are not shown

    @extend_schema(operation_id="get_order")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class OrderCancel(_Orders):
    """Ask for an order's cancel."""

    rights: ClassVar[dict[str, Right]] = {"POST": CANCEL}
    uncounted = frozenset({"POST"})  # a way out
    accepts = frozenset({"reason"})

    @extend_schema(operation_id="cancel_order", request=Reason, responses=OrderOut)
    @once(required=False)
    def post(self, request: Request, public_id: str) -> Response:
        """Execution cancels it at once; the order's status changes when the exchange has proven it."""
        asked = cancels.request_cancel(
            order=self.get_object(), actor=request.user.get_username(), reason=_reason(request)
        )
        transaction.on_commit(wake)
        return Response(self.get_serializer(asked).data)


class Remaining(serializers.Serializer[Any]):
    remaining = serializers.DecimalField(max_digits=18, decimal_places=2)
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class OrderDecrease(_Orders):
    """Take contracts off an order, which keeps its place in the queue."""

    rights: ClassVar[dict[str, Right]] = {"POST": CANCEL}
    uncounted = frozenset({"POST"})  # a way out
    accepts = frozenset({"remaining", "reason"})

    @extend_schema(operation_id="decrease_order", request=Remaining, responses=OrderOut)
    @once(required=False)
    def post(self, request: Request, public_id: str) -> Response:
        """Leave only `remaining` contracts resting; the order shows it when the exchange has proven it."""
        body = Remaining(data=request.data)
        body.is_valid(raise_exception=True)
        asked = request_decrease(
            order=self.get_object(), actor=request.user.get_username(), **body.validated_data
        )
        transaction.on_commit(wake)
        return Response(self.get_serializer(asked).data)


class CanceledOut(serializers.Serializer[Any]):
    """The orders whose cancel was asked for by this request."""

    data = OrderOut(many=True)  # type: ignore[assignment]  # a field, which the metaclass takes out


class OrderCancelAll(_Orders):
    """Ask for the cancel of every open order."""

    rights: ClassVar[dict[str, Right]] = {"POST": CANCEL}
    uncounted = frozenset({"POST"})  # a way out
    accepts = frozenset({"reason"})

    @extend_schema(operation_id="cancel_all_orders", request=Reason, responses=CanceledOut)
    @once(required=False)
    def post(self, request: Request) -> Response:
        """Orders that ended meanwhile are left out."""
        asked = cancels.request_cancel_all(
            venue=settings.KALSHI_PROFILE, actor=request.user.get_username(), reason=_reason(request)
        )
        transaction.on_commit(wake)
        return Response({"data": self.get_serializer(asked, many=True).data})


class FillOut(serializers.ModelSerializer[Fill]):
    """One execution of ours. `price` is on the side's own scale, `fee` as the exchange reported it."""

    id = serializers.CharField(source="public_id")
    order_id = serializers.CharField(source="order.public_id", default=None, allow_null=True)
    quantity = serializers.DecimalField(max_digits=18, decimal_places=2)
    price = serializers.DecimalField(max_digits=9, decimal_places=4)
    yes_price = serializers.DecimalField(max_digits=9, decimal_places=4)
    fee = serializers.DecimalField(max_digits=18, decimal_places=6)

    class Meta:
        model = Fill
        fields = (
            *("id", "order_id", "trade_id", "venue_order_id", "ticker", "action", "side", "book_side"),
            *("quantity", "price", "yes_price", "fee", "is_taker", "at"),
        )
        read_only_fields = fields


class FillFilter(serializers.Serializer[Any]):
    ticker = serializers.CharField(max_length=120, required=False)
    order_id = serializers.CharField(max_length=40, required=False)


class FillList(ListAPIView[Fill]):
    """Our executions, newest first."""

    serializer_class = FillOut
    rights: ClassVar[dict[str, Right]] = {"GET": Right.of("trading.view_fill", "read")}

    def get_queryset(self) -> QuerySet[Fill]:
        """The fills at this profile's venue."""
        wanted = FillFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        fields: dict[str, Any] = dict(wanted.validated_data)
        if order := fields.pop("order_id", None):
            fields["order__public_id"] = order
        return Fill.objects.filter(venue=settings.KALSHI_PROFILE, **fields).select_related("order")

    @extend_schema(operation_id="list_fills", parameters=[FillFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class PositionClose(GenericAPIView[Proposal]):
    """A person's own way out."""

    serializer_class = ProposalOut
    rights: ClassVar[dict[str, Right]] = {"POST": CLOSE}
    uncounted = frozenset({"POST"})  # a way out
    queryset = Proposal.objects.all()

    @extend_schema(operation_id="close_position", request=None, responses=ProposalOut)
    @once()
    def post(self, request: Request, ticker: str) -> Response:
        """Sell the whole holding at once, at most two cents below the best bid, rounded down to the market's grid.

        Answers the proposal: approved, or denied by our rules.
        """
        venue = settings.KALSHI_PROFILE
        known = Position.objects.filter(venue=venue, ticker=ticker).exists()
        if not known and not Market.objects.filter(ticker=ticker).exists():
            raise UnknownTicker(f"no market has the ticker {ticker}")
        proposal = close_position(venue=venue, ticker=ticker, actor=request.user.get_username())
        return Response(self.get_serializer(proposal).data)


def _reason(request: Request) -> str:
    body = Reason(data=request.data)
    body.is_valid(raise_exception=True)
    return str(body.validated_data["reason"])
