"""One order's whole life, as the exchange has it and as the desk hears of it: late, repeated, swapped, or not at all.

It begins with the claim, and may be over before it stood: never sent, or refused. The exchange acts and puts every word
about it into a bag; words are told from the bag in any order and as often as chance wants; comparisons by REST,
renewals and decreases come in between, and may get lost on either way. Time is the machine's own. However it went, once
everything has been heard the desk's row must be what the reference says, and on the way it may never say more than the
truth.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf
from typing import Any, ClassVar, Final
from unittest import mock

from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies._internal.featureflags import FeatureFlags

from kalshi_site.locks import Held
from kalshi_site.models import Lease
from portfolio.models import Position, Reservation
from tests import factories
from tests.fakes import FakeExchange
from trading.domain.orders import IllegalMove, OrderState
from trading.exchange.outcomes import (
    Accepted,
    Amended,
    AmendOutcome,
    Decreased,
    DecreaseOutcome,
    NotOpen,
    NotSent,
    Refused,
    SubmitOutcome,
    Unknown,
)
from trading.exchange.reports import FillReport, OrderReport
from trading.execution import cancels, decreases, fills, lifecycle
from trading.execution.claims import ClaimRules, claim
from trading.execution.decreases import LATEST_ARRIVAL, Decreases, NotDecreasable
from trading.execution.reconcile import Reconciler
from trading.execution.renewal import Renewal
from trading.models import Fill, Order

D = Decimal
VENUE: Final = factories.VENUE
RULES: Final = ClaimRules()
QUANTITY: Final = D(10)
NOTHING: Final = D(0)
SILENCE: Final = Unknown("no complete answer in 5 s")
ARRIVES, ARRIVES_LATE, IS_REFUSED, NEVER_LEAVES = "arrives", "arrives late", "is refused", "never leaves"
picks = st.integers(0, 1_000)
counts = st.sampled_from([1, 1, 2, 5, 10])
fates = st.sampled_from([ARRIVES] * 6 + [ARRIVES_LATE, ARRIVES_LATE, IS_REFUSED, NEVER_LEAVES])
mostly = st.sampled_from([True, True, True, False])
ways = st.sampled_from(["answered", "unanswered", "lost"])  # what becomes of a request

Word = OrderReport | FillReport | SubmitOutcome


@dataclass
class Truth:
    """The reference: what the exchange holds, in the fewest words.

    `arrived`: it has the order at all. `expiries`: each that was ever in force, and the last one is. `most`: what a
    decrease of ours has left, filled and resting together. `end`: what ended it, other than fills; nothing of it
    rests then.
    """

    expiries: list[datetime]
    arrived: bool = False
    filled: Decimal = NOTHING
    remaining: Decimal = QUANTITY
    most: Decimal = QUANTITY
    end: str = ""

    @property
    def rests(self) -> bool:
        return self.arrived and self.remaining > 0

    @property
    def is_pending(self) -> bool:
        return not self.arrived and not self.end

    def arrive(self) -> None:
        self.arrived = True

    def fill(self, count: Decimal) -> None:
        self.filled += count
        self.remaining -= count

    def decrease(self, remaining: Decimal, *, by_us: bool) -> None:
        self.remaining = min(self.remaining, remaining)
        if by_us:
            self.most = self.filled + self.remaining

    def renew(self, until: datetime, total: Decimal) -> None:
        self.expiries.append(until)
        self.remaining = total - self.filled
        assert self.filled < total <= self.most, "a renewal undoes no decrease of ours"

    def finish(self, end: str) -> None:
        self.remaining, self.end = NOTHING, end

    def states(self, now: datetime, *, is_called_off: bool) -> set[str]:
        """What a desk that has heard everything may call it. `is_called_off`: the desk has asked for the cancel."""
        if self.rests:
            return {"partially_filled"} if self.filled else {"resting"}
        if not self.arrived:
            return {"sending", "unknown", "absent", self.end} - {""}
        # The exchange calls both ends canceled: the desk goes by its own clock, and its own wish.
        is_late = self.end == "canceled" and now >= min(self.expiries)
        is_early = self.end == "expired" and (is_called_off or self.expiries[-1] < max(self.expiries))
        return {"canceled", "expired"} if is_late or is_early else {self.end or "filled"}


@dataclass
class Exchange(FakeExchange):
    """It amends as Kalshi does: the count is the new total. What is `way` becomes of amends and decreases."""

    way: str = "answered"
    came: list[Any] = field(default_factory=list)  # of them, what it did
    lost: list[tuple[datetime, bytes]] = field(default_factory=list)  # amends, which may still arrive

    def send_amend(self, order_id: str, body: bytes, signed_ts_ms: int, **_: Any) -> AmendOutcome:
        if self.way == "lost":
            self.lost.append((timezone.now(), body))
            return SILENCE
        done = self.amended(order_id, body)
        return done if self.way == "answered" else SILENCE

    def amended(self, order_id: str, body: bytes) -> AmendOutcome:
        told, report = json.loads(body), self.book[order_id]
        until, total = datetime.fromtimestamp(told["expiration_time"], UTC), D(told["count"])
        if not report.remaining_quantity or until <= timezone.now() or total <= report.filled_quantity:
            return NotOpen(order_id)
        self._change(order_id, expires_at=until, remaining_quantity=total - report.filled_quantity)
        self.came.append((until, total))
        return Amended(order_id, report.client_order_id, None, None, None, None, timezone.now())

    def decrease(self, order_id: str, **how: Any) -> DecreaseOutcome:
        if self.way == "lost":
            return SILENCE
        done = super().decrease(order_id, **how)
        if isinstance(done, Decreased):
            self.came.append(how["reduce_to"])
        return done if self.way == "answered" else SILENCE


class OrderLife(RuleBasedStateMachine):
    """Desks with a flaw are subclasses: the negative controls."""

    record_fill: Callable[..., Any] = staticmethod(fills.record_fill)
    record_report: Callable[..., Any] = staticmethod(lifecycle.record_report)
    record_outcome: Callable[..., Any] = staticmethod(lifecycle.record_outcome)
    renewal: type[Renewal] = Renewal
    seen: ClassVar[Counter[str]] = Counter()  # how lives ended, by the reference, and what happened in them

    def __init__(self) -> None:
        super().__init__()
        # Hypothesis leaves half of the rules out of most lives: then hardly one is heard of, renewed and decreased.
        self._rules_strategy.enabled_rules_strategy = st.just(FeatureFlags())
        self._books = ExitStack()
        self._books.enter_context(transaction.atomic())
        self.exchange, self.held = Exchange(), Held("execution", "this life", 1, inf)
        self.words: list[Word] = []

    def now(self) -> datetime:
        return self.time

    def require_steady(self) -> None:
        """The machine is the exchange's clock too."""

    @initialize(fate=fates, lasts=mostly, heard=mostly)
    def claimed(self, fate: str = ARRIVES_LATE, *, lasts: bool = False, heard: bool = False) -> None:
        """The desk has claimed an order, and knows nothing of its fate yet. One that `lasts` fills, or runs out."""
        self.fate, self.lasts, proposal = fate, lasts, factories.approved()
        self.time = timezone.now().replace(microsecond=0) + timedelta(seconds=1)
        self._books.enter_context(mock.patch.object(timezone, "now", self.now))
        Lease.objects.create(name=self.held.name, holder=self.held.holder, fence=1, expires_at=self.time)
        order = claim(proposal, held=self.held, deployment=uuid.UUID(int=1), rules=RULES, clock=self.now)
        assert order is not None
        assert order.expires_at is not None
        self.order, self.row, self.truth = order, order, Truth([order.expires_at])
        self.reconciler = Reconciler(VENUE, self.exchange, self.exchange)
        changes = (VENUE, self.exchange, self.exchange, self, RULES.order_life)
        self.renewals, self.decreases = self.renewal(*changes), Decreases(*changes)
        if fate == ARRIVES:
            self.arrives(heard)

    # -- the exchange; `heard`: the desk hears of it at once, and perhaps again

    @precondition(lambda self: self.fate == ARRIVES_LATE and self.truth.is_pending)
    @precondition(lambda self: self.time < self.truth.expiries[-1])
    @rule(heard=st.booleans())
    def arrives(self, heard: bool) -> None:
        report, key = self.exchange.rest(json.loads(self.order.body)), self.order.client_order_id
        self.truth.arrive()
        self._say(Accepted(report.order_id, key, NOTHING, QUANTITY, None, None, self.time), heard=heard)
        self._speak(heard=False)

    @precondition(lambda self: self.fate == IS_REFUSED and self.truth.is_pending)
    @rule(heard=st.booleans())
    def is_refused(self, heard: bool) -> None:
        self.truth.finish("rejected")
        self._say(Refused(400, "insufficient_balance", "insufficient balance"), heard=heard)

    @precondition(lambda self: self.fate == NEVER_LEAVES and self.truth.is_pending)
    @rule(heard=st.booleans())
    def never_left(self, heard: bool) -> None:
        self.truth.finish("not_sent")
        self._say(NotSent("no connection within 2 s"), heard=heard)

    @precondition(lambda self: self.truth.rests)
    @rule(count=counts, heard=st.booleans())
    def fills(self, count: int, heard: bool) -> None:
        count_now = min(D(count), self.truth.remaining)
        execution = self.exchange.execute("venue-1", count_now)
        self.truth.fill(count_now)
        state = OrderState.PARTIALLY_FILLED if self.truth.rests else OrderState.FILLED
        self.exchange._change("venue-1", state=state, remaining_quantity=self.truth.remaining)
        self._say(execution, heard=heard)
        self._speak(heard=heard)

    @precondition(lambda self: self.truth.rests and not self.lasts)
    @rule(heard=st.booleans())
    def is_canceled(self, heard: bool) -> None:
        self._end("canceled", heard=heard)

    @precondition(lambda self: self.truth.rests and not self.lasts)
    @rule(heard=st.booleans())
    def expires(self, heard: bool) -> None:
        self._pass(self.truth.expiries[-1] - self.time, heard=heard)

    @rule(seconds=st.sampled_from([2, 11, 30]))
    def time_passes(self, seconds: int) -> None:
        self._pass(timedelta(seconds=seconds))

    @precondition(lambda self: self.truth.rests and self.truth.remaining > 1)
    @rule(count=counts, heard=st.booleans())
    def is_decreased_elsewhere(self, count: int, heard: bool) -> None:
        remaining = min(D(count), self.truth.remaining - 1)
        self.exchange._change("venue-1", remaining_quantity=remaining)
        self.truth.decrease(remaining, by_us=False)
        self._speak(heard=heard)

    @precondition(lambda self: self.truth.rests and self.exchange.lost)
    @rule(heard=st.booleans())
    def a_lost_renewal_arrives(self, heard: bool) -> None:
        """Late, but with a signed time that the exchange still lets in."""
        signed_at, body = self.exchange.lost.pop(0)
        if self.time < signed_at + LATEST_ARRIVAL:
            self.exchange.amended("venue-1", body)
            self._take_note(heard=heard)

    def _pass(self, time: timedelta, *, heard: bool = False) -> None:
        self.time += time
        if self.truth.rests and self.time >= self.truth.expiries[-1]:
            self._end("expired", heard=heard)

    def _end(self, end: str, *, heard: bool) -> None:
        self.exchange.cancel("venue-1", market_ticker=self.order.ticker)
        self.truth.finish(end)
        self._speak(heard=heard)

    def _take_note(self, *, heard: bool) -> None:
        """Tell the reference what the exchange did of what the desk asked for."""
        for done in self.exchange.came:
            if isinstance(done, tuple):
                self.truth.renew(*done)
            else:
                self.truth.decrease(done, by_us=True)
            self._speak(heard=heard)
        self.exchange.came.clear()

    def _speak(self, *, heard: bool) -> None:
        self._say(self.exchange.order("venue-1"), heard=heard)

    def _say(self, word: Word, *, heard: bool) -> None:
        self.words.append(word)
        if heard:
            self._tell(word)

    # -- what the desk does

    @precondition(lambda self: self.row.is_cancelable)
    @rule(way=ways, is_due=mostly, heard=st.booleans())
    def is_renewed(self, way: str, is_due: bool, heard: bool) -> None:
        """Execution looks at the expiries; `is_due`: at half of the way to the one that it knows."""
        assert self.row.expires_at is not None
        half = self.row.expires_at - RULES.order_life / 2
        if is_due and self.time < half:
            self._pass(half - self.time)
        self.exchange.way = way
        self.renewals.look(lambda: self.held)
        self._take_note(heard=heard)

    @precondition(lambda self: self.row.is_cancelable and self.row.remaining_quantity > 1)
    @rule(remaining=counts)
    def asks_for_a_decrease(self, remaining: int) -> None:
        with suppress(NotDecreasable):
            decreases.request_decrease(order=self._row(), actor="approver1", remaining=D(remaining))

    @precondition(lambda self: self.row.is_cancelable and self.row.decrease_to is not None)
    @rule(way=ways, heard=st.booleans())
    def is_decreased(self, way: str, heard: bool) -> None:
        self.exchange.way = way
        self.decreases.look(lambda: None)
        self._take_note(heard=heard)

    @precondition(lambda self: self.row.is_open and self.row.cancel_requested_at is None and not self.lasts)
    @rule()
    def asks_for_the_cancel(self) -> None:
        cancels.request_cancel(order=self._row(), actor="approver1")

    @precondition(lambda self: self.truth.rests and self.row.cancel_requested_at is not None)
    @precondition(lambda self: self.row.venue_order_id is not None)
    @rule(heard=st.booleans())
    def cancels(self, heard: bool) -> None:
        self._end("canceled", heard=heard)

    # -- what the desk hears

    @precondition(lambda self: self.words)
    @rule(pick=picks, keep=st.booleans())
    def hears(self, pick: int, keep: bool) -> None:
        """Any word from the bag; one that is kept may come again."""
        number = pick % len(self.words)
        self._tell(self.words[number] if keep else self.words.pop(number))

    @precondition(lambda self: self.words)
    @rule(pick=picks)
    def misses(self, pick: int) -> None:
        self.words.pop(pick % len(self.words))

    @precondition(lambda self: self.row.is_open)
    @rule()
    def hears_nothing_in_time(self) -> None:
        self._tell(SILENCE)

    @precondition(lambda self: not self.truth.arrived and self.row.state == "unknown")
    @rule()
    def judges_it_absent(self) -> None:
        lifecycle.advance(self._row(), OrderState.ABSENT, evidence="2 complete searches", actor="reconcile")

    @precondition(lambda self: self.row.is_open or self.words)
    @rule()
    def compares(self) -> None:
        self.reconciler.run()

    def _tell(self, word: Word) -> None:
        row = self._row()
        if isinstance(word, FillReport):
            self.record_fill(VENUE, word)
        elif isinstance(word, OrderReport):
            self.record_report(row, word)
        elif isinstance(word, Refused | NotSent) and row.state == "absent":
            # Of a sender that was frozen: execution's round breaks, and nothing changes.
            with suppress(IllegalMove):
                self.record_outcome(row, word)
        else:
            self.record_outcome(row, word)
            assert not isinstance(word, Refused | NotSent) or self._row().state == self.truth.end

    # -- what must hold

    def _row(self) -> Order:
        return Order.objects.select_related("proposal").get(proposal__isnull=False)

    def _states(self, row: Order) -> set[str]:
        return self.truth.states(self.time, is_called_off=row.cancel_requested_at is not None)

    @invariant()
    def it_never_says_more_than_the_truth(self) -> None:
        self.row = row = self._row()
        booked = sum(Fill.objects.values_list("quantity", flat=True), NOTHING)
        assert booked <= row.filled_quantity <= self.truth.filled
        assert row.filled_quantity + row.remaining_quantity <= QUANTITY
        assert row.is_open or row.state == "absent" or row.state in self._states(row), (row.state, self.truth)
        assert row.expires_at in self.truth.expiries
        assert row.events.count() == row.version, "a change without its history"
        reserved = Reservation.objects.standing(VENUE).values_list("signed_quantity", flat=True)
        assert not row.is_open or list(reserved) == [row.total_quantity - booked], (
            "it may cost what is not reserved"
        )

    def teardown(self) -> None:
        try:
            if hasattr(self, "order"):
                self._comes_to_rest()
                self._is_seen()
        finally:
            transaction.set_rollback(True)
            self._books.close()

    def _comes_to_rest(self) -> None:
        """A minute later one comparison is enough to know everything, whatever was missed."""
        self._tell(SILENCE)
        Order.objects.update(last_scan_at=None)  # what was judged absent is looked for once a minute
        self.reconciler.run()
        self.reconciler.run()
        row = self._row()
        assert row.state in self._states(row), (row.state, self.truth)
        assert row.filled_quantity == self.truth.filled
        assert sum(Fill.objects.values_list("quantity", flat=True), NOTHING) == self.truth.filled
        held = Position.objects.filter(ticker=row.ticker).first()
        assert (held.quantity if held else NOTHING) == self.truth.filled
        assert row.is_open == Reservation.objects.standing(VENUE).exists()
        if self.truth.rests:
            assert row.remaining_quantity == self.truth.remaining
            assert Reservation.objects.standing(VENUE).get().signed_quantity == self.truth.remaining

    def _is_seen(self) -> None:
        stands = "resting" if self.truth.rests else "filled" if self.truth.arrived else "never came"
        self.seen[self.truth.end or stands] += 1
        self.seen["renewals"] += len(self.truth.expiries) - 1
        self.seen["decreases of ours"] += self.truth.most < QUANTITY
