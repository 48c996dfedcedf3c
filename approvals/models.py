"""Ideas awaiting a decision, what became of them, and who said so."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Final

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from approvals.domain.lifecycle import DECIDABLE, PROPOSAL_TRANSITIONS, ProposalState, terms_hash
from approvals.domain.policy import Origin
from kalshi_site.guards import Guard, frozen, kept, legal_moves, never_deleted
from kalshi_site.models.fields import CountField, DollarsField
from kalshi_site.versioning import HistoryRow, VersionedModel
from portfolio.domain.limits import RiskLevel
from portfolio.domain.scopes import covering
from trading.domain.orders import Action, Side, Terms

READERS_ALONE: Final = ("rules_text", "quote", "forecast", "risk_report", "seen_versions")
BY_POLICY: Final = "policy"  # decided_by of what was approved without a person, at the autonomy level auto


class ProposalQuerySet(models.QuerySet["Proposal"]):
    def decidable(self) -> ProposalQuerySet:
        """Waiting for a person, nearest deadline first."""
        return self.filter(state__in=DECIDABLE).order_by("deadline_at", "id")

    def due(self, now: datetime) -> ProposalQuerySet:
        """Past their deadline without a decision."""
        return self.filter(state__in=DECIDABLE, deadline_at__lte=now)

    def terms_alone(self) -> ProposalQuerySet:
        """Without what only readers look at: the outbox is read often, and these are most of a row."""
        return self.defer(*READERS_ALONE)

    def unclaimed(self) -> ProposalQuerySet:
        """Approved and not yet taken by execution: the outbox."""
        return self.filter(state=ProposalState.APPROVED).order_by("decided_at", "id")

    def unattended_notional(self, venue: str, since: datetime) -> Decimal:
        """Dollars, price × quantity, that were approved without a person since then."""
        rows = self.filter(venue=venue, decided_by=BY_POLICY, decided_at__gte=since)
        terms = rows.values_list("quantity", "limit_price")
        return sum((quantity * price for quantity, price in terms), Decimal(0))


class Proposal(VersionedModel):
    """One exact order that somebody would like to send. Its terms never change; an edit is a new row.

    It freezes what the proposer saw (quotes, rules text, forecast, risk report), so that the approver sees the same.
    """

    public_id = models.CharField(max_length=40, unique=True, editable=False)
    venue = models.CharField(max_length=10)
    state = models.CharField(
        max_length=14,
        choices=[(s.value, s.value) for s in ProposalState],
        default=ProposalState.PENDING.value,
    )
    origin = models.CharField(max_length=8, choices=[(o.value, o.value) for o in Origin])

    ticker = models.CharField(max_length=120)
    event_ticker = models.CharField(max_length=120)
    series_ticker = models.CharField(max_length=120)
    title = models.CharField(max_length=300)
    rules_text = models.TextField(blank=True)
    close_at = models.DateTimeField()
    action = models.CharField(max_length=4, choices=[(a.value, a.value) for a in Action])
    side = models.CharField(max_length=3, choices=[(s.value, s.value) for s in Side])
    quantity = CountField()
    limit_price = DollarsField(help_text="Worst price, on the side's own scale.")
    reduce_only = models.BooleanField(default=False)
    terms_hash = models.CharField(max_length=64)

    proposer = models.CharField(max_length=150, help_text="A strategy's or a person's name.")
    strategy = models.CharField(max_length=60, blank=True)
    # The loop, its slot and a ticker.
    idea_key = models.CharField(max_length=160, null=True, blank=True, unique=True, editable=False)
    quote = models.JSONField(default=dict, help_text="Bid and ask on the YES scale when proposed.")
    forecast = models.JSONField(default=dict)
    risk_report = models.JSONField(default=dict)
    seen_versions = models.JSONField(default=dict)
    risk_level = models.CharField(max_length=8, choices=[(r.value, r.value) for r in RiskLevel])

    deadline_at = models.DateTimeField()
    required_approvals = models.PositiveSmallIntegerField(default=1)
    approvals_count = models.PositiveSmallIntegerField(default=0)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=150, blank=True)
    decision_reason = models.TextField(blank=True)
    # A stop with a higher one came after it: an order of two events that no clock can turn round.
    kill_epoch = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="The trading state's, when it was approved."
    )
    clone_of = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="clones",
        help_text="What this one repeats: nothing of that was ever at the exchange.",
    )

    objects = ProposalQuerySet.as_manager()

    guards: ClassVar[tuple[Guard, ...]] = (
        frozen(
            *("public_id", "venue", "ticker", "event_ticker", "series_ticker", "action", "side", "quantity"),
            *("limit_price", "reduce_only", "terms_hash", "proposer", "origin", "strategy", "clone_of_id"),
            says="the terms of a proposal never change: an edit is a new row",
        ),
        legal_moves("state", PROPOSAL_TRANSITIONS),
        never_deleted(),
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="proposal_quantity_positive"),
            models.CheckConstraint(
                condition=Q(limit_price__gt=0) & Q(limit_price__lt=1), name="proposal_price_inside"
            ),
            models.CheckConstraint(
                condition=Q(state__in=[s.value for s in ProposalState]), name="proposal_state_known"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["state", "deadline_at"])]
        permissions = (("decide_proposal", "May approve and decline proposals"),)

    def __str__(self) -> str:
        return f"{self.action} {self.quantity} {self.side} {self.ticker}"

    @property
    def terms(self) -> Terms:
        return Terms(self.ticker, Action(self.action), Side(self.side), self.quantity, self.limit_price)

    @property
    def is_genuine(self) -> bool:
        """Whether the terms are still those that the hash was made of; False: somebody changed them past the desk."""
        return self.terms_hash == terms_hash(self.terms, reduce_only=self.reduce_only, venue=self.venue)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope of the trading state that covers this proposal."""
        return covering(strategy=self.strategy, series=self.series_ticker, market=self.ticker)

    @property
    def is_decidable(self) -> bool:
        return self.state in DECIDABLE

    @property
    def is_unattended(self) -> bool:
        """Approved by the autonomy level, without a person."""
        return self.decided_by == BY_POLICY

    @property
    def is_manual_exit(self) -> bool:
        return self.reduce_only and self.origin == Origin.CLOSE


