"""The books: positions, cash, what undone orders hold, limits, the trading state, equity over time."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from kalshi_site.guards import Guard, frozen, never_deleted
from kalshi_site.models.fields import CountField, DollarsField
from kalshi_site.versioning import HistoryRow, VersionedModel
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.domain.positions import Holding


class PositionQuerySet(models.QuerySet["Position"]):
    def held(self, venue: str) -> PositionQuerySet:
        """Markets in which contracts are held."""
        return self.filter(venue=venue).exclude(quantity=0)


class Position(VersionedModel):
    """One market's holding at one venue: + YES, - NO. Kept by portfolio.ledger alone."""

    venue = models.CharField(max_length=10)
    ticker = models.CharField(max_length=120)
    event_ticker = models.CharField(max_length=120)
    title = models.CharField(max_length=300, blank=True)
    quantity = CountField(default=0)
    cost = DollarsField(default=0)
    realized = DollarsField(default=0)
    fees = DollarsField(default=0)
    settled_at = models.DateTimeField(null=True, blank=True)
    settlement_value = DollarsField(null=True, blank=True, help_text="Dollars per YES contract.")

    objects = PositionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "ticker"], name="one_position_per_market"),
            models.CheckConstraint(condition=Q(cost__gte=0), name="position_cost_not_negative"),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["venue", "event_ticker"])]
        permissions = (("close_position", "May close and reduce positions"),)

    def __str__(self) -> str:
        return f"{self.ticker} {self.quantity}"

    @property
    def holding(self) -> Holding:
        return Holding(self.quantity, self.cost, self.realized, self.fees)


class PositionEvent(HistoryRow):
    """One change of a position: a fill, a settlement, an adjustment."""

    position = models.ForeignKey(Position, on_delete=models.PROTECT, related_name="events")
    quantity = CountField()
    cash = DollarsField(help_text="Change of cash, fee included.")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.position} {self.to_state}"


class CashEntry(models.Model):
    """One change of cash. Cash is the sum of these rows; a reference can be booked once."""

    class Kind(models.TextChoices):
        OPENING = "opening"
        FILL = "fill"
        SETTLEMENT = "settlement"
        ADJUSTMENT = "adjustment"

    venue = models.CharField(max_length=10)
    kind = models.CharField(max_length=12, choices=Kind)
    amount = DollarsField()
    fee = DollarsField(default=0, help_text="The part of the amount that was a fee.")
    realized = DollarsField(default=0, help_text="Realized profit or loss of this entry, before its fee.")
    ticker = models.CharField(max_length=120, blank=True)
    reference = models.CharField(max_length=160)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    guards: ClassVar[tuple[Guard, ...]] = (
        frozen(
            *("venue", "kind", "amount", "fee", "realized", "ticker", "reference"),
            says="money that was booked is never changed: a correction is another entry",
        ),
        never_deleted(),
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "kind", "reference"], name="one_entry_per_reference")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["venue", "amount"])  # the sum is asked for before every order
        ]
        verbose_name_plural = "cash entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def standing(self, venue: str) -> ReservationQuerySet:
        return self.filter(venue=venue, released_at=None)


class Reservation(models.Model):
    """What an approved or working order may still cost. Made by the decision, released when the order is closed."""

    venue = models.CharField(max_length=10)
    key = models.CharField(max_length=40, unique=True, help_text="The proposal's public id.")
    ticker = models.CharField(max_length=120)
    event_ticker = models.CharField(max_length=120)
    signed_quantity = CountField(help_text="Contracts not filled yet: + towards YES, - towards NO.")
    unit_cost = DollarsField(help_text="Dollars per contract that could be lost.")
    unit_fee = DollarsField()
    created_at = models.DateTimeField(default=timezone.now)
    released_at = models.DateTimeField(null=True, blank=True)

    objects = ReservationQuerySet.as_manager()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["venue", "released_at"])]

    def __str__(self) -> str:
        return f"{self.key} {self.signed_quantity}"


