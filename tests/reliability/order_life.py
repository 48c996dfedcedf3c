"""One order's whole life, as the exchange has it and as the desk hears of it: late, repeated, swapped, or not at all.

The exchange acts and puts every word about it into a bag; words are told from the bag in any order and as often as
chance wants; comparisons by REST come in between. However it went, once everything has been heard the desk's row must
be what the reference says, and on the way it may never say more than the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portfolio import risk
from portfolio.models import Position, Reservation
from tests import factories
from tests.fakes import FakeExchange
from trading.domain.orders import OrderState
from trading.exchange.outcomes import Accepted, SubmitOutcome, Unknown
from trading.exchange.reports import FillReport, OrderReport
from trading.execution import cancels, fills, lifecycle
from trading.execution.cancels import NotCancelable
from trading.execution.reconcile import Reconciler
from trading.models import Fill, Order

D = Decimal
VENUE: Final = factories.VENUE
QUANTITY: Final = D(10)
NOTHING: Final = D(0)
picks = st.integers(0, 1_000)
counts = st.integers(1, 10)

Word = OrderReport | FillReport | SubmitOutcome


@dataclass
class Truth:
    """The reference: what the exchange holds, in the fewest words. `arrived`: it has the order at all."""

    arrived: bool = False
    filled: Decimal = NOTHING
    remaining: Decimal = QUANTITY
    called_off: bool = False

    @property
    def rests(self) -> bool:
        return self.arrived and self.remaining > 0

    def arrive(self) -> None:
        self.arrived = True

    def fill(self, count: Decimal) -> None:
        self.filled += count
        self.remaining -= count

    def decrease(self, remaining: Decimal) -> None:
        self.remaining = remaining

    def cancel(self) -> None:
        self.remaining, self.called_off = NOTHING, True

    @property
    def states(self) -> set[str]:
        """What a desk that has heard everything may call it."""
        if not self.arrived:
            return {"sending", "unknown", "absent"}
        if self.rests:
            return {"partially_filled"} if self.filled else {"resting"}
        return {"canceled"} if self.called_off else {"filled"}


class OrderLife(RuleBasedStateMachine):
    """Desks with a flaw are subclasses: the negative controls."""

    record_fill: Callable[..., Any] = staticmethod(fills.record_fill)
    record_report: Callable[..., Any] = staticmethod(lifecycle.record_report)

    def __init__(self) -> None:
        super().__init__()
        self._books = ExitStack()
        self._books.enter_context(transaction.atomic())
        self.exchange, self.truth = FakeExchange(), Truth()
        self.words: list[Word] = []

    @initialize()
    def claimed(self) -> None:
        """The desk has claimed an order; nobody knows yet whether it will arrive."""
        factories.funded(str(self.exchange.cash))
        self.order = factories.OrderFactory(state="sending", venue_order_id=None, client_order_id="k-life")
        proposal = self.order.proposal
        risk.reserve_foreign(
            venue=VENUE, key=proposal.public_id, terms=self.order.terms, event_ticker=self.order.event_ticker
        )
        self.reconciler = Reconciler(VENUE, self.exchange, self.exchange)

    # -- the exchange

    @precondition(lambda self: not self.truth.arrived)
    @rule(answered=st.booleans())
    def arrives(self, answered: bool) -> None:
        body = {"client_order_id": "k-life", "ticker": self.order.ticker, "side": "bid"}
        report = self.exchange.rest(body | {"price": "0.50", "count": str(QUANTITY)})
        self.truth.arrive()
        if answered:
            counts_now = (report.order_id, "k-life", NOTHING, QUANTITY, None, None, report.created_at)
            self.words.append(Accepted(*counts_now))
        self._speak()

    @precondition(lambda self: self.truth.rests)
    @rule(count=counts)
    def fills(self, count: int) -> None:
        count_now = min(D(count), self.truth.remaining)
        self.words.append(self.exchange.execute("venue-1", count_now))
        self.truth.fill(count_now)
        state = OrderState.PARTIALLY_FILLED if self.truth.rests else OrderState.FILLED
        self.exchange._change("venue-1", state=state, remaining_quantity=self.truth.remaining)
        self._speak()

    @precondition(lambda self: self.truth.rests)
    @rule()
    def is_canceled(self) -> None:
        self.exchange.cancel("venue-1", market_ticker=self.order.ticker)
        self.truth.cancel()
        self._speak()

    @precondition(lambda self: self.truth.remaining > 1 and self.truth.arrived)
    @rule()
    def is_decreased(self) -> None:
        self.exchange.decrease("venue-1", market_ticker=self.order.ticker, reduce_to=D(1))
        self.truth.decrease(D(1))
        self._speak()

    def _speak(self) -> None:
        self.words.append(self.exchange.order("venue-1"))

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

    @rule()
    def hears_nothing_in_time(self) -> None:
        self._tell(Unknown("no complete answer in 5 s"))

    @precondition(lambda self: self._row().state == "unknown" and not self.truth.arrived)
    @rule()
    def judges_it_absent(self) -> None:
        lifecycle.advance(self._row(), OrderState.ABSENT, evidence="2 complete searches", actor="reconcile")

    @rule()
    def asks_for_the_cancel(self) -> None:
        with suppress(NotCancelable):
            cancels.request_cancel(order=self._row(), actor="approver1")

    @precondition(
        lambda self: self._row().cancel_requested_at and self.truth.rests and self._row().venue_order_id
    )
    @rule()
    def cancels(self) -> None:
        self.is_canceled()

    @rule()
    def compares(self) -> None:
        self.reconciler.run()

    def _tell(self, word: Word) -> None:
        row = self._row()
        if isinstance(word, FillReport):
            self.record_fill(VENUE, word)
        elif isinstance(word, OrderReport):
            self.record_report(row, word)
        else:
            lifecycle.record_outcome(row, word)

    # -- what must hold

    def _row(self) -> Order:
        return Order.objects.select_related("proposal").get(client_order_id="k-life")

    @invariant()
    def it_never_says_more_than_the_truth(self) -> None:
        row = self._row()
        booked = sum(Fill.objects.values_list("quantity", flat=True), NOTHING)
        assert booked <= row.filled_quantity <= self.truth.filled
        assert row.filled_quantity + row.remaining_quantity <= QUANTITY
        assert row.events.count() == row.version - 1, "a change without its history"

    def teardown(self) -> None:
        try:
            if hasattr(self, "order"):
                self._comes_to_rest()
        finally:
            transaction.set_rollback(True)
            self._books.close()

    def _comes_to_rest(self) -> None:
        """A minute later one comparison is enough to know everything, whatever was missed."""
        self._tell(Unknown("no complete answer in 5 s"))
        Order.objects.update(last_scan_at=None)  # what was judged absent is looked for once a minute
        self.reconciler.run()
        self.reconciler.run()
        row = self._row()
        assert row.state in self.truth.states, (row.state, self.truth)
        assert row.filled_quantity == self.truth.filled
        assert sum(Fill.objects.values_list("quantity", flat=True), NOTHING) == self.truth.filled
        held = Position.objects.filter(ticker=row.ticker).first()
        assert (held.quantity if held else NOTHING) == self.truth.filled
        assert row.is_open == Reservation.objects.standing(VENUE).exists()
        if self.truth.rests:
            assert row.remaining_quantity == self.truth.remaining
