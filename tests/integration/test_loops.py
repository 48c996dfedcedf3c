"""The two loops: one cycle per slot, no trade without an idea, stale holders refused, books that agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.models import AuditEntry
from portfolio import ledger, risk
from portfolio.models import EquityPoint, Position
from tests import factories
from tests.fakes import FakeExchange
from trading.agent.forecaster import OfflineAnalyst
from trading.agent.schemas import Forecast, MarketBrief, Refusal
from trading.domain.orders import Side
from trading.engine.decision_cycle import decision_cycle
from trading.engine.housekeeping import forget
from trading.engine.ideas import Appetite
from trading.engine.update_cycle import standing_drift, update_cycle
from trading.exchange.errors import NoAnswer
from trading.exchange.reports import PublicTrade, SettlementReport
from trading.execution.reconcile import Reconciler
from trading.models import Cycle, Market, Quote

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Tape:
    """Public trades of one market at one price."""

    def __init__(self, ticker: str, price: str, count: int = 12) -> None:
        now = timezone.now()
        self.prints = [
            PublicTrade(f"t{n}", ticker, D(price), D(20), Side.YES, now - timedelta(seconds=5 * n), False)
            for n in range(count)
        ]

    def trades(self, *, since: datetime | None = None) -> list[PublicTrade]:
        return self.prints


class Broken:
    name = "broken"

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        raise RuntimeError("no model today")


def look(tape: Any, analyst: Any = None, **appetite: Any) -> Any:
    return decision_cycle(
        venue=VENUE, analyst=analyst or OfflineAnalyst(), public=tape, appetite=Appetite(**appetite)
    )


@pytest.fixture
def market() -> Market:
    factories.funded()
    return factories.quoted_market(
        close_at=timezone.now() + timedelta(days=3)
    )  # far off: old trades still tell


def test_a_touch_far_below_what_was_paid_becomes_a_proposal(market: Market) -> None:
    done = look(Tape(market.ticker, "0.58"))
    proposal = Proposal.objects.get()
    assert done.proposed == [proposal.public_id]
    assert (proposal.state, proposal.action, proposal.side) == ("pending", "buy", "yes")
    assert proposal.limit_price == D("0.52"), "two cents of the edge may go to a moving price"
    assert proposal.limit_price * proposal.quantity <= D(140)
    sources = [claim["source"] for claim in proposal.forecast["claims"]]
    assert sources == ["market.trades", "market.book", "analyst"]
    assert D(proposal.forecast["low"]) <= D(proposal.forecast["probability"]) <= D(proposal.forecast["high"])


def test_near_the_close_old_trades_tell_nothing(market: Market) -> None:
    Market.objects.update(close_at=timezone.now() + timedelta(minutes=5))
    assert look(Tape(market.ticker, "0.58")).reasons == {"no edge after the fee": 1}


def test_a_touch_above_what_was_paid_buys_no(market: Market) -> None:
    look(Tape(market.ticker, "0.40"))
    proposal = Proposal.objects.get()
    assert (proposal.side, proposal.limit_price) == ("no", D("0.54"))


def test_a_fair_price_is_no_idea_and_says_why(market: Market) -> None:
    assert look(Tape(market.ticker, "0.49")).reasons == {"no edge after the fee": 1}
    assert not Proposal.objects.exists()
    assert Cycle.objects.get().detail["reasons"] == {"no edge after the fee": 1}


@pytest.mark.parametrize(
    ("quote", "tape", "reason"),
    [
        ({"yes_ask": None}, "0.58", "one side of the book is empty"),
        ({"trusted": False}, "0.58", "one side of the book is empty"),
        ({"yes_bid": D("0.30")}, "0.58", "the spread is 20¢"),
        ({}, "0.99", "an edge too large to be true"),
    ],
)
def test_odd_markets_are_left_alone(market: Market, quote: dict[str, Any], tape: str, reason: str) -> None:
    Quote.objects.update(**quote)
    assert look(Tape(market.ticker, tape)).reasons == {reason: 1}
    assert not Proposal.objects.exists()


def test_a_strike_off_the_line_through_its_event_becomes_a_proposal() -> None:
    factories.funded()
    prices = {"10": "0.80", "20": "0.64", "30": "0.36", "40": "0.28"}
    for strike, ask in prices.items():
        row = factories.MarketFactory(
            ticker=f"SIMTEST-1-T{strike}", strike_type="greater_or_equal", floor_strike=strike
        )
        factories.QuoteFactory(market=row, yes_ask=D(ask), yes_bid=D(ask) - D("0.02"), levels=levels(ask))
    look(Tape("NONE", "0.50"), per_cycle=1)
    proposal = Proposal.objects.get()
    assert (proposal.ticker, proposal.side, proposal.limit_price) == ("SIMTEST-1-T30", "yes", D("0.38"))
    assert proposal.forecast["claims"][0]["source"] == "event.strikes"


def levels(ask: str) -> dict[str, list[list[str]]]:
    return {"bids": [[str(D(ask) - D("0.02")), "500.00"]], "asks": [[ask, "500.00"]]}


def test_a_held_market_that_waits_for_its_settlement_stops_no_other(market: Market) -> None:
    closed = factories.MarketFactory(close_at=timezone.now() - timedelta(minutes=1), status="closed")
    Position.objects.create(
        venue=VENUE, ticker=closed.ticker, event_ticker=closed.event_ticker, quantity=D(40), cost=D(16)
    )
    assert len(look(Tape(market.ticker, "0.58")).proposed) == 1


def test_an_analyst_that_breaks_is_no_idea(market: Market) -> None:
    assert look(Tape(market.ticker, "0.58"), Broken()).reasons == {"the analyst failed": 1}


def test_a_slot_runs_once_however_often_the_task_is_delivered(market: Market) -> None:
    tape = Tape(market.ticker, "0.58")
    for_long = timedelta(days=10_000)  # the next slot begins in 2052
    first, second = look(tape, interval=for_long), look(tape, interval=for_long)
    assert first is not None and second is None
    assert Proposal.objects.count() == 1


def test_a_market_rests_after_an_idea(market: Market) -> None:
    tape = Tape(market.ticker, "0.58")
    look(tape, interval=timedelta(milliseconds=1))
    assert look(tape, interval=timedelta(milliseconds=1)).studied == 0


def test_a_pause_makes_no_proposals(market: Market) -> None:
    risk.pause(venue=VENUE, actor="operator", reason="lunch")
    assert look(Tape(market.ticker, "0.58")).reasons == {"trading is paused or stopped": 1}


def test_what_is_held_and_overpaid_by_the_market_is_proposed_for_sale(market: Market) -> None:
    Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=D(40), cost=D(16)
    )
    look(Tape(market.ticker, "0.42"))
    proposal = Proposal.objects.get()
    assert (proposal.action, proposal.side, proposal.quantity, proposal.reduce_only) == (
        "sell",
        "yes",
        D(40),
        True,
    )


def test_without_redis_the_analyst_stops(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/redis.sock")
    assert look(Tape(market.ticker, "0.58")) is None
    assert not Cycle.objects.exists()


def reconciler(exchange: FakeExchange) -> Reconciler:
    return Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]


def test_without_redis_the_comparison_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/redis.sock")
    assert update_cycle(reconciler=reconciler(FakeExchange())) is not None


def test_the_first_comparison_opens_the_account_and_draws_a_point_of_equity() -> None:
    found = update_cycle(reconciler=reconciler(FakeExchange()))
    assert found is not None and found.is_clean
    assert ledger.cash(VENUE) == D(10_000)
    assert EquityPoint.objects.get().equity == D(10_000)


def test_what_must_hold_is_asked_also_while_the_exchange_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Naive: it is asked after a comparison that came to its end, and a day's outage hides every breach."""
    exchange = FakeExchange()
    Position.objects.create(venue=VENUE, ticker="SIMX", event_ticker="SIMX", cost=D(1))

    def silent(**_: Any) -> Any:
        raise NoAnswer("no answer")

    monkeypatch.setattr(exchange, "orders", silent)
    with pytest.raises(NoAnswer):
        update_cycle(reconciler=reconciler(exchange))
    cycle = Cycle.objects.get()
    assert (cycle.outcome, cycle.detail["broken"]) == ("failed", {"costly_nothing": 1})


