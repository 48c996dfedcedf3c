"""One execution of ours, as the exchange reported it."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models

from kalshi_site.guards import Guard, kept
from kalshi_site.models.fields import CountField, DollarsField
from trading.domain.orders import BookSide, Side
from trading.domain.prices import complement
from trading.models.order import Order


class Fill(models.Model):
    """Stored once per (trade id, order id), whether it came by stream or by REST (API.md 12)."""

    public_id = models.CharField(max_length=40, unique=True, editable=False)
    venue = models.CharField(max_length=10)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, null=True, blank=True, related_name="fills")
    trade_id = models.CharField(max_length=64)
    venue_order_id = models.CharField(max_length=64)
    ticker = models.CharField(max_length=120, db_index=True)
    action = models.CharField(max_length=4)
    side = models.CharField(max_length=3, choices=[(s.value, s.value) for s in Side])
    book_side = models.CharField(max_length=3, choices=[(s.value, s.value) for s in BookSide])
    quantity = CountField()
    yes_price = DollarsField()
    fee = DollarsField(help_text="As reported by the exchange.")
    is_taker = models.BooleanField()
    at = models.DateTimeField(db_index=True)

    guards: ClassVar[tuple[Guard, ...]] = (
        *kept(),
        Guard(
            "within_the_order",
            "INSERT",
            "EXISTS (SELECT 1 FROM trading_order o WHERE o.id = NEW.order_id AND o.proposal_id IS NOT NULL"
            " AND o.quantity < NEW.quantity"
            " + (SELECT COALESCE(SUM(f.quantity), 0) FROM trading_fill f WHERE f.order_id = NEW.order_id))",
            "the fills of an order never add up to more than the order",
        ),
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "trade_id", "venue_order_id"], name="one_row_per_fill")
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.ticker} at {self.yes_price}"

    @property
    def price(self) -> Decimal:
        """On the side's own scale."""
        return self.yes_price if self.side == Side.YES else complement(self.yes_price)