class RiskLimit(VersionedModel):
    """One limit of the gateway. Unknown names are refused; a missing row means the built-in default."""

    name = models.CharField(max_length=40, unique=True)
    value = DollarsField(help_text="In the limit's own unit.")
    note = models.CharField(max_length=200, blank=True)
    history = HistoricalRecords()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(value__gte=0), name="limit_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.value.normalize():f}"


class TradingState(VersionedModel):
    """ACTIVE, REDUCING or HALTED for one scope of one venue; the empty scope is everything (`portfolio.domain.scopes`).

    `kill_epoch`, on the row of everything, grows with every halt of any scope; `halted_epoch` is what it grew to at
    this scope's last one, at `halted_at`, and voids approvals of an older epoch. `cleared_at`: then the exchange's own
    list showed no order of it.
    """

    class Mode(models.TextChoices):
        ACTIVE = "ACTIVE"
        REDUCING = "REDUCING"
        HALTED = "HALTED"

    venue = models.CharField(max_length=10)
    scope = models.CharField(max_length=130, blank=True, default="")
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.ACTIVE)
    kill_epoch = models.PositiveBigIntegerField(default=0)
    halted_epoch = models.PositiveBigIntegerField(default=0)
    halted_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(default=timezone.now)
    cleared_at = models.DateTimeField(null=True, blank=True)
    quiet_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Of everything: until then no order goes out, for all were canceled at once.",
    )
    expected_build = models.CharField(
        max_length=12,
        blank=True,
        help_text="Of everything: the build that may claim; empty until the first one runs.",
    )
    resume_asked_by = models.CharField(max_length=150, blank=True)
    resume_asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "scope"], name="one_trading_state_per_scope")
        ]
        permissions = (
            ("stop_trading", "May pause and stop trading"),
            ("resume_trading", "May resume trading"),
        )

    def __str__(self) -> str:
        return f"{self.venue} {self.scope} {self.mode}"

    @property
    def is_stopping(self) -> bool:
        """Stopped, and not proven to be at rest yet."""
        return self.mode == self.Mode.HALTED and self.cleared_at is None


class TradingStateEvent(HistoryRow):
    """One change of a trading state."""

    trading_state = models.ForeignKey(TradingState, on_delete=models.PROTECT, related_name="events")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class Autonomy(VersionedModel):
    """How much the analyst may do by itself at one venue. A missing row means: propose.

    `attended_at` is the last sign of a person before the queue of approvals, who would see what goes out.
    """

    venue = models.CharField(max_length=10, unique=True)
    level = models.CharField(
        max_length=8,
        choices=[(level.value, level.value) for level in AutonomyLevel],
        default=AutonomyLevel.PROPOSE.value,
    )
    reason = models.CharField(max_length=300, blank=True)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(default=timezone.now)
    attended_by = models.CharField(max_length=150, blank=True)
    attended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(level__in=[level.value for level in AutonomyLevel]), name="autonomy_level_known"
            )
        ]
        verbose_name_plural = "autonomy"

    def __str__(self) -> str:
        return f"{self.venue} {self.level}"


class AutonomyEvent(HistoryRow):
    """One change of the autonomy level."""

    autonomy = models.ForeignKey(Autonomy, on_delete=models.PROTECT, related_name="events")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class Wish(models.Model):
    """What one person has asked for on a live desk and another one must ask for too (`risk.second_person`)."""

    venue = models.CharField(max_length=10)
    subject = models.CharField(max_length=60, help_text="autonomy, or limit:NAME.")
    wanted = models.CharField(max_length=40, blank=True)
    asked_by = models.CharField(max_length=150, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "subject"], name="one_wish_per_subject")
        ]
        verbose_name_plural = "wishes"

    def __str__(self) -> str:
        return f"{self.subject} {self.wanted}"


class EquityPoint(models.Model):
    """Equity at one moment, as the update cycle computed it from real marks."""

    venue = models.CharField(max_length=10)
    at = models.DateTimeField()
    equity = DollarsField()
    cash = DollarsField()
    realized = DollarsField()
    unrealized = DollarsField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["venue", "at"], name="one_equity_point_per_moment")
        ]

    def __str__(self) -> str:
        return f"{self.at:%H:%M} {self.equity}"