def test_a_difference_seen_twice_is_drift() -> None:
    exchange = FakeExchange()
    judge, often = reconciler(exchange), timedelta(milliseconds=1)
    update_cycle(reconciler=judge, interval=often)
    exchange.cash -= D("1.25")
    update_cycle(reconciler=judge, interval=often)
    assert standing_drift() is None
    update_cycle(reconciler=judge, interval=often)
    assert standing_drift() == D("-1.25")


@pytest.mark.parametrize(("result", "paid"), [("yes", "10"), ("no", "0")])
def test_a_settlement_is_paid_once(result: Any, paid: str) -> None:
    exchange = FakeExchange()
    judge = reconciler(exchange)
    market = factories.quoted_market()
    often = timedelta(milliseconds=1)
    update_cycle(reconciler=judge, interval=often)
    exchange.rest(
        {"client_order_id": "x", "ticker": market.ticker, "side": "bid", "price": "0.40", "count": "10"}
    )
    exchange.execute("venue-1", D(10))
    update_cycle(reconciler=judge, interval=often)
    exchange.settled.append(
        SettlementReport(
            market.ticker,
            market.event_ticker,
            result,
            D(10),
            D(0),
            D(4),
            D(0),
            D(paid),
            D(0),
            None,
            timezone.now(),
            0,
        )
    )
    for _ in range(2):
        judge.settlements(_found(), timezone.now() - timedelta(hours=1))
    position = Position.objects.get()
    assert (position.quantity, position.realized) == (D(0), D(paid) - D(4))
    assert ledger.cash(VENUE) == exchange.cash + D(paid)


def _found() -> Any:
    from trading.execution.comparison import Reconciled

    return Reconciled()


def test_a_paused_holder_writes_nothing_once_another_has_taken_over() -> None:
    with locks.hold("update", ttl=timedelta(milliseconds=1), needs_redis=False) as paused:
        import time

        time.sleep(0.02)
        with locks.hold("update", ttl=timedelta(minutes=1), needs_redis=False) as current:
            assert current.fence > paused.fence
            with pytest.raises(locks.Outrun), transaction.atomic():
                paused.require()
            with transaction.atomic():
                current.require()


def test_the_fence_survives_an_emptied_redis(redis_server: str) -> None:
    import redis

    fences = []
    for _ in range(3):
        with locks.hold("decision", ttl=timedelta(minutes=1), needs_redis=True) as held:
            fences.append(held.fence)
        redis.Redis.from_url(settings.REDIS_URL).flushall()
    assert fences == sorted(set(fences))


def test_old_rounds_are_forgotten_and_trading_facts_are_not(market: Market) -> None:
    look(Tape(market.ticker, "0.58"))
    before = (Proposal.objects.count(), AuditEntry.objects.count())
    assert forget(timezone.now()) == {"keys": 0, "beats": 0, "changes": 0, "cycles": 0, "sessions": 0}
    gone = forget(timezone.now() + timedelta(days=30))
    assert gone["cycles"] == 1
    assert (Proposal.objects.count(), AuditEntry.objects.count()) == before
