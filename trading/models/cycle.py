"""One round of a loop."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models

UPDATE = "update"  # the loop that compares with the exchange
COMPLETE = ("clean", "drift")  # its outcomes after which nothing that was told is left to book


class Cycle(models.Model):
    """One round of a loop in one time slot. The unique slot makes a second beat or a redelivered task do nothing."""

    loop = models.CharField(max_length=20)
    slot = models.BigIntegerField(help_text="Unix seconds // interval.")
    fence = models.BigIntegerField(default=0)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=300, blank=True)
    detail = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["loop", "slot"], name="one_cycle_per_slot")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["loop", "-started_at"])]

    def __str__(self) -> str:
        return f"{self.loop} {self.started_at:%H:%M:%S} {self.outcome}"


def slot_of(now: datetime, interval: timedelta) -> int:
    """The number of the time slot that `now` lies in."""
    return int(now.timestamp() // interval.total_seconds())
