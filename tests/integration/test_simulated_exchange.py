"""The simulated world on the real engine: quoted at once, and a position is paid by nature over a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from trading.domain.orders import BookSide, TimeInForce
from trading.paper import entry
from trading.paper.exchange import Exchange
from trading.paper.journal import Journal
from trading.paper.records import AccountOpened
from trading.paper.simulate import SimulatedWorld
from trading.paper.tickets import Ticket

pytestmark = pytest.mark.slow

START = datetime(2026, 11, 23, 9, 1, tzinfo=UTC)


class Run:
    """One run of the exchange process, on a clock that the test moves."""

    def __init__(self, home: Path, now: datetime) -> None:
        self.now = now
        self.journal = Journal(home / "journal")
        self.exchange = Exchange(self.journal, clock=lambda: self.now)
        self.exchange.open_account(AccountOpened("desk", "desk", Decimal(10_000)))
        self.world = SimulatedWorld(7)
        self.world.begin(self.exchange)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.now += timedelta(seconds=0.25)
            self.exchange.pass_time()
            self.world.step(self.exchange)

    async def end(self) -> None:
        self.journal.start()
        await self.journal.close()


def buy(run: Run, ticker: str, count: str) -> Decimal:
    """Take the best ask; what it cost."""
    price = Decimal(run.exchange.touch(ticker).ask_ticks or 0).scaleb(-4)
    ticket = Ticket(ticker, BookSide.BID, count, f"{price:.4f}", TimeInForce.IOC, "taker_at_cross")
    entry.create(run.exchange, "desk", ticket)
    return price * Decimal(count)


async def test_a_position_is_paid_by_nature_although_the_exchange_was_down_at_the_close(
    tmp_path: Path,
) -> None:
    first = Run(tmp_path, START)
    first.pass_time(5)
    held = list(first.exchange.catalog.of_series("SIMIDX5"))
    ticker = next(item.ticker for item in held if 1_000 < (item.best()[2] or 0) < 9_900)
    cost = buy(first, ticker, "2.50")
    account = first.exchange.ledger.accounts["desk"]
    assert account.position_lots(ticker) == 250
    fee = account.fills[0].fee
    await first.end()
    outcome = first.world.calendar.find(
        ticker, "SIMIDX5", datetime(2026, 11, 23, 9, 0, tzinfo=UTC).timestamp()
    )
    assert outcome is not None

    second = Run(tmp_path, START + timedelta(hours=2))
    account = second.exchange.ledger.accounts["desk"]
    paid = Decimal("2.50") if outcome.outcome() == "yes" else Decimal(0)
    assert [(s.result, s.revenue) for s in account.settlements] == [(outcome.outcome(), paid)]
    assert account.balance == Decimal(10_000) - cost - fee + paid


async def test_a_market_that_was_open_before_the_restart_is_quoted_again(tmp_path: Path) -> None:
    first = Run(tmp_path, START)
    ticker = next(item.ticker for item in first.exchange.catalog.of_series("SIMRAIN"))
    buy(first, ticker, "1.00")
    await first.end()
    second = Run(tmp_path, first.now + timedelta(seconds=20))
    assert second.exchange.restored() == {}
    assert second.exchange.status(ticker) == "active"
    touch = second.exchange.touch(ticker)
    assert touch.bid_lots > 0
    assert touch.ask_lots > 0
    assert second.exchange.ledger.accounts["desk"].position_lots(ticker) == 100


async def test_the_real_engine_takes_every_order_of_the_house(tmp_path: Path) -> None:
    run = Run(tmp_path, START + timedelta(minutes=3, seconds=30))
    run.pass_time(60)  # over the close of one event and the opening of the next; a refusal would raise
    states = [listing.status.value for listing in run.exchange.catalog.listings.values()]
    assert states.count("active") >= 24
    assert states.count("finalized") == 3


async def test_a_fresh_exchange_has_five_minutes_behind_it_and_the_right_time_again(tmp_path: Path) -> None:
    exchange = Exchange(Journal(tmp_path / "journal.jsonl"))
    world = asyncio.create_task(SimulatedWorld(7).run(exchange))
    await asyncio.sleep(0)
    world.cancel()
    began = datetime.now(UTC) - timedelta(minutes=4)
    trades = [trade.at_ms for listing in exchange.catalog.listings.values() for trade in listing.trades]
    assert min(trades) < began.timestamp() * 1000 < max(trades)
    assert abs(exchange.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert any(listing.closes_at <= exchange.now() for listing in exchange.catalog.listings.values())
