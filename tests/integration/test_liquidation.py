"""Emergency liquidation: asked for by page, REST and terminal, carried out by execution or in its place."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.models import F
from django.test import Client
from django.utils import timezone

from approvals import decisions
from approvals.models import Proposal
from kalshi_site import locks, wiring
from kalshi_site.models import AuditEntry, Lease
from portfolio import risk
from portfolio.models import Position, RiskLimit
from tests import factories
from tests.callers import Caller, code_of
from tests.fakes import Behaviour, FakeExchange, accept, fill
from trading.domain.book import RawLevel
from trading.engine import update_cycle
from trading.exchange.errors import NoAnswer
from trading.exchange.outcomes import NotSent, Refused, SubmitOutcome
from trading.exchange.reports import BookReport
from trading.execution import liquidation, liquidation_plan, liquidation_prices, stand_in
from trading.execution.exits import close_position
from trading.execution.liquidation_prices import prices_of
from trading.execution.liquidation_tries import Tries
from trading.execution.process import LEASE_TTL, Execution, Pulse
from trading.execution.reconcile import Evidence, Reconciler
from trading.execution.router import Router
from trading.models import Liquidation, Order, Quote

D = Decimal
VENUE = factories.VENUE
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def held() -> Iterator[locks.Held]:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        yield lease


def router(exchange: FakeExchange) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))


def compare(exchange: FakeExchange) -> None:
    Reconciler(VENUE, exchange, exchange).run()  # type: ignore[arg-type]


@pytest.fixture
def order(exchange: FakeExchange) -> Order:
    """Ten YES are held: bought at 50, bid 48 now."""
    factories.funded()
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    exchange.behaviour = fill
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        router(exchange).round(lease)
    compare(exchange)
    return Order.objects.get()


def ask(slippage: str = "0.05", **fields: Any) -> Liquidation:
    return liquidation.request(venue=VENUE, actor="operator", reason="fire", slippage=D(slippage), **fields)


def at_rest() -> None:
    """The exchange's list has shown no working order."""
    risk.note_cleared(risk.trading_state(VENUE))


def carry_out(exchange: FakeExchange, held: locks.Held, looks: int = 20) -> Liquidation:
    """Rounds of execution until it is over."""
    for _ in range(looks):
        if not liquidation.step(VENUE, held):
            break
        router(exchange).round(held)
        compare(exchange)
    return Liquidation.objects.get()


def said(row: Liquidation) -> list[str]:
    return [str(event) for event in row.events.all()]


# --- what it does


