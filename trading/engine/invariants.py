"""What must hold at every moment (RELIABILITY.md 3.1): one query each, whose rows are the breaches.

A gauge per invariant must be zero; `manage.py check_invariants` and the update loop ask the same table. The oracle of
every reliability test. An invariant that cannot be asked counts as broken: no answer is no proof.
"""

from __future__ import annotations

import logging
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce, Concat
from django.utils import timezone

from approvals.domain.lifecycle import FINAL, ProposalState
from approvals.domain.policy import Origin
from approvals.models import BY_POLICY, Decision, Proposal, ProposalEvent
from kalshi_site.models import AuditEntry
from kalshi_site.models.fields import CountField
from portfolio.domain.scopes import covering
from portfolio.models import Position, PositionEvent, Reservation, TradingState, TradingStateEvent
from trading.domain.orders import OPEN, BookSide, OrderState
from trading.models import Fill, Order

log = logging.getLogger(__name__)

CLAIM_WITHIN: Final = timedelta(seconds=30)
BOOK_WITHIN: Final = timedelta(
    seconds=60
)  # a fill that the create answer counted is told by stream or REST until then
SHOWN: Final = 5
HALT: Final = "trading.halt"
# How the audit trail calls a change of the trading state to a mode.
_SAID: Final = {"ACTIVE": "trading.resume", "REDUCING": "trading.pause", "HALTED": HALT}

Breaches = Callable[[str, datetime], "QuerySet[Any] | list[str]"]


@dataclass(frozen=True, slots=True)
class Invariant:
    """`promise` in one sentence; `breaches(venue, now)` are the rows that break it, by the field `shows`."""

    name: str
    promise: str
    breaches: Breaches
    shows: str = "public_id"


@dataclass(frozen=True, slots=True)
class Breach:
    """How often an invariant is broken, and some of the rows. `count` is at least 1."""

    name: str
    promise: str
    count: int
    examples: tuple[str, ...]


def _orders(venue: str) -> QuerySet[Order]:
    return Order.objects.filter(venue=venue)


def _two_orders(venue: str, now: datetime) -> QuerySet[Any]:
    counted = _orders(venue).exclude(proposal=None).values("proposal__public_id").annotate(orders=Count("id"))
    return counted.filter(orders__gt=1)


def _two_owners(venue: str, now: datetime) -> QuerySet[Any]:
    counted = _orders(venue).exclude(venue_order_id=None).values("venue_order_id").annotate(rows=Count("id"))
    return counted.filter(rows__gt=1)


def _unclaimed(venue: str, now: datetime) -> QuerySet[Proposal]:
    if not TradingState.objects.filter(venue=venue, scope="", mode=TradingState.Mode.ACTIVE).exists():
        return Proposal.objects.none()
    return Proposal.objects.unclaimed().filter(venue=venue, decided_at__lt=now - CLAIM_WITHIN)


def _unapproved(venue: str, now: datetime) -> QuerySet[Order]:
    """Sent without the yes of a person or of a policy: an own exit is the person's own deed."""
    approved = Decision.objects.filter(proposal=OuterRef("proposal"), verdict=Decision.Verdict.APPROVE)
    ours = _orders(venue).filter(origin="proposal")
    unclaimed = ours.exclude(proposal__state=ProposalState.CLAIMED)
    unsaid = ours.exclude(proposal__origin=Origin.CLOSE).exclude(proposal__decided_by=BY_POLICY)
    return unclaimed | unsaid.filter(~Exists(approved))


def _sent_twice(venue: str, now: datetime) -> QuerySet[Order]:
    return _orders(venue).filter(attempts__gt=1)


def _overfilled(venue: str, now: datetime) -> QuerySet[Order]:
    """Beyond the proposal, not the order: that the database forbids, and the order itself may be too large."""
    return _orders(venue).filter(filled_quantity__gt=F("proposal__quantity"))


def _with_booked(venue: str) -> QuerySet[Any]:
    nothing = Value(Decimal(0), CountField())
    return _orders(venue).annotate(
        booked=Coalesce(Sum("fills__quantity"), nothing, output_field=CountField())
    )


def _overbooked(venue: str, now: datetime) -> QuerySet[Any]:
    return _with_booked(venue).filter(booked__gt=F("filled_quantity"))


def _underbooked(venue: str, now: datetime) -> QuerySet[Any]:
    """Of an order that was found on the exchange, earlier fills may be booked as nobody's."""
    late = _with_booked(venue).filter(origin="proposal", updated_at__lt=now - BOOK_WITHIN)
    return late.filter(booked__lt=F("filled_quantity"))


def _unreserved(venue: str, now: datetime) -> QuerySet[Proposal]:
    """Approved and waiting, or sent and not over: its worst case must be held."""
    held = Reservation.objects.standing(venue).filter(key=OuterRef("public_id"))
    under_way = Q(state=ProposalState.APPROVED) | Q(order__state__in=OPEN)
    return Proposal.objects.filter(under_way, ~Exists(held), venue=venue)


