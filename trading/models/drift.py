"""What the exchange said that was not agreed, and how much of what it said was compared."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from kalshi_site.versioning import VersionedModel


class DriftNoteQuerySet(models.QuerySet["DriftNote"]):
    def standing(self, venue: str) -> DriftNoteQuerySet:
        """Those that nobody has acknowledged, money first, then the newest."""
        return self.filter(venue=venue, acknowledged_at=None).order_by("-is_money", "-last_at", "-pk")

    def alarming(self, venue: str) -> DriftNoteQuerySet:
        """Those of them that money depends on: while one stands, trading is not resumed."""
        return self.standing(venue).filter(is_money=True)


class DriftNote(VersionedModel):
    """One way in which the exchange departs from what was agreed, seen once or often, by any of our processes.

    `sample` is redacted by the sentinel. An acknowledgement is of this departure alone: another word, another type in
    the same field is another row.
    """

    venue = models.CharField(max_length=10)
    kind = models.CharField(max_length=24)
    place = models.CharField(
        max_length=120, help_text="An operation of the REST interface or a type of frame."
    )
    field = models.CharField(max_length=200, blank=True)
    found = models.CharField(max_length=80, blank=True, help_text="What came: a type, a word, a code.")
    sample = models.CharField(max_length=80, blank=True)
    is_money = models.BooleanField()
    count = models.PositiveBigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    first_process = models.CharField(max_length=20)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_reason = models.CharField(max_length=300, blank=True)

    objects = DriftNoteQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["venue", "place", "kind", "field", "found"], name="one_note_per_drift"
            )
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["venue", "acknowledged_at", "is_money"])
        ]
        permissions = (("acknowledge_drift", "May acknowledge what changed at the exchange"),)

    def __str__(self) -> str:
        parts = (self.kind.replace("_", " "), self.field, f"({self.found})" if self.found else "")
        return f"{self.place}: {' '.join(part for part in parts if part)}"


class Listener(models.Model):
    """One of our processes that talks to the exchange, and how much of what it heard was compared."""

    venue = models.CharField(max_length=10)
    process = models.CharField(max_length=20)
    answers = models.PositiveBigIntegerField(default=0)
    frames = models.PositiveBigIntegerField(default=0)
    beyond = models.PositiveBigIntegerField(
        default=0, help_text="Drifts seen that found no place to be kept."
    )
    last_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "process"], name="one_listener_per_process")
        ]

    def __str__(self) -> str:
        return f"{self.process} at {self.venue}"