def test_it_stops_sells_within_the_bound_and_reports(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    row = ask()
    assert row.floors == {order.ticker: "0.4300"}
    assert risk.trading_state(VENUE).mode == "HALTED"
    assert len(exchange.sent) == 1, "whoever asks sends nothing: only execution has the key"
    at_rest()
    row = carry_out(exchange, held)
    assert (row.outcome, row.remaining) == ("everything was sold", [])
    assert said(row)[1] == f"{order.ticker}: selling 10 at 43¢ or better"
    assert said(row)[-1] == "everything was sold; nothing is held any more"
    sold = exchange.sent[-1]
    assert (sold["side"], sold["price"], sold["reduce_only"]) == ("ask", "0.4300", True)
    assert sold["time_in_force"] == "immediate_or_cancel"
    assert AuditEntry.objects.get(verb="trading.liquidate").detail["slippage"] == "0.05"
    assert AuditEntry.objects.get(verb="liquidation.done").detail["remaining"] == []


def test_what_nobody_buys_above_the_floor_stays_and_is_named(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    ask()
    at_rest()
    Quote.objects.update(yes_bid=D("0.40"))
    row = carry_out(exchange, held)
    assert len(exchange.sent) == 1
    assert row.remaining == [{"ticker": order.ticker, "side": "yes", "quantity": "10"}]
    assert said(row)[-1].endswith(f"still held: 10 yes {order.ticker}")


def test_selling_waits_a_little_for_the_proof_that_working_orders_are_gone(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    row = ask()
    assert liquidation.step(VENUE, held)
    assert row.events.count() == 1
    Liquidation.objects.update(created_at=timezone.now() - timedelta(seconds=6))
    assert liquidation.step(VENUE, held)
    assert row.events.count() == 2, "a list that never answers does not block the way out"


def test_an_exit_that_never_fills_is_tried_a_few_times_only(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    def nothing_bought(exchange: FakeExchange, body: dict[str, Any]) -> Any:
        outcome = accept(exchange, body)
        exchange.cancel(outcome.order_id, market_ticker=body["ticker"])  # type: ignore[union-attr]
        return outcome

    exchange.behaviour = nothing_bought
    ask()
    at_rest()
    row = carry_out(exchange, held)
    assert row.is_over
    assert len(exchange.sent) == 1 + liquidation.TRIES
    assert row.remaining[0]["quantity"] == "10"
    assert row.tries == {order.ticker: liquidation.TRIES}
    assert row.outcome == "nothing more can be sold within the bound"


# --- exits that the exchange did not take


def connection_refused(exchange: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
    return NotSent("connection refused")


def trading_is_paused(exchange: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
    return Refused(409, "trading_is_paused", "trading is paused")


def pass_time(seconds: float) -> None:
    """All that was written down becomes older."""
    for rows in (Order.objects, Proposal.objects):
        rows.update(updated_at=F("updated_at") - timedelta(seconds=seconds))  # type: ignore[attr-defined]


def test_what_its_actor_closes_meanwhile_is_no_try_and_its_own_is_one_whatever_the_clocks_say(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    """Naive: count what the same person closed since. Web and execution have clocks of their own."""
    row = ask()
    at_rest()
    Liquidation.objects.update(created_at=row.created_at + timedelta(seconds=30))
    close_position(venue=VENUE, ticker=order.ticker, actor=row.actor, quantity=D(1))
    router(exchange).round(held)
    compare(exchange)
    assert carry_out(exchange, held).outcome == "everything was sold"
    assert (Liquidation.objects.get().tries, len(exchange.sent)) == ({order.ticker: 1}, 3)


@pytest.mark.parametrize(
    ("away", "words"),
    [
        (connection_refused, "the exit could not be sent: connection refused; trying again"),
        (trading_is_paused, "the exit was refused: HTTP 409: trading is paused; trying again"),
    ],
)
def test_what_the_exchange_did_not_take_is_no_try_and_is_sold_once_it_does(
    exchange: FakeExchange, order: Order, held: locks.Held, away: Behaviour, words: str
) -> None:
    """Naive: five of them are spent within a second, nothing is sold, and the end speaks of the bound."""
    ask()
    at_rest()
    exchange.behaviour = away
    for sent in range(1, liquidation.TRIES + 3):
        row = carry_out(exchange, held, looks=3)
        assert len(exchange.sent) == 1 + sent, "one at a time"
        assert (last_said(row, order.ticker), row.is_over, row.tries) == (words, False, {})
        pass_time(8)
    exchange.behaviour = fill
    row = carry_out(exchange, held)
    assert (row.outcome, row.remaining, row.tries) == ("everything was sold", [], {order.ticker: 1})


def test_an_exit_that_is_not_taken_keeps_execution_from_no_pause(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    ask()
    at_rest()
    exchange.behaviour = connection_refused
    execution = Execution(
        router=router(exchange),
        reconciler=Reconciler(VENUE, exchange, exchange),  # type: ignore[arg-type]
        news=SimpleNamespace(),  # type: ignore[arg-type]
        stop=threading.Event(),
        on_ready=lambda: None,
    )
    pulse = Pulse(execution.router, held, LEASE_TTL)
    assert [execution._look(pulse) for _ in range(3)] == [1, 0, 0]


def test_what_is_voided_before_it_left_is_no_try_and_says_why(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    ask()
    at_rest()
    assert liquidation.step(VENUE, held)
    Proposal.objects.filter(state="approved").update(decided_at=timezone.now() - timedelta(hours=1))
    router(exchange).round(held)
    assert liquidation.step(VENUE, held)
    row = Liquidation.objects.get()
    words = "the exit was not sent: the approval was not claimed in time; trying again"
    assert (last_said(row, order.ticker), row.tries) == (words, {})
    pass_time(1)
    assert carry_out(exchange, held).outcome == "everything was sold"


def test_the_last_word_says_when_it_was_not_the_bound(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    also_held("AAA-1")
    also_held("AAA-2")
    ask()
    at_rest()
    exchange.behaviour = connection_refused
    carry_out(exchange, held, looks=1)
    Liquidation.objects.update(ends_by=timezone.now())
    assert carry_out(exchange, held, looks=1).outcome == (
        "the time is over; the last exit from AAA-1 could not be sent, from AAA-2 could not be sent, and 1 more"
    )


@pytest.mark.parametrize(("failed", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (50, 8)])
def test_the_pauses_grow_and_do_not_grow_for_ever(failed: int, seconds: float) -> None:
    def ago(length: float) -> Tries:
        return Tries(failed=failed, at=timezone.now() - timedelta(seconds=length))

    assert ago(seconds - 0.5).is_pausing
    assert not ago(seconds).is_pausing
    assert not ago(-3600).is_pausing, "a clock that was set back"


# --- prices that are too old


@dataclass
class Shown(FakeExchange):
    """It shows its books too: levels by ticker, on the YES scale. `silent` answers no read of them."""

    books: dict[str, tuple[list[RawLevel], list[RawLevel]]] = field(default_factory=dict)
    silent: bool = False
    asked: list[list[str]] = field(default_factory=list)

    def order_books(self, tickers: Sequence[str]) -> list[BookReport]:
        self.asked.append(list(tickers))
        if self.silent:
            raise NoAnswer("silence")
        return [BookReport(name, tuple(bids), tuple(asks)) for name, (bids, asks) in self.books.items()]


@pytest.fixture
def shown(exchange: FakeExchange, order: Order) -> Shown:
    """The same exchange, where the one bid is 1 at 70, then 45; our feed died when it was 48."""
    return Shown(**vars(exchange), books={order.ticker: ([(7000, 100), (4500, 10_000)], [(9000, 100)])})


def feed_died(**ago: float) -> None:
    Quote.objects.update(**dict.fromkeys(("as_of", "verified_at"), timezone.now() - timedelta(**ago)))


def test_a_floor_is_not_taken_from_an_old_price_but_from_the_exchanges_book(
    shown: Shown, order: Order, held: locks.Held
) -> None:
    """Naive: 48 of ten minutes ago makes the floor 43, and the exit walks 25 cents below the best bid."""
    feed_died(minutes=10)
    row = ask()
    assert row.floors == {}
    at_rest()
    assert liquidation.step(VENUE, held, shown)
    row.refresh_from_db()
    assert row.floors == {order.ticker: "0.6500"}
    assert said(row)[1].endswith("floor fixed at 65¢: it was not held, or had no fresh bid, when this began")
    assert last_said(row, order.ticker) == "selling 10 at 65¢ or better"
    router(shown).round(held)
    assert shown.sent[-1]["price"] == "0.6500"


def test_an_old_price_and_an_exchange_that_shows_no_book_is_waited_for_and_told(
    shown: Shown, order: Order, held: locks.Held
) -> None:
    feed_died(minutes=10)
    row = ask()
    at_rest()
    shown.silent = True
    for _ in range(2):
        assert liquidation.step(VENUE, held, shown)
    assert said(row)[1:] == [
        f"{order.ticker}: the price is 10 min old; the exchange's own book cannot be read: E601"
    ], "once, for each change of the words is a step"
    shown.silent = False
    assert liquidation.step(VENUE, held, shown)
    assert last_said(row, order.ticker) == "selling 10 at 65¢ or better"


def test_with_fresh_prices_the_exchange_is_not_asked(shown: Shown, order: Order, held: locks.Held) -> None:
    feed_died(seconds=5)
    row = ask()
    at_rest()
    assert liquidation.step(VENUE, held, shown)
    assert last_said(row, order.ticker) == "selling 10 at 43¢ or better"
    assert shown.asked == []


def test_a_floor_stands_when_the_feed_dies_later(shown: Shown, order: Order, held: locks.Held) -> None:
    """Naive: what the old quote says ends it (41 is below the floor of 43) while the exchange's book would buy."""
    row = ask()
    at_rest()
    Quote.objects.update(yes_bid=D("0.41"))
    feed_died(minutes=10)
    assert liquidation.step(VENUE, held, shown)
    assert last_said(row, order.ticker) == "selling 10 at 43¢ or better"
    assert Liquidation.objects.get().floors == {order.ticker: "0.4300"}


def test_a_bid_that_only_our_old_quote_has_sells_nothing(
    shown: Shown, order: Order, held: locks.Held
) -> None:
    row = ask()
    at_rest()
    feed_died(minutes=10)
    shown.books[order.ticker] = ([], [(9000, 100)])
    assert not liquidation.step(VENUE, held, shown)
    assert last_said(row, order.ticker) == "nobody bids 43¢ or more"


def test_an_exit_that_took_the_last_bid_is_waited_for(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    """Naive: nobody bids any more, so it ends and reports as held what has just been sold."""
    row = ask()
    at_rest()
    assert liquidation.step(VENUE, held)
    router(exchange).round(held)
    Quote.objects.update(yes_bid=None)
    assert liquidation.step(VENUE, held)
    assert last_said(row, order.ticker) == "an exit is working"
    compare(exchange)
    assert not liquidation.step(VENUE, held)
    assert Liquidation.objects.get().outcome == "everything was sold"


def test_the_no_side_is_bid_by_who_offers_yes(shown: Shown, order: Order, held: locks.Held) -> None:
    Position.objects.update(quantity=D(-5))
    feed_died(minutes=10)
    ask()
    at_rest()
    liquidation.step(VENUE, held, shown)
    assert Liquidation.objects.get().floors == {order.ticker: "0.0500"}


@pytest.mark.parametrize(
    ("books", "words"),
    [
        ([], "the exchange's own book is not shown"),
        ([([(7000, 100)], [(6000, 100)])], "the exchange's own book cannot be read: E606"),
    ],
)
def test_a_book_that_is_none_is_waited_for(
    shown: Shown, order: Order, held: locks.Held, books: list[Any], words: str
) -> None:
    feed_died(minutes=10)
    row = ask()
    at_rest()
    shown.books = dict.fromkeys([order.ticker], *books) if books else {}
    assert liquidation.step(VENUE, held, shown)
    assert last_said(row, order.ticker) == f"the price is 10 min old; {words}"


def test_who_cannot_ask_the_exchange_waits_for_the_feed(order: Order, held: locks.Held) -> None:
    feed_died(minutes=10)
    row = ask()
    at_rest()
    assert liquidation.step(VENUE, held)
    assert last_said(row, order.ticker) == "the price is 10 min old"


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        ({"seconds": 30}, "the price is more than 10 s old"),
        ({"minutes": 90}, "the price is 90 min old"),
        ({"hours": 50}, "the price is 50 h old"),
        ({"minutes": -5}, "the price is from the future: a clock is wrong"),
    ],
)
def test_the_age_of_a_price_in_words(order: Order, ago: dict[str, float], words: str) -> None:
    feed_died(**ago)
    (position,) = Position.objects.held(VENUE)
    assert prices_of([position])[order.ticker].doubt == words


def test_an_odd_limit_keeps_nobody_from_asking(order: Order) -> None:
    RiskLimit.objects.create(name="odd", value=D(1))
    assert ask().floors == {order.ticker: "0.4300"}


def test_many_books_are_asked_for_in_parts_and_no_part_keeps_cancels_waiting(
    shown: Shown, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    also_held("AAA-1")
    shown.books["AAA-1"] = ([(3000, 100)], [])
    feed_died(minutes=10)
    monkeypatch.setattr(liquidation_prices, "IN_A_REQUEST", 1)
    held = list(Position.objects.held(VENUE).order_by("ticker"))
    bids = {ticker: price.bid for ticker, price in prices_of(held, shown).items()}  # type: ignore[arg-type]
    assert bids == {"AAA-1": D("0.30"), order.ticker: D("0.70")}
    assert shown.asked == [["AAA-1"], [order.ticker]]
    monkeypatch.setattr(liquidation_prices, "BEGIN_WITHIN", -1.0)
    assert {price.doubt for price in prices_of(held, shown).values()} == {"the price is 10 min old"}  # type: ignore[arg-type]


def test_execution_reads_the_book_itself(shown: Shown, order: Order, held: locks.Held) -> None:
    feed_died(minutes=10)
    row = ask()
    at_rest()
    execution = Execution(
        router=router(shown),
        reconciler=Reconciler(VENUE, shown, shown),  # type: ignore[arg-type]
        news=SimpleNamespace(),  # type: ignore[arg-type]
        stop=threading.Event(),
        on_ready=lambda: None,
    )
    execution._sell_out(held)
    assert last_said(row, order.ticker) == "selling 10 at 65¢ or better"


def test_so_does_the_terminal_in_its_place(shown: Shown, order: Order) -> None:
    feed_died(minutes=10)
    row = ask()
    stand_in.sell_out(VENUE, whole(shown), pause=lambda _: None)
    assert last_said(row, order.ticker) == "selling 10 at 65¢ or better"
    assert shown.sent[-1]["price"] == "0.6500"


# --- one market keeps no other waiting


def also_held(ticker: str, **fields: Any) -> Position:
    """Five YES of another market, quoted 48-50, that a fill before this moment brought."""
    market = factories.quoted_market(ticker=ticker, **fields)
    return Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=D(5), cost=D(2)
    )


def last_said(row: Liquidation, ticker: str) -> str:
    return row.events.filter(ticker=ticker).latest("id").reason


def test_a_market_that_cannot_be_judged_is_told_and_keeps_no_other_from_being_sold(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    also_held("AAA-1", fee_type="unheard-of")
    row = ask()
    at_rest()
    assert liquidation.step(VENUE, held)
    assert last_said(row, "AAA-1").startswith("could not be judged: 'unheard-of' is not")
    assert last_said(row, order.ticker) == "selling 10 at 43¢ or better"
    router(exchange).round(held)
    liquidation.step(VENUE, held)
    assert Liquidation.objects.get().tries == {order.ticker: 1}


def test_what_a_fill_brings_after_the_request_gets_its_floor_then_and_is_sold(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    row = ask()
    at_rest()
    also_held("AAA-1")
    assert liquidation.step(VENUE, held)
    Quote.objects.filter(market="AAA-1").update(yes_bid=D("0.46"))
    liquidation.step(VENUE, held)
    row.refresh_from_db()
    assert row.floors == {order.ticker: "0.4300", "AAA-1": "0.4300"}, "fixed once"
    assert "AAA-1: selling 5 at 43¢ or better" in said(row)


def test_a_price_that_was_missing_at_the_request_is_waited_for(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    Quote.objects.update(trusted=False)
    row = ask()
    at_rest()
    assert row.floors == {}
    assert liquidation.step(VENUE, held)
    assert last_said(row, order.ticker) == "no price yet"
    Quote.objects.update(trusted=True)
    assert liquidation.step(VENUE, held)
    assert last_said(row, order.ticker) == "selling 10 at 43¢ or better"


def test_a_price_that_goes_missing_later_is_waited_for_until_the_time_is_over(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    row = ask()
    at_rest()
    Quote.objects.update(trusted=False)
    assert liquidation.step(VENUE, held)
    assert last_said(row, order.ticker) == "no price yet"
    Liquidation.objects.update(ends_by=timezone.now())
    assert not liquidation.step(VENUE, held)


def test_a_known_book_without_a_bid_is_not_waited_for(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    Quote.objects.update(yes_bid=None)
    row = ask()
    at_rest()
    assert not liquidation.step(VENUE, held)
    assert last_said(row, order.ticker).startswith("nobody bids: it can only be held")


@pytest.mark.parametrize("fault", [locks.Outrun("late"), OperationalError("gone")])
def test_what_says_that_we_may_not_or_cannot_write_ends_the_look(
    order: Order, held: locks.Held, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(**_: object) -> None:
        raise fault

    monkeypatch.setattr(liquidation, "close_position", broken)
    ask()
    at_rest()
    with pytest.raises(type(fault)):
        liquidation.step(VENUE, held)
    assert Liquidation.objects.get().events.count() == 1


def test_after_its_time_nothing_more_is_sold(exchange: FakeExchange, order: Order, held: locks.Held) -> None:
    """An execution that comes back an hour later must not sell at prices of then."""
    ask()
    at_rest()
    Liquidation.objects.update(ends_by=timezone.now())
    row = carry_out(exchange, held)
    assert (row.outcome, len(exchange.sent)) == ("the time is over", 1)


def test_a_step_that_forgets_the_time_would_sell_at_prices_of_then(
    exchange: FakeExchange, order: Order, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liquidation, "_reason_to_end", lambda _: "")
    ask()
    at_rest()
    Liquidation.objects.update(ends_by=timezone.now())
    carry_out(exchange, held)
    assert len(exchange.sent) == 2


def test_a_resume_ends_it(exchange: FakeExchange, order: Order, held: locks.Held) -> None:
    ask()
    risk.resume(venue=VENUE, actor="operator", reason="false alarm")
    row = carry_out(exchange, held)
    assert (row.outcome, len(exchange.sent)) == ("trading was resumed", 1)


def test_two_who_ask_get_the_same_one(order: Order) -> None:
    assert ask().pk == ask("0.20").pk
    assert Liquidation.objects.get().slippage == D("0.05")


def test_one_that_nobody_carried_out_in_time_does_not_keep_the_next_one_back(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    first = ask()
    Liquidation.objects.update(ends_by=timezone.now())
    second = ask("0.20")
    assert second.pk != first.pk
    assert second.floors == {order.ticker: "0.2800"}
    first.refresh_from_db()
    assert first.outcome == "the time is over; nobody carried it out"
    assert first.remaining == [{"ticker": order.ticker, "side": "yes", "quantity": "10"}]
    assert AuditEntry.objects.get(verb="liquidation.done").actor == "operator"
    liquidation._finish(first, held, "the time is over")
    assert AuditEntry.objects.filter(verb="liquidation.done").count() == 1, "an end is written down once"


@pytest.mark.parametrize("slippage", ["1.50", "-0.01", "NaN", "Infinity"])
def test_a_slippage_that_is_none_does_nothing(slippage: str) -> None:
    with pytest.raises(liquidation.SlippageOutOfRange):
        ask(slippage)
    assert risk.trading_state(VENUE).mode == "ACTIVE"


def test_who_was_outrun_writes_nothing(exchange: FakeExchange, order: Order, held: locks.Held) -> None:
    ask()
    at_rest()
    Lease.objects.update(holder="another")
    with pytest.raises(locks.Outrun):
        liquidation.step(VENUE, held)
    assert Liquidation.objects.get().events.count() == 1


# --- who carries it out


def test_execution_does_it_in_its_own_round(exchange: FakeExchange, order: Order, held: locks.Held) -> None:
    ask()
    at_rest()
    execution = Execution(
        router=router(exchange),
        reconciler=Reconciler(VENUE, exchange, exchange),  # type: ignore[arg-type]
        news=SimpleNamespace(),  # type: ignore[arg-type]
        stop=threading.Event(),
        on_ready=lambda: None,
    )
    execution._sell_out(held)
    assert execution.router.round(held) == 1


def test_a_market_that_cannot_be_judged_keeps_nobody_from_asking(
    exchange: FakeExchange, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: all floors are looked up in one call, and one odd market refuses the whole way out."""
    known = risk.market_facts

    def odd(tickers: list[str]) -> Any:
        if "ODD-1" in tickers:
            raise ValueError("no such grid")
        return known(tickers)

    monkeypatch.setattr(liquidation.risk, "market_facts", odd)
    Position.objects.create(
        venue=VENUE, ticker="ODD-1", event_ticker="ODD", title="odd", quantity=D(3), cost=D("1.20")
    )
    assert ask().floors == {order.ticker: "0.4300"}


def test_its_fault_keeps_no_cancel_waiting(
    exchange: FakeExchange, order: Order, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise RuntimeError("odd row")

    monkeypatch.setattr(liquidation, "step", broken)
    execution = Execution(
        router=router(exchange),
        reconciler=Reconciler(VENUE, exchange, exchange),  # type: ignore[arg-type]
        news=SimpleNamespace(),  # type: ignore[arg-type]
        stop=threading.Event(),
        on_ready=lambda: None,
    )
    execution._sell_out(held)


def whole(exchange: FakeExchange) -> Any:
    return lambda: (router(exchange), Reconciler(VENUE, exchange, exchange))  # type: ignore[arg-type]


def test_at_the_terminal_it_is_done_in_executions_place_when_that_is_dead(
    exchange: FakeExchange, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "whole_stand_in", whole(exchange))
    told = StringIO()
    call_command("trade", "liquidate", "--yes", "--json", "--within", "20", stdout=told)
    lines = told.getvalue().splitlines()
    assert f"{order.ticker}: selling 10 at 43¢ or better" in lines
    assert json.loads(lines[-1]) == {"id": Liquidation.objects.get().public_id, "over": True, "remaining": []}
    assert not Position.objects.held(VENUE).exists()
    assert risk.trading_state(VENUE).cleared_at is not None


def test_the_terminal_leaves_it_to_an_execution_that_lives(
    exchange: FakeExchange, order: Order, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> Any:
        raise AssertionError("the key was opened although execution lives")

    monkeypatch.setattr(wiring, "whole_stand_in", forbidden)
    row = ask()
    stand_in.sell_out(VENUE, forbidden, pause=lambda _: None)
    assert not Liquidation.objects.get(pk=row.pk).is_over
    assert Lease.objects.get(name="execution").fence == held.fence


def test_an_exchange_out_of_reach_is_said_and_tried_again_until_the_time_is_over(
    exchange: FakeExchange, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(FakeExchange):
        def orders(self, **_: Any) -> Any:
            raise NoAnswer("silence")

    monkeypatch.setattr(wiring, "whole_stand_in", whole(Deaf()))
    monkeypatch.setattr("kalshi_site.management.commands.trade.GRACE", 0.2)
    err = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("trade", "liquidate", "--yes", "--within", "0.3", stderr=err)
    assert ended.value.code == 1
    assert "silence" in err.getvalue()
    assert "E610" in err.getvalue()


def test_at_the_terminal_an_odd_slippage_is_a_usage_fault() -> None:
    with pytest.raises(CommandError, match="E012"):
        call_command("trade", "liquidate", "--yes", "--slippage", "2")
    assert risk.trading_state(VENUE).mode == "ACTIVE"


# --- what it would bring


def test_the_plan_walks_the_book_down_to_the_floor(order: Order) -> None:
    Quote.objects.update(
        levels={"bids": [["0.4800", "4.00"], ["0.4500", "3.00"], ["0.4200", "50.00"]], "asks": []}
    )
    (line,) = liquidation_plan.plan(VENUE, D("0.05")).lines
    assert (line.bid, line.floor, line.sold, line.unsold) == (D("0.48"), D("0.43"), D(7), D(3))
    assert line.proceeds == D("4") * D("0.48") + D("3") * D("0.45")
    assert line.slippage == D("0.09")
    assert line.fee is not None
    assert line.fee > 0


def test_a_no_position_is_sold_to_who_offers_yes(order: Order) -> None:
    Position.objects.update(quantity=D(-5))
    (line,) = liquidation_plan.plan(VENUE, D("0.05")).lines
    assert (line.side.value, line.bid, line.proceeds) == ("no", D("0.50"), D("2.50"))


def test_without_a_bid_the_plan_promises_nothing(order: Order) -> None:
    Quote.objects.update(yes_bid=None, levels={"bids": [], "asks": [["0.5000", "500.00"]]})
    plan = liquidation_plan.plan(VENUE, D("0.05"))
    assert (plan.lines[0].bid, plan.lines[0].proceeds, plan.unsold) == (None, D(0), 1)
    assert (plan.proceeds, plan.slippage, plan.fee) == (D(0), D(0), D(0))


LONG_AGO = timezone.now() - timedelta(days=1)


@pytest.mark.parametrize(
    "unknown",
    [
        {"trusted": False},
        {"as_of": None, "verified_at": None},
        {"as_of": LONG_AGO, "verified_at": LONG_AGO},
        None,
    ],
)
def test_without_a_known_price_the_plan_knows_no_amount(order: Order, unknown: dict[str, Any] | None) -> None:
    """Naive: what nobody knows would bring $0.00, and the sum of all is told too low as if it were known."""
    known = factories.quoted_market()
    Position.objects.create(
        venue=VENUE, ticker=known.ticker, event_ticker=known.event_ticker, quantity=D(2), cost=D(1)
    )
    mine = Quote.objects.filter(market_id=order.ticker)
    mine.delete() if unknown is None else mine.update(**unknown)
    plan = liquidation_plan.plan(VENUE, D("0.05"))
    lines = {line.ticker: line for line in plan.lines}
    blind, sure = lines[order.ticker], lines[known.ticker]
    assert (blind.proceeds, blind.slippage, blind.fee, blind.sold) == (None, None, None, D(0))
    assert sure.proceeds == D("0.96")
    assert (plan.proceeds, plan.slippage, plan.fee, plan.unsold) == (None, None, None, 1)
    assert blind.doubt in as_member("approver").get("/risk/liquidate").content.decode()
    shown = {row["ticker"]: row for row in Caller.of("approver").get("/trading/liquidate").json()["plan"]}
    assert [shown[order.ticker][name] for name in ("proceeds", "slippage", "fee")] == [None, None, None]


# --- the page


def as_member(role: str) -> Client:
    client = Client()
    client.force_login(factories.member(f"{role}2", role))
    return client


def test_the_page_shows_what_it_would_bring_and_does_nothing_yet(order: Order) -> None:
    page = as_member("approver").get("/risk/liquidate").content.decode()
    assert "Estimated proceeds" in page
    assert "$4.80" in page
    assert order.ticker in page
    assert not Liquidation.objects.exists()


def test_without_the_typed_word_nothing_is_done(order: Order) -> None:
    client = as_member("approver")
    for word in ("", "liquidate", "LIQUIDATE!"):
        response = client.post("/risk/liquidate", {"word": word, "slippage": "0.05"})
        assert response.status_code == 422
        assert "Nothing was done" in response.content.decode()
    assert client.post("/risk/liquidate", {"word": "LIQUIDATE", "slippage": "5"}).status_code == 422
    assert not Liquidation.objects.exists()
    assert risk.trading_state(VENUE).mode == "ACTIVE"


def test_enter_in_a_field_liquidates_and_working_it_out_again_does_nothing(order: Order) -> None:
    """A form's first submit button is the one that Enter presses. Naive: Enter works it out again and tells nobody."""
    client = as_member("approver")
    form = client.get("/risk/liquidate").content.decode().split('<form class="sheet-page')[1]
    first, second = re.findall(r"<button[^>]*>", form)[:2]
    assert "stop" in first and 'name="again"' in second
    asked = {"again": "yes", "word": "LIQUIDATE", "slippage": "0.02", "reason": "fire in the hall"}
    page = client.post("/risk/liquidate", asked).content.decode()
    assert 'value="0.02"' in page and 'value="fire in the hall"' in page
    assert not Liquidation.objects.exists()


def test_a_refused_slippage_stays_as_typed_and_is_named(order: Order) -> None:
    refused = as_member("approver").post(
        "/risk/liquidate", {"word": "LIQUIDATE", "slippage": "5", "reason": "fire"}
    )
    page = refused.content.decode()
    assert 'value="5" aria-invalid="true" aria-describedby="slippage-e"' in page and 'value="fire"' in page
    assert 'id="word-e"' not in page


def test_with_the_word_it_is_asked_for_and_progress_is_shown(
    exchange: FakeExchange, order: Order, held: locks.Held
) -> None:
    client = as_member("approver")
    page = client.post("/risk/liquidate", {"word": "LIQUIDATE", "slippage": "0.05"}, follow=True)
    assert "LIQUIDATING." in page.content.decode()
    assert "<b>LIQUIDATING</b>" in client.get("/").content.decode(), "every page says so"
    at_rest()
    carry_out(exchange, held)
    progress = client.get("/risk/liquidate?part=progress").content.decode()
    assert "selling 10 at 43¢ or better" in progress
    assert "Nothing is held any more" in progress
    assert "<html" not in progress
    assert "<b>STOPPED</b>" in client.get("/").content.decode()


def test_one_whose_time_is_over_is_not_shown_at_work_and_the_form_is_there_again(order: Order) -> None:
    ask()
    Liquidation.objects.update(ends_by=timezone.now())
    client = as_member("approver")
    page = client.get("/risk/liquidate").content.decode()
    assert "LIQUIDATING" not in page
    assert "nobody wrote down an end" in page
    assert 'name="word"' in page
    assert client.post("/risk/liquidate", {"word": "LIQUIDATE", "slippage": "0.05"}).status_code == 302
    assert "<b>LIQUIDATING</b>" in client.get("/").content.decode()


@pytest.mark.parametrize("role", ["viewer", "risk", "admin", "auditor", "proposer"])
def test_other_roles_look_and_do_not_sell(role: str) -> None:
    client = as_member(role)
    assert "Liquidating needs the role approver" in client.get("/risk/liquidate").content.decode()
    assert client.post("/risk/liquidate", {"word": "LIQUIDATE"}).status_code == 403
    assert not Liquidation.objects.exists()


# --- the header's word


def test_the_header_says_degraded_while_execution_is_silent() -> None:
    assert "<b>DEGRADED</b>" in as_member("viewer").get("/").content.decode()


def test_the_header_says_trading_while_execution_lives(held: locks.Held) -> None:
    assert "<b>TRADING</b>" in as_member("viewer").get("/").content.decode()


def test_the_header_names_who_when_and_why_and_closer_scopes(held: locks.Held) -> None:
    risk.pause(venue=VENUE, actor="risk1", reason="odd fills")
    risk.halt(venue=VENUE, actor="risk1", reason="x", scope="series:SIMTEST")
    page = as_member("viewer").get("/").content.decode()
    assert "by risk1: “odd fills”" in page
    assert "Stopped for the series SIMTEST." in page


# --- REST


def test_over_rest_it_takes_the_word_and_a_key_and_is_done_once(order: Order) -> None:
    caller = Caller.of("approver", username="approver3")
    assert code_of(caller.post("/trading/liquidate", {"confirm": "LIQUIDATE"}, key=None)) == "E205"
    assert caller.post("/trading/liquidate", {"confirm": "yes"}).status_code == 422
    assert not Liquidation.objects.exists()
    body = {"confirm": "LIQUIDATE", "reason": "fire", "slippage": "0.10"}
    first = caller.post("/trading/liquidate", body, key="one")
    assert first.status_code == 200, first.content
    assert first.json()["floors"] == {order.ticker: "0.3800"}
    assert caller.post("/trading/liquidate", body, key="one").json() == first.json()
    assert Liquidation.objects.count() == 1
    shown = caller.get("/trading/liquidate").json()
    assert shown["last"]["id"] == first.json()["id"]
    assert shown["plan"][0]["proceeds"] == "4.800000"
    assert [step["text"] for step in shown["last"]["steps"]] == ["fire"]


def test_a_liquidation_outlasts_the_verdict_on_an_exit_that_was_lost() -> None:
    rule = Evidence()
    assert rule.latest_arrival + rule.scans * (rule.scan_gap + update_cycle.INTERVAL) < liquidation.WITHIN