def _left_over(venue: str, now: datetime) -> QuerySet[Reservation]:
    """Held for a proposal that will never be sent, or for an order that is over and wholly booked."""
    over = _with_booked(venue).exclude(state__in=OPEN).filter(booked__gte=F("filled_quantity"))
    dead = Proposal.objects.filter(venue=venue, state__in=FINAL - {ProposalState.CLAIMED})
    keys = Q(key__in=over.values("proposal__public_id")) | Q(key__in=dead.values("public_id"))
    return Reservation.objects.standing(venue).filter(keys)


def _unexplained(venue: str, now: datetime) -> QuerySet[Order]:
    return _orders(venue).exclude(state__in=OPEN).filter(evidence="")


def _overdue(venue: str, now: datetime) -> QuerySet[Order]:
    late = now - BOOK_WITHIN
    return _orders(venue).filter(state=OrderState.SENDING, answer_due_at__lt=late)


def _orphaned_fills(venue: str, now: datetime) -> QuerySet[Fill]:
    """An execution of an order of ours that is booked as nobody's."""
    ours = _orders(venue).filter(origin="proposal", venue_order_id=OuterRef("venue_order_id"))
    return Fill.objects.filter(Exists(ours), venue=venue, order=None)


def _wrong_positions(venue: str, now: datetime) -> list[str]:
    """Held contracts that fills since the last settlement, the opening and what people took over do not add up to."""
    told = Fill.objects.filter(venue=venue)
    bought = Sum("quantity", filter=Q(book_side=BookSide.BID), default=Decimal(0))
    sold = Sum("quantity", filter=Q(book_side=BookSide.ASK), default=Decimal(0))
    sums = {
        ticker: b - s for ticker, b, s in told.order_by().values_list("ticker").annotate(b=bought, s=sold)
    }
    opened = PositionEvent.objects.filter(position__venue=venue, to_state="opened")
    openings = dict(opened.values_list("position__ticker", "quantity"))
    for ticker, detail in PositionEvent.objects.filter(
        position__venue=venue, to_state="adjusted"
    ).values_list("position__ticker", "detail"):
        openings[ticker] = openings.get(ticker, Decimal(0)) + Decimal(detail["step"])
    open_rows = Position.objects.filter(venue=venue, settled_at=None).values_list("ticker", "quantity")
    return [
        ticker
        for ticker, quantity in open_rows
        if quantity != sums.get(ticker, Decimal(0)) + openings.get(ticker, Decimal(0))
    ]


def _costly_nothing(venue: str, now: datetime) -> QuerySet[Position]:
    return Position.objects.filter(venue=venue, quantity=0).exclude(cost=0)


def _history_gaps(venue: str, now: datetime) -> QuerySet[Order]:
    """Every version of an order has its row of history, the last one included."""
    counted = _orders(venue).annotate(rows=Count("events"), newest=Max("events__version"))
    return counted.exclude(rows=F("version"), newest=F("version"))


def _unaudited_moves(venue: str, now: datetime) -> QuerySet[ProposalEvent]:
    """A proposal comes into each state once, so the verb alone tells which row of the audit trail is a move's."""
    told = AuditEntry.objects.filter(
        object_type="proposal",
        object_id=OuterRef("proposal__public_id"),
        verb=Concat(Value("proposal."), OuterRef("to_state")),
    )
    return ProposalEvent.objects.filter(~Exists(told), proposal__venue=venue)


def _unaudited_states(venue: str, now: datetime) -> list[str]:
    """Counted, for the same may be said again. The trail may hold more: a stop that is pressed again is no change."""
    changes = TradingStateEvent.objects.filter(trading_state__venue=venue).exclude(from_state=F("to_state"))
    facts = changes.values_list("trading_state__scope", "to_state", "actor", "reason")
    made = Counter((scope, _SAID[mode], actor, reason) for scope, mode, actor, reason in facts)
    # Read last: a change and its row of the trail are one transaction, so what was changed meanwhile is in both.
    said = Counter((each.scope, each.verb, each.actor, each.reason) for each in _said_of_states(venue))
    return [f"{verb} {scope}".strip() for scope, verb, _, _ in (made - said).elements()]


class _Said(NamedTuple):
    """One change of the trading state, as the audit trail tells it."""

    number: int
    scope: str
    verb: str
    actor: str
    reason: str


def _said_of_states(venue: str) -> list[_Said]:
    """Oldest first."""
    rows = AuditEntry.objects.filter(object_type="trading_state", verb__in=_SAID.values()).order_by("pk")
    said = []
    for number, key, verb, actor, reason in rows.values_list("pk", "object_id", "verb", "actor", "reason"):
        of, _, scope = key.partition(" ")
        if of == venue:
            said.append(_Said(number, scope, verb, actor, reason))
    return said


def _own_decisions(venue: str, now: datetime) -> QuerySet[Decision]:
    return Decision.objects.filter(proposal__venue=venue, actor_name=F("proposer"))


