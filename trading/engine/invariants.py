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

from approvals.domain.lifecycle import ProposalState
from approvals.domain.policy import Origin
from approvals.models import BY_POLICY, Decision, Proposal, ProposalEvent
from kalshi_site.models import AuditEntry
from kalshi_site.models.fields import CountField
from portfolio.domain.scopes import covering
from portfolio.models import Position, PositionEvent, Reservation, TradingState, TradingStateEvent
from trading.domain.orders import OPEN, Action, BookSide, OrderState, Side, book_side
from trading.execution.adoption import ORPHAN
from trading.models import Fill, Order, OrderEvent, WorkItem, WorkKind, WorkState

log = logging.getLogger(__name__)

CLAIM_WITHIN: Final = timedelta(seconds=30)
BOOK_WITHIN: Final = timedelta(
    seconds=60
)  # a fill that the create answer counted is told by stream or REST until then
SHOWN: Final = 5
ZERO: Final = Decimal(0)
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


# What an order's reservation is called, as `changes.reserved_as` says it.
_KEY: Final = Coalesce("proposal__public_id", "public_id")


def _orders(venue: str) -> QuerySet[Order]:
    return Order.objects.filter(venue=venue)


def _two_orders(venue: str, now: datetime) -> QuerySet[Any]:
    """Asked although the database forbids it: a repair by hand may have lost the constraint."""
    counted = _orders(venue).exclude(proposal=None).values("proposal__public_id").annotate(orders=Count("id"))
    return counted.filter(orders__gt=1)


def _two_owners(venue: str, now: datetime) -> QuerySet[Any]:
    """Forbidden by the database as well. The other way round, which it cannot see, is `_doubled`."""
    counted = _orders(venue).exclude(venue_order_id=None).values("venue_order_id").annotate(rows=Count("id"))
    return counted.filter(rows__gt=1)


def _doubled(venue: str, now: datetime) -> QuerySet[Order]:
    """An order with a fill under another id than its own, or one adopted under a client's id that another row bears.

    Such an orphan's name is made of the exchange's id (`adoption.adopt`). A person who resolves its item ends it here.
    """
    own = Coalesce(OuterRef("venue_order_id"), Value(""))
    others = Fill.objects.filter(order=OuterRef("pk")).exclude(venue_order_id=own)
    items = WorkItem.objects.filter(
        venue=venue, kind=WorkKind.ORPHAN_ORDER, subject=OuterRef("venue_order_id")
    )
    newest = Subquery(items.order_by("-pk").values("state")[:1])
    again = Q(origin=ORPHAN, client_order_id=Concat(Value("external-"), F("venue_order_id")))
    orders = _orders(venue).annotate(answer=Coalesce(newest, Value("")))
    return orders.filter(Exists(others) | (again & ~Q(answer=WorkState.RESOLVED)))


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
    """More often than its attempts say; that they say more than one, a CHECK forbids.

    Requests are counted at the exchange's door alone. What came of a second one is an order too many: `_doubled`.
    """
    has_left = Q(sent_at__isnull=False) | Q(venue_order_id__isnull=False)
    return _orders(venue).filter(Q(attempts__gt=1) | (Q(attempts=0, proposal__isnull=False) & has_left))


def _overfilled(venue: str, now: datetime) -> QuerySet[Order]:
    """Beyond the proposal, not the order: that the database forbids, and the order itself may be too large."""
    return _orders(venue).filter(filled_quantity__gt=F("proposal__quantity"))


def _with_booked(venue: str) -> QuerySet[Any]:
    nothing = Value(ZERO, CountField())
    return _orders(venue).annotate(
        booked=Coalesce(Sum("fills__quantity"), nothing, output_field=CountField())
    )


def _overbooked(venue: str, now: datetime) -> QuerySet[Any]:
    return _with_booked(venue).filter(booked__gt=F("filled_quantity"))


def _underbooked(venue: str, now: datetime) -> list[str]:
    """Dated by what was counted a minute ago, not by the row: a renewal touches that once a minute.

    Of an order that was found on the exchange, earlier fills may be booked as nobody's.
    """
    late = now - BOOK_WITHIN
    short = _with_booked(venue).filter(origin="proposal", filled_quantity__gt=0)
    rows = list(
        short.filter(booked__lt=F("filled_quantity")).values_list(
            "pk", "public_id", "updated_at", "filled_quantity", "booked"
        )
    )
    then = _counted_before(late, [pk for pk, _, updated_at, *_ in rows if updated_at >= late])
    return [
        public_id
        for pk, public_id, updated_at, counted, booked in rows
        if booked < (counted if updated_at < late else then.get(pk, ZERO))
    ]


