"""Time's work on the exchange: the cutoffs of the archive, reads that lag, the weekly maintenance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.paper_floor import ASK, BID, TICKER, Floor, refusal
from trading.paper.archive import Archive
from trading.paper.conduct import Conduct
from trading.paper.lag import LaggedReads
from trading.paper.maintenance import running, window_of, windows


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path / "journal.jsonl").list_market()


def test_orders_leave_after_two_weeks_and_fills_after_three_months(floor: Floor) -> None:
    archive = Archive(Conduct(), floor.exchange.now)
    floor.send("bob", ASK, "0.40", "10")
    ended, resting = floor.send("alice", BID, "0.40", "10"), floor.send("alice", BID, "0.10", "1")
    (fill,) = floor.exchange.ledger.accounts["alice"].fills
    floor.clock.pass_by(days=14)
    assert not archive.order_test()(ended)
    floor.clock.pass_by(seconds=1)
    assert archive.order_test()(ended)
    assert not archive.order_test()(resting), "what rests never leaves"
    assert not archive.fill_test()(fill)
    floor.clock.pass_by(days=76)
    assert archive.fill_test()(fill)


def test_markets_and_positions_leave_after_their_settlement(floor: Floor) -> None:
    archive = Archive(Conduct(horizon=timedelta(seconds=5)), floor.exchange.now)
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    floor.clock.pass_by(seconds=60)
    listing, account = floor.exchange.listing(TICKER), floor.exchange.ledger.accounts["alice"]
    assert not archive.market_test()(listing)
    assert not any(archive.position_test()(position) for position in account.positions())
    floor.exchange.determine(TICKER, "yes")
    floor.exchange.settle(TICKER)
    assert not archive.market_test()(listing)
    floor.clock.pass_by(seconds=6)
    assert archive.market_test()(listing)
    assert all(archive.position_test()(position) for position in account.settled_positions)
    assert all(archive.settlement_test()(item) for item in account.settlements)


def test_reads_lag_behind_writes_by_the_time_that_they_tell(floor: Floor) -> None:
    lag = LaggedReads(floor.exchange.steps, timedelta(seconds=2), floor.exchange.now)
    order = floor.send("alice", BID, "0.40", "10")
    floor.clock.pass_by(seconds=1.9)
    assert order.order_id not in lag.ledger().accounts["alice"].orders
    floor.clock.pass_by(seconds=0.1)
    assert lag.ledger().accounts["alice"].orders[order.order_id].status == "resting"
    floor.send("bob", ASK, "0.40", "10")
    assert lag.ledger().accounts["alice"].orders[order.order_id].status == "resting"
    assert lag.ledger().accounts["alice"].balance == Decimal(1000)
    assert lag.as_of() == "2026-11-23T12:00:00Z"
    floor.clock.pass_by(seconds=2)
    floor.send("alice", BID, "0.10", "1")
    floor.clock.pass_by(seconds=2)
    caught_up, live = lag.ledger().accounts, floor.exchange.ledger.accounts
    assert caught_up["alice"].orders == live["alice"].orders
    assert {n: a.purses for n, a in caught_up.items()} == {n: a.purses for n, a in live.items()}


def test_without_a_lag_reads_see_every_write(floor: Floor) -> None:
    lag = LaggedReads(floor.exchange.steps, timedelta(0), floor.exchange.now)
    assert lag.ledger() is floor.exchange.ledger
    assert lag.as_of() == "2026-11-23T12:00:00Z"


def test_a_lag_or_a_horizon_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Conduct(read_lag=timedelta(seconds=-1))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "begins", "ends"),
    [
        ("2026-11-25T12:00", "2026-11-26T08:00", "2026-11-26T10:00"),
        ("2026-11-26T09:59", "2026-11-26T08:00", "2026-11-26T10:00"),
        ("2026-11-26T10:00", "2026-12-03T08:00", "2026-12-03T10:00"),
        ("2026-07-01T00:00", "2026-07-02T07:00", "2026-07-02T09:00"),  # summer time
        ("2026-11-27T03:00", "2026-12-03T08:00", "2026-12-03T10:00"),  # still Thursday in the East
    ],
)
def test_the_window_is_thursday_from_three_to_five_in_the_east(moment: str, begins: str, ends: str) -> None:
    window = window_of(at(moment))
    assert (window.begins_at, window.ends_at) == (at(begins), at(ends))


def test_windows_follow_one_another_by_a_week_of_eastern_days() -> None:
    begun = [window.begins_at for window in windows(at("2026-10-20T00:00"))]
    assert begun == [
        at(f"2026-{day}") for day in ("10-22T07:00", "10-29T07:00", "11-05T08:00", "11-12T08:00")
    ]
    assert running(at("2026-10-22T07:00")) is not None
    assert running(at("2026-10-22T09:00")) is None


def test_a_kept_window_pauses_trading_and_ends_by_itself(floor: Floor) -> None:
    floor.exchange.update_market(TICKER, {"close_time": "2027-01-01T00:00:00Z"})
    floor.exchange.upkeep.keeps = True
    stays = floor.send("alice", BID, "0.10", "1")
    goes = floor.send("alice", BID, "0.10", "1", cancel_order_on_pause=True)
    floor.clock.now = at("2026-11-26T08:00")
    floor.exchange.pass_time()
    orders = floor.exchange.ledger.accounts["alice"].orders
    assert [orders[order.order_id].status for order in (stays, goes)] == ["resting", "canceled"]
    assert refusal(lambda: floor.send("alice", BID, "0.10", "1"))[1] == "trading_is_paused"
    assert floor.exchange.upkeep.resumes() == {"exchange_estimated_resume_time": "2026-11-26T10:00:00Z"}
    floor.clock.now = at("2026-11-26T10:00")
    floor.exchange.pass_time()
    assert floor.exchange.upkeep.resumes() == {}
    floor.send("alice", BID, "0.10", "1")


def test_nothing_is_paused_unless_the_window_is_kept(floor: Floor) -> None:
    floor.exchange.update_market(TICKER, {"close_time": "2027-01-01T00:00:00Z"})
    floor.clock.now = at("2026-11-26T08:30")
    floor.exchange.pass_time()
    floor.send("alice", BID, "0.10", "1")