@dataclass(frozen=True, slots=True)
class _Era:
    """From one change of the trading state to the next. `begins` is the number of the change's audit row."""

    begins: int = 0
    stops: int = 0  # so far: what the kill epoch has grown to
    halted: frozenset[str] = frozenset()  # scopes


def _eras(venue: str) -> list[_Era]:
    eras = [_Era()]
    for said in _said_of_states(venue):
        before = eras[-1]
        if said.verb == HALT:
            stops = before.stops + (said.scope not in before.halted)  # pressed again it is the same stop
            eras.append(_Era(said.number, stops, before.halted | {said.scope}))
        else:
            eras.append(_Era(said.number, before.stops, before.halted - {said.scope}))
    return eras


def _claims_after_stop(venue: str, now: datetime) -> list[str]:
    """Claimed while a stop covered it, which only a person's own exit passes, or with the epoch of before a stop.

    Claims and stops hold the same row while they write, so the numbers of their audit rows say which was first. Times
    do not: the clocks of two hosts differ.
    """
    claim = AuditEntry.objects.filter(
        object_type="proposal", object_id=OuterRef("proposal__public_id"), verb="proposal.claimed"
    )
    claims = _orders(venue).filter(origin="proposal").annotate(number=Subquery(claim.values("pk")[:1]))
    facts = claims.exclude(number=None).values_list(
        *("public_id", "number", "kill_epoch", "proposal__reduce_only", "proposal__origin"),
        *("proposal__strategy", "proposal__series_ticker", "proposal__ticker"),
    )
    rows = list(facts)
    eras = _eras(venue)  # read last: of each claim everything is known that came before it
    begins = [era.begins for era in eras]
    late = []
    for public_id, number, epoch, reduces, origin, strategy, series, market in rows:
        era = eras[bisect(begins, number) - 1]
        passes = reduces and origin == Origin.CLOSE
        over = era.halted and era.halted.intersection(
            covering(strategy=strategy, series=series, market=market)
        )
        if epoch < era.stops or (over and not passes):
            late.append(public_id)
    return late


INVARIANTS: Final[tuple[Invariant, ...]] = (
    Invariant("two_orders", "A proposal has at most one order.", _two_orders, "proposal__public_id"),
    Invariant("two_owners", "An order of the exchange is one row here.", _two_owners, "venue_order_id"),
    Invariant("unclaimed", "While trading is ACTIVE an approval is taken within 30 s.", _unclaimed),
    Invariant("unapproved", "Only what was approved is sent.", _unapproved),
    Invariant("sent_twice", "An order is sent at most once.", _sent_twice),
    Invariant("overdue", "A send without an answer is unknown, not forgotten.", _overdue),
    Invariant("overfilled", "No order fills beyond what was approved.", _overfilled),
    Invariant("overbooked", "No more is booked than the exchange filled.", _overbooked),
    Invariant("underbooked", "What the exchange filled is booked within a minute.", _underbooked),
    Invariant("unreserved", "What may still cost money is reserved.", _unreserved),
    Invariant("left_over", "What is over reserves nothing.", _left_over, "key"),
    Invariant("unexplained", "A final state names its evidence.", _unexplained),
    Invariant("orphaned_fills", "A fill of ours belongs to its order.", _orphaned_fills),
    Invariant("wrong_positions", "Positions are the sum of their fills.", _wrong_positions),
    Invariant("costly_nothing", "A flat position has no cost left.", _costly_nothing, "ticker"),
    Invariant("history_gaps", "Every change of an order has its row of history.", _history_gaps),
    Invariant(
        "unaudited_moves",
        "Every move of a proposal is in the audit trail.",
        _unaudited_moves,
        "proposal__public_id",
    ),
    Invariant(
        "unaudited_states", "Every change of the trading state is in the audit trail.", _unaudited_states
    ),
    Invariant("own_decisions", "Nobody decides their own proposal.", _own_decisions, "proposal__public_id"),
    Invariant("claims_after_stop", "A stop ends all claims.", _claims_after_stop),
)


def broken(venue: str, now: datetime | None = None) -> list[Breach]:
    """Every invariant that does not hold now, with examples; empty when the books are whole."""
    at = now or timezone.now()
    return [breach for each in INVARIANTS if (breach := _ask(each, venue, at)) is not None]


def _ask(invariant: Invariant, venue: str, now: datetime) -> Breach | None:
    try:
        found = invariant.breaches(venue, now)
        rows = found if isinstance(found, list) else found.values_list(invariant.shows, flat=True)
        examples = tuple(str(row) for row in rows[:SHOWN])
        few = len(examples) < SHOWN  # these are all: to count them would ask the same again
        count = len(examples) if few else len(rows) if isinstance(rows, list) else rows.count()
    except Exception as error:  # a check that breaks must not pass for a check that holds
        log.exception("invariant.unasked", extra={"invariant": invariant.name})
        return Breach(invariant.name, invariant.promise, 1, (f"could not be asked: {error!r}"[:200],))
    return Breach(invariant.name, invariant.promise, count, examples) if count else None