class ProposalEvent(HistoryRow):
    """One move of a proposal."""

    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="events")

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class Decision(models.Model):
    """One person's word on one version of one proposal. The database refuses a second word and one's own proposal."""

    class Verdict(models.TextChoices):
        APPROVE = "approve"
        DECLINE = "decline"

    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="decisions")
    version = models.PositiveBigIntegerField(help_text="The version that the person saw.")
    terms_hash = models.CharField(max_length=64)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    actor_name = models.CharField(max_length=150)
    proposer = models.CharField(max_length=150)
    verdict = models.CharField(max_length=8, choices=Verdict)
    method = models.CharField(max_length=10, help_text="page, admin, rest or cli")
    reason = models.TextField(blank=True)
    risk_report = models.JSONField(default=dict)
    at = models.DateTimeField()

    guards: ClassVar[tuple[Guard, ...]] = (
        *kept(),
        Guard(
            "of_the_proposal",
            "INSERT",
            "NOT EXISTS (SELECT 1 FROM approvals_proposal p WHERE p.id = NEW.proposal_id"
            " AND p.proposer = NEW.proposer AND p.terms_hash = NEW.terms_hash)",
            "a decision names its proposal's own proposer and terms",
        ),
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["proposal", "actor"], name="one_decision_per_person"),
            models.CheckConstraint(
                condition=~Q(actor_name=F("proposer")), name="nobody_decides_their_own_proposal"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor_name} {self.verdict} {self.proposal_id}"