def _counted_before(moment: datetime, orders: list[int]) -> dict[int, Decimal]:
    """How many contracts of each had filled by then, as its history tells."""
    told = OrderEvent.objects.filter(order__in=orders, at__lt=moment, detail__has_key="filled")
    rows = told.order_by("pk").values_list("order_id", "detail__filled")
    return {order: Decimal(counted) for order, counted in rows}  # it never falls: the last one stands


def _unreserved(venue: str, now: datetime) -> list[str]:
    """Approved and waiting, or sent, or found on the exchange, and not over: its worst case must be held."""
    held = Reservation.objects.standing(venue)
    waiting = Proposal.objects.filter(venue=venue, state=ProposalState.APPROVED)
    under_way = _orders(venue).filter(state__in=OPEN).annotate(key=_KEY)
    return [
        *waiting.filter(~Exists(held.filter(key=OuterRef("public_id")))).values_list("public_id", flat=True),
        *under_way.filter(~Exists(held.filter(key=OuterRef("key")))).values_list("key", flat=True),
        *_reserved_in_part(venue),
    ]


def _reserved_in_part(venue: str) -> list[str]:
    """Orders of ours of which more may fill, or has filled and is not booked, than is held for them."""
    held = Reservation.objects.standing(venue).filter(key=OuterRef("proposal__public_id"))
    working = _with_booked(venue).filter(state__in=OPEN, proposal__isnull=False)
    rows = working.annotate(held=Subquery(held.values("signed_quantity")[:1])).exclude(held=None)
    named = (
        "proposal__public_id",
        "action",
        "side",
        "held",
        "filled_quantity",
        "remaining_quantity",
        "booked",
    )
    return [
        key
        for key, action, side, signed, filled, remaining, booked in rows.values_list(*named)
        if (signed if book_side(Action(action), Side(side)) is BookSide.BID else -signed)
        < filled + remaining - booked
    ]


def _left_over(venue: str, now: datetime) -> QuerySet[Reservation]:
    """Held for nothing: no approval waits, no order is under way, no fill of ours has yet to be booked."""
    waiting = Proposal.objects.filter(public_id=OuterRef("key"), state=ProposalState.APPROVED)
    ours = _orders(venue).filter(proposal__public_id=OuterRef("key"))
    found = _orders(venue).filter(public_id=OuterRef("key"), proposal=None, state__in=OPEN)
    unbooked = _with_booked(venue).filter(
        proposal__public_id=OuterRef("key"), booked__lt=F("filled_quantity")
    )
    is_due = Exists(ours.filter(state__in=OPEN)) | Exists(found) | Exists(waiting) | Exists(unbooked)
    return Reservation.objects.standing(venue).filter(~is_due)


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
    """Held contracts that fills, the opening and what people took over do not add up to; fills without a position.

    Where something is wrong all is asked again: a fill that was booked between the questions is no breach.
    """
    wrong = _misfits(venue)
    return sorted({ticker for ticker, *_ in wrong & _misfits(venue)}) if wrong else []


def _misfits(venue: str) -> set[tuple[str, int, Decimal]]:
    """Ticker, version of its position (0: there is none) and what it should hold. What is settled is not asked."""
    told = Fill.objects.filter(venue=venue)
    bought = Sum("quantity", filter=Q(book_side=BookSide.BID), default=ZERO)
    sold = Sum("quantity", filter=Q(book_side=BookSide.ASK), default=ZERO)
    due = {ticker: b - s for ticker, b, s in told.order_by().values_list("ticker").annotate(b=bought, s=sold)}
    moves = PositionEvent.objects.filter(position__venue=venue, to_state__in=("opened", "adjusted"))
    for ticker, quantity, step in moves.values_list("position__ticker", "quantity", "detail__step"):
        due[ticker] = due.get(ticker, ZERO) + (quantity if step is None else Decimal(step))
    misfits = set()
    rows = Position.objects.filter(venue=venue).values_list("ticker", "version", "quantity", "settled_at")
    for (
        ticker,
        version,
        quantity,
        settled_at,
    ) in rows:  # read last: a fill and its position are one transaction
        should = due.pop(ticker, ZERO)
        if settled_at is None and quantity != should:
            misfits.add((ticker, version, should))
    return misfits | {(ticker, 0, should) for ticker, should in due.items()}


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
    Invariant("doubled", "An order of ours is one order of the exchange.", _doubled),
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
