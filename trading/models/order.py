"""An instruction to the exchange and everything that happened to it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from approvals.models import Proposal
from kalshi_site.guards import Guard, frozen, legal_moves, never_deleted, set_once
from kalshi_site.models.fields import CountField, DollarsField
from kalshi_site.prepared import prepared
from kalshi_site.versioning import HistoryRow, VersionedModel
from trading.domain.orders import (
    CANCELABLE,
    OPEN,
    ORDER_TRANSITIONS,
    Action,
    OrderState,
    Side,
    Terms,
    TimeInForce,
)
from trading.models.market import Market
from trading.models.work_item import WorkItem, WorkKind, WorkState


class OrderQuerySet(models.QuerySet["Order"]):
    def open(self) -> OrderQuerySet:
        """Not known to be over: counts as exposure."""
        return self.filter(state__in=OPEN)

    def unproven(self, venue: str, *, signed_before: datetime) -> OrderQuerySet:
        """Sent at least so long ago, and still without proof either way."""
        return self.filter(
            venue=venue, state__in=(OrderState.SENDING, OrderState.UNKNOWN), signed_at__lt=signed_before
        )

    def cancelable(self) -> OrderQuerySet:
        return self.filter(state__in=CANCELABLE)

    def in_scope(self, scope: str) -> OrderQuerySet:
        """The orders that a scope of the trading state covers; one found on the exchange has no strategy."""
        kind, _, name = scope.partition(":")
        match kind:
            case "market":
                return self.filter(ticker=name)
            case "series":
                listed = Market.objects.filter(series_ticker=name).values("ticker")
                return self.filter(Q(proposal__series_ticker=name) | Q(ticker__in=listed))
            case "strategy":
                return self.filter(proposal__strategy=name)
        return self

    def renewable(self) -> OrderQuerySet:
        """Resting as we left it, wanted by everybody, and approved for longer than its expiry says.

        One that was changed elsewhere is left to its expiry: a renewal names our price and total, and would undo that.
        """
        changed = WorkItem.objects.filter(
            venue=OuterRef("venue"), kind=WorkKind.CHANGED_ELSEWHERE, order=OuterRef("public_id")
        )
        standing = changed.exclude(state=WorkState.RESOLVED)
        return self.cancelable().filter(
            ~Exists(standing),
            cancel_requested_at=None,
            decrease_to=None,
            venue_order_id__isnull=False,
            good_until__gt=F("expires_at"),
            remaining_quantity__gt=0,  # of a decreased one the last fill comes before the word of its end
        )

    def cancel_wanted(self) -> OrderQuerySet:
        """Somebody asked to cancel and the exchange has not confirmed."""
        return self.cancelable().exclude(cancel_requested_at=None)


class Order(VersionedModel):
    """One order. Inserted by the claim, before its first byte leaves; at most one per proposal, at most one attempt.

    An order without a proposal was found on the exchange and adopted (`origin` external).
    """

    public_id = models.CharField(max_length=40, unique=True, editable=False)
    proposal = models.OneToOneField(
        Proposal, on_delete=models.PROTECT, null=True, blank=True, related_name="order"
    )
    origin = models.CharField(max_length=10, default="proposal")
    venue = models.CharField(max_length=10)
    client_order_id = models.CharField(max_length=64)
    venue_order_id = models.CharField(max_length=64, null=True, blank=True)
    state = models.CharField(max_length=16, choices=[(s.value, s.value) for s in OrderState])
    evidence = models.CharField(max_length=300, blank=True, help_text="What the state rests on.")
    code = models.CharField(max_length=80, blank=True, help_text="The exchange's or our refusal code.")

    ticker = models.CharField(max_length=120, db_index=True)
    event_ticker = models.CharField(max_length=120)
    title = models.CharField(max_length=300, blank=True)
    exchange_index = models.IntegerField(default=0)
    subaccount = models.PositiveSmallIntegerField(
        default=0, help_text="Ours are of the primary one, 0; one found on the exchange may be of another."
    )
    action = models.CharField(max_length=4, choices=[(a.value, a.value) for a in Action])
    side = models.CharField(max_length=3, choices=[(s.value, s.value) for s in Side])
    quantity = CountField()
    limit_price = DollarsField(help_text="On the side's own scale.")
    time_in_force = models.CharField(max_length=24, choices=[(t.value, t.value) for t in TimeInForce])
    reduce_only = models.BooleanField(default=False)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="When the exchange ends it, unless that is moved on."
    )
    good_until = models.DateTimeField(
        null=True, blank=True, help_text="The end of what was approved: its expiry never passes this."
    )
    renewal_until = models.DateTimeField(
        null=True, blank=True, help_text="The expiry last asked for, without an answer that proves it yet."
    )
    renewal_signed_at = models.DateTimeField(null=True, blank=True)

    filled_quantity = CountField(default=0)
    remaining_quantity = CountField(default=0)
    average_price = DollarsField(null=True, blank=True, help_text="Of all fills, on the side's own scale.")
    fees = DollarsField(default=0)

    body = models.TextField(blank=True, help_text="The bytes as sent, fixed before the send.")
    body_hash = models.CharField(max_length=64, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    signed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Set once, just before the first byte; who finds it set does not send.",
    )
    answer_due_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    kill_epoch = models.PositiveBigIntegerField(default=0)
    fence = models.BigIntegerField(default=0)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)
    reduced_quantity = CountField(default=0, help_text="Contracts taken off by decreases.")
    decrease_to = CountField(null=True, blank=True, help_text="What a person wants to be left resting.")
    decrease_requested_by = models.CharField(max_length=150, blank=True)
    decrease_sent_at = models.DateTimeField(null=True, blank=True)
    scans = models.PositiveSmallIntegerField(default=0, help_text="Complete searches that did not find it.")
    last_scan_at = models.DateTimeField(null=True, blank=True)

    objects = OrderQuerySet.as_manager()

    guards: ClassVar[tuple[Guard, ...]] = (
        frozen(
            *("public_id", "proposal_id", "origin", "venue", "client_order_id", "ticker", "action", "side"),
            *("subaccount", "body", "body_hash", "kill_epoch", "fence"),
            says="what an order is never changes",
        ),
        Guard(
            "no_larger",
            "UPDATE",
            "OLD.proposal_id IS NOT NULL AND (NEW.quantity > OLD.quantity OR NEW.limit_price <> OLD.limit_price)",
            "an order never grows beyond what was approved",
        ),
        set_once("venue_order_id"),
        set_once("sent_at"),
        legal_moves("state", ORDER_TRANSITIONS),
        never_deleted(),
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["venue", "client_order_id"], name="one_order_per_client_order_id"
            ),
            models.UniqueConstraint(
                fields=["venue", "venue_order_id"],
                condition=Q(venue_order_id__isnull=False),
                name="one_order_per_venue_order_id",
            ),
            models.CheckConstraint(condition=Q(attempts__lte=1), name="an_order_is_sent_at_most_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="order_quantity_positive"),
            models.CheckConstraint(
                condition=Q(filled_quantity__lte=F("quantity")), name="order_never_overfilled"
            ),
            models.CheckConstraint(
                condition=Q(limit_price__gt=0) & Q(limit_price__lt=1), name="order_price_inside"
            ),
            models.CheckConstraint(
                condition=Q(state__in=[s.value for s in OrderState]), name="order_state_known"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["venue", "state", "ticker"]),
            models.Index(fields=["venue", "created_at"]),
        ]
        permissions = (("cancel_order", "May cancel working orders"),)

    def __str__(self) -> str:
        return f"{self.action} {self.quantity} {self.side} {self.ticker} {self.state}"

    @staticmethod
    def of_client_id(venue: str, client_order_id: str) -> Order | None:
        """The one that was sent, or adopted, under this id; with its proposal."""
        return _of_client_id.first(venue, client_order_id)

    @property
    def terms(self) -> Terms:
        return Terms(self.ticker, Action(self.action), Side(self.side), self.quantity, self.limit_price)

    def may_be(self, venue_order_id: str) -> bool:
        """Whether the exchange can mean this one by its id: once we have heard it, an order's id never changes."""
        return self.venue_order_id in (None, venue_order_id)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def is_cancelable(self) -> bool:
        return self.state in CANCELABLE

    @property
    def standing_quantity(self) -> Decimal:
        """What people have left it at, filled and resting together: a renewal names it, and never more."""
        return self.quantity - self.reduced_quantity

    @property
    def total_quantity(self) -> Decimal:
        """Filled and resting together, by the exchange's last word; what was sent, where it has said nothing."""
        return self.filled_quantity + self.remaining_quantity

    @property
    def notional(self) -> Decimal:
        return self.terms.notional


@prepared
def _of_client_id(venue: str, client_order_id: str) -> models.QuerySet[Order]:
    return Order.objects.filter(venue=venue, client_order_id=client_order_id).select_related("proposal")


class OrderEvent(HistoryRow):
    """One change of an order, with the evidence for it."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"
