"""An instruction to the exchange and everything that happened to it."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from approvals.models import Proposal
from kalshi_site.models.fields import CountField, DollarsField
from kalshi_site.versioning import HistoryRow, VersionedModel
from trading.domain.orders import CANCELABLE, OPEN, Action, OrderState, Side, Terms, TimeInForce


class OrderQuerySet(models.QuerySet["Order"]):
    def open(self) -> OrderQuerySet:
        """Not known to be over: counts as exposure."""
        return self.filter(state__in=OPEN)

    def cancelable(self) -> OrderQuerySet:
        return self.filter(state__in=CANCELABLE)

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
    action = models.CharField(max_length=4, choices=[(a.value, a.value) for a in Action])
    side = models.CharField(max_length=3, choices=[(s.value, s.value) for s in Side])
    quantity = CountField()
    limit_price = DollarsField(help_text="On the side's own scale.")
    time_in_force = models.CharField(max_length=24, choices=[(t.value, t.value) for t in TimeInForce])
    reduce_only = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)

    filled_quantity = CountField(default=0)
    remaining_quantity = CountField(default=0)
    average_price = DollarsField(null=True, blank=True, help_text="Of all fills, on the side's own scale.")
    fees = DollarsField(default=0)

    body = models.TextField(blank=True, help_text="The bytes as sent, fixed before the send.")
    body_hash = models.CharField(max_length=64, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    signed_at = models.DateTimeField(null=True, blank=True)
    answer_due_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    kill_epoch = models.PositiveBigIntegerField(default=0)
    fence = models.BigIntegerField(default=0)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)
    scans = models.PositiveSmallIntegerField(default=0, help_text="Complete searches that did not find it.")
    last_scan_at = models.DateTimeField(null=True, blank=True)

    objects = OrderQuerySet.as_manager()

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
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["state", "created_at"])]
        permissions = (("cancel_order", "May cancel working orders"),)

    def __str__(self) -> str:
        return f"{self.action} {self.quantity} {self.side} {self.ticker} {self.state}"

    @property
    def terms(self) -> Terms:
        return Terms(self.ticker, Action(self.action), Side(self.side), self.quantity, self.limit_price)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def is_cancelable(self) -> bool:
        return self.state in CANCELABLE

    @property
    def notional(self) -> Decimal:
        return self.terms.notional


class OrderEvent(HistoryRow):
    """One change of an order, with the evidence for it."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"
