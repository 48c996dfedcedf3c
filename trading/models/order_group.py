"""The exchange's own net under us: a group of orders that it ends by itself when they fill too fast."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from kalshi_site.models.fields import CountField
from kalshi_site.prepared import prepared


class OrderGroupQuerySet(models.QuerySet["OrderGroup"]):
    def standing(self, venue: str) -> OrderGroupQuerySet:
        """Those that orders go into."""
        return self.filter(venue=venue, closed_at=None).order_by("exchange_index")

    def tripped(self, venue: str) -> OrderGroupQuerySet:
        """Those of them that take no order until a person lets them."""
        return self.standing(venue).exclude(tripped_at=None)


class OrderGroup(models.Model):
    """One group at the exchange; at most one per venue and shard takes our orders.

    `tripped_at`: since then it has ended all its orders and takes none. `reset_asked_at`: a person wants it to take
    orders again, and execution has not been told by the exchange that it does. `closed_at`: the exchange
    has it no more.
    """

    venue = models.CharField(max_length=10)
    exchange_index = models.IntegerField(default=0)
    venue_group_id = models.CharField(max_length=64)
    contracts_limit = CountField(help_text="Contracts that may match within 15 seconds.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    tripped_at = models.DateTimeField(null=True, blank=True)
    tripped_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    reset_asked_at = models.DateTimeField(null=True, blank=True)
    reset_asked_by = models.CharField(max_length=150, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = OrderGroupQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "venue_group_id"], name="one_row_per_order_group"),
            models.UniqueConstraint(
                fields=["venue", "exchange_index"],
                condition=Q(closed_at=None),
                name="one_standing_order_group_per_shard",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.venue} shard {self.exchange_index} {'tripped' if self.tripped_at else 'open'}"

    @staticmethod
    def of_shard(venue: str, exchange_index: int) -> OrderGroup | None:
        """The one that a shard's orders go into."""
        return _of_shard.first(venue, exchange_index)


@prepared
def _of_shard(venue: str, exchange_index: int) -> models.QuerySet[OrderGroup]:
    return OrderGroup.objects.standing(venue).filter(exchange_index=exchange_index)[:1]
