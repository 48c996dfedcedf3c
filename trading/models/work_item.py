"""What a comparison with the exchange found and could not set right by itself: work for a person."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from kalshi_site.models.fields import DollarsField
from kalshi_site.versioning import HistoryRow, VersionedModel


class WorkKind(models.TextChoices):
    """What differs. What each means and asks for stands in `trading.execution.work_kinds`."""

    ORPHAN_ORDER = "orphan_order"
    ABSENT_APPEARED = "absent_appeared"
    ENDED_ORDER_RESTS = "ended_order_rests"
    CHANGED_ELSEWHERE = "changed_elsewhere"
    UNKNOWN_ORDER = "unknown_order"
    MISSING_FILL = "missing_fill"
    POSITION_DRIFT = "position_drift"
    CASH_DRIFT = "cash_drift"
    SETTLEMENT_WITHOUT_VALUE = "settlement_without_value"
    ODD_RECORD = "odd_record"


class WorkState(models.TextChoices):
    """`noticed` is one look's difference, which may be lag: nobody is told until a second look has confirmed it."""

    NOTICED = "noticed"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


SHOWN = (WorkState.OPEN, WorkState.ACKNOWLEDGED)  # what a person may be asked to look at


class WorkItemQuerySet(models.QuerySet["WorkItem"]):
    def standing(self, venue: str) -> WorkItemQuerySet:
        """Not resolved, noticed ones included."""
        return self.filter(venue=venue).exclude(state=WorkState.RESOLVED)

    def shown(self, venue: str) -> WorkItemQuerySet:
        """For people: the open ones before the acknowledged, of each the worst and then the newest first."""
        return self.filter(venue=venue, state__in=SHOWN).order_by("-state", "severity", "-first_at", "-pk")

    def unanswered(self, venue: str) -> WorkItemQuerySet:
        """Those that nobody has acknowledged."""
        return self.filter(venue=venue, state=WorkState.OPEN)


class WorkItem(VersionedModel):
    """One difference. `theirs` and `ours` are the numbers of both sides as text, empty where there is none.

    At most one stands for a kind and subject. A look that sees the same again raises `looks` and `last_at` and leaves
    the version: what a person saw is still what stands.
    """

    class Severity(models.TextChoices):
        CRITICAL = "critical"
        WARNING = "warning"

    public_id = models.CharField(max_length=40, unique=True, editable=False)
    venue = models.CharField(max_length=10)
    kind = models.CharField(max_length=32, choices=WorkKind)
    subject = models.CharField(max_length=160, help_text="The order, ticker or record that it is about.")
    severity = models.CharField(max_length=10, choices=Severity)
    state = models.CharField(max_length=14, choices=WorkState, default=WorkState.NOTICED)
    ticker = models.CharField(max_length=120, blank=True)
    order = models.CharField(max_length=40, blank=True, help_text="The public id of the order it is about.")
    theirs = models.CharField(max_length=160, blank=True)
    ours = models.CharField(max_length=160, blank=True)
    their_cost = DollarsField(null=True, blank=True, help_text="Of the exchange's position, in dollars.")
    detail = models.CharField(max_length=300, blank=True)
    looks = models.PositiveIntegerField(default=1, help_text="Comparisons in a row that saw it.")
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    has_paused = models.BooleanField(default=False, help_text="Trading was paused for it.")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_reason = models.CharField(max_length=300, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True)
    resolved_reason = models.CharField(max_length=300, blank=True)

    objects = WorkItemQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["venue", "kind", "subject"],
                condition=~Q(state="resolved"),
                name="one_standing_item_per_subject",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in WorkState]), name="work_item_state_known"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["venue", "state"])]
        permissions = (
            ("handle_workitem", "May acknowledge and resolve differences with the exchange"),
            ("accept_workitem", "May book the exchange's number"),
        )

    def __str__(self) -> str:
        sides = (
            f": exchange {self.theirs or '–'}, ours {self.ours or '–'}" if self.theirs or self.ours else ""
        )
        return f"{self.get_kind_display()} {self.subject}{sides}"


class WorkItemEvent(HistoryRow):
    """One change of an item, from the moment when people were told of it."""

    item = models.ForeignKey(WorkItem, on_delete=models.PROTECT, related_name="events")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"
