"""The replayed world over the real engine: its public book is the recorded one, its outcomes the recorded ones.

The clock is moved by hand, so nothing here waits.
"""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trading.domain.matching import to_ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper import entry
from trading.paper.exchange import Exchange
from trading.paper.journal import Journal
from trading.paper.records import AccountOpened
from trading.paper.replay import Phase, ReplayWorld
from trading.paper.tickets import Ticket
from trading.recordings.fold import Depth, fold
from trading.recordings.reader import NoRecordingError, read_market

pytestmark = pytest.mark.slow

RECORDED = os.environ.get("KALSHI_RECORDINGS", "")
ROOT = Path(RECORDED)
SHORT, NEXT = "KXGOLD15M-26AUG101900-00", "KXGOLD15M-26AUG101930-30"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
needs_recordings = pytest.mark.skipif(not RECORDED, reason="KALSHI_RECORDINGS does not point at recordings")
Levels = dict[Decimal, Decimal]


class Stage:
    """An exchange whose clock the test moves, and a world on it."""

    def __init__(self, home: Path, world: ReplayWorld, now: datetime = START) -> None:
        self.now = now
        self.world = world
        self.journal = Journal(home / "journal")
        self.exchange = Exchange(self.journal, clock=lambda: self.now)
        self.exchange.open_account(AccountOpened("desk", "desk", Decimal(10_000)))
        self.world.begin(self.exchange)

    def pass_time(self, seconds: float, *, budget: float = float("inf")) -> None:
        self.now += timedelta(seconds=seconds)
        self.exchange.pass_time()
        self.world.advance(self.exchange, budget)

    def public_book(self, ticker: str) -> tuple[Levels, Levels]:
        """YES bids and NO bids in Decimals."""
        book = self.exchange.listing(ticker).book
        bids = {Decimal(t).scaleb(-4): Decimal(n).scaleb(-2) for t, n in book.levels(BookSide.BID)}
        asks = {1 - Decimal(t).scaleb(-4): Decimal(n).scaleb(-2) for t, n in book.levels(BookSide.ASK)}
        return bids, asks

    def take(self, ticker: str, side: BookSide, price: str, count: str) -> None:
        taker = Ticket(ticker, side, count, price, TimeInForce.IOC, "taker_at_cross")
        entry.create(self.exchange, "desk", taker)


def recorded_ms(stage: Stage) -> int:
    """The first play's recorded time at the stage's present."""
    redating = stage.world.plays[0].redating
    return int((redating.recorded + (stage.now.timestamp() - redating.wall) * redating.speed) * 1000)


@needs_recordings
async def test_the_public_book_is_the_recorded_one_and_the_outcome_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ReplayWorld(ROOT, 60, [SHORT]))
    received = list(read_market(ROOT, SHORT))
    play = stage.world.plays[0]
    checked = 0
    stage.pass_time(0.000_008)  # half a recorded millisecond: no message falls on an instant that is compared
    while play.phase is Phase.PLAYING:
        book: tuple[Depth, Depth] | None = fold(received, recorded_ms(stage))
        assert stage.public_book(SHORT) == book
        checked += 1
        for _ in range(3):
            stage.pass_time(0.31)
    assert checked > 12
    while play.phase is not Phase.DONE:
        stage.pass_time(0.05)
    listing = stage.exchange.listing(SHORT)
    assert listing.status.value == "finalized"
    assert listing.result == play.market.result
    assert listing.value_ticks == to_ticks(play.market.settlement_value)
    assert listing.definition["expiration_value"] == play.market.expiration_value
    assert play.faults == 0
    assert len(listing.trades) == sum(type(r.event).__name__ == "Trade" for r in received) - unplayed(
        received
    )


def unplayed(received: list[Any]) -> int:
    """Prints in the first snapshot's instant are part of the book that the replay begins with."""
    return sum(type(r.event).__name__ == "Trade" for r in received if r.recv_ms <= received[0].recv_ms)


@needs_recordings
async def test_the_desk_trades_against_the_recorded_book_and_is_paid_the_recorded_value(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, ReplayWorld(ROOT, 60, [SHORT]))
    stage.pass_time(1)
    no_bids = stage.public_book(SHORT)[1]
    best_ask = 1 - max(no_bids)
    stage.take(SHORT, BookSide.BID, f"{best_ask:.4f}", "2.50")
    account = stage.exchange.ledger.accounts["desk"]
    assert account.position_lots(SHORT) == 250
    assert [fill.price_ticks for fill in account.fills] == [to_ticks(best_ask)]
    assert stage.public_book(SHORT)[1].get(max(no_bids), Decimal(0)) == no_bids[max(no_bids)] - Decimal(
        "2.50"
    )
    while stage.world.plays[0].phase is not Phase.DONE:
        stage.pass_time(0.5)
    paid = Decimal("2.50") * Decimal(stage.world.plays[0].market.settlement_value)
    fees = sum(fill.fee for fill in account.fills)
    assert account.balance == Decimal(10_000) - Decimal("2.50") * best_ask - fees + paid
    assert [settlement.revenue for settlement in account.settlements] == [paid]


@needs_recordings
async def test_definitions_are_on_the_wall_clock_and_tell_nothing_of_the_outcome(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ReplayWorld(ROOT, 30, [SHORT, NEXT]))
    for play in stage.world.plays:
        listing = stage.exchange.listing(play.ticker)
        recorded = play.market
        assert listing.status.value == "active"
        assert listing.opens_at <= START < listing.closes_at < START + timedelta(seconds=30)
        assert (listing.closes_at - listing.opens_at) * 30 == recorded.close_at - recorded.open_at
        assert (listing.result, listing.value_ticks) == ("", None)
        assert listing.definition["floor_strike"] == recorded.market["floor_strike"]
        shown = json.dumps(listing.payload(stage.exchange.now_ms()))
        assert recorded.expiration_value not in shown.replace(str(recorded.market["floor_strike"]), "")
        assert "Replay of a recording of 2026-08-10" in shown


@needs_recordings
async def test_without_a_choice_the_next_market_begins_as_the_last_one_closes(tmp_path: Path) -> None:
    world = ReplayWorld(ROOT, 120)
    stage = Stage(tmp_path, world)
    assert len(world.plays) == 14
    assert [play.begins_at for play in world.plays[1:]] == pytest.approx(
        [play.closes_at for play in world.plays[:-1]]
    )
    assert stage.world.plays[1].phase is Phase.WAITING
    while world.plays[0].phase is Phase.PLAYING:
        stage.pass_time(0.25)
    stage.pass_time(0.25)
    assert world.plays[1].phase is Phase.PLAYING
    assert stage.public_book(world.plays[1].ticker) != ({}, {})


@needs_recordings
async def test_after_a_restart_a_touched_market_goes_on_where_the_clock_is(tmp_path: Path) -> None:
    first = Stage(tmp_path, ReplayWorld(ROOT, 60, [SHORT]))
    first.pass_time(2)
    no_bids = first.public_book(SHORT)[1]
    first.take(SHORT, BookSide.BID, f"{1 - max(no_bids):.4f}", "1.00")
    await written(first)
    again = Stage(tmp_path, ReplayWorld(ROOT, 10, [SHORT]), first.now + timedelta(seconds=3))
    assert again.world.plays[0].redating.to_wall(0) == pytest.approx(
        first.world.plays[0].redating.to_wall(0), abs=1
    )
    assert again.public_book(SHORT) == fold(read_market(ROOT, SHORT), recorded_ms(again))
    assert again.exchange.ledger.accounts["desk"].position_lots(SHORT) == 100
    late = Stage(tmp_path, ReplayWorld(ROOT, 10, [SHORT]), first.now + timedelta(hours=3))
    assert late.exchange.ledger.accounts["desk"].settlements[0].revenue == Decimal(
        late.world.plays[0].market.settlement_value
    )


async def written(stage: Stage) -> None:
    """The process ends: what it journaled is on the disk."""
    stage.journal.start()
    await stage.journal.close()


# What follows needs no recordings: a small one is written here.

TICKER = "KXTEST-1-1"
T0 = 1_786_400_000_000


def recording(root: Path, *lines: bytes) -> Path:
    (root / "events" / TICKER).mkdir(parents=True)
    (root / "metadata").mkdir()
    (root / "events" / TICKER / "2026-08-10.ndjson.gz").write_bytes(gzip.compress(b"".join(lines)))
    event = {"event_ticker": "KXTEST-1", "series_ticker": "KXTEST", "title": "Test"}
    market = {
        "ticker": TICKER, "event_ticker": "KXTEST-1", "result": "no", "settlement_value_dollars": "0.0000",
        "expiration_value": "1", "open_time": moment(-60), "close_time": moment(600),
        "settlement_ts": moment(605), "settlement_timer_seconds": 1,
    }  # fmt: skip
    (root / "metadata" / "KXTEST-1.json").write_text(
        json.dumps({"response": {"event": event, "markets": [market]}})
    )
    return root


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(T0 / 1000 + seconds, UTC).isoformat()


def line(seconds: float, seq: int, kind: str, **msg: Any) -> bytes:
    event = {"type": kind, "sid": 1, "seq": seq, "msg": {"market_ticker": TICKER, **msg}}
    return json.dumps({"recv_ms": T0 + int(seconds * 1000), "event": event}).encode() + b"\n"


def snapshot(seconds: float, seq: int, count: str) -> bytes:
    levels = {"yes_dollars_fp": [["0.3000", count]], "no_dollars_fp": [["0.6000", "9.00"]]}
    return line(seconds, seq, "orderbook_snapshot", **levels)


def delta(seconds: float, seq: int, change: str) -> bytes:
    return line(seconds, seq, "orderbook_delta", price_dollars="0.3000", delta_fp=change, side="yes")


async def test_a_damaged_stretch_shows_no_book_until_the_next_snapshot(tmp_path: Path) -> None:
    root = recording(
        tmp_path / "r",
        snapshot(0, 1, "5.00"),
        b"{broken\n",
        delta(20, 3, "1.00"),
        snapshot(30, 9, "7.00"),
        delta(40, 11, "-8.00"),
        snapshot(50, 12, "6.00"),
    )
    stage = Stage(tmp_path, ReplayWorld(root))
    seen = []
    for _ in range(6):
        seen.append(stage.public_book(TICKER)[0].get(Decimal("0.3"), Decimal(0)))
        stage.pass_time(10)
    assert seen == [Decimal(n) for n in ("0", "0", "0", "7", "0", "6")]
    assert stage.world.plays[0].faults == 1


def trade(seconds: float, seq: int, count: str, **fields: bool) -> bytes:
    sides = {"taker_side": "no", "taker_outcome_side": "no", "taker_book_side": "ask"}
    told = {"trade_id": f"t-{seq}", "yes_price_dollars": "0.3000", "no_price_dollars": "0.7000", **sides}
    return line(seconds, seq, "trade", count_fp=count, ts_ms=T0 + int(seconds * 1000), **told, **fields)


async def test_a_block_trade_passed_no_queue_and_fills_nothing(tmp_path: Path) -> None:
    blocked = trade(10, 2, "50.00", is_block_trade=True)
    root = recording(tmp_path / "r", snapshot(0, 1, "5.00"), blocked, trade(20, 3, "6.00"))
    stage = Stage(tmp_path, ReplayWorld(root))
    ours = Ticket(TICKER, BookSide.BID, "2.00", "0.30", TimeInForce.GTC, "taker_at_cross")
    order_id = entry.create(stage.exchange, "desk", ours).order_id
    filled = []
    for _ in range(2):
        stage.pass_time(11)
        filled.append(stage.exchange.ledger.accounts["desk"].orders[order_id].filled_lots)
    assert filled == [0, 100], "six traded: five stood ahead, one is ours"


async def test_a_slow_machine_moves_the_replay_back_instead_of_cutting_it(tmp_path: Path) -> None:
    changes = [delta(1 + number / 20, 2 + number, "1.00") for number in range(1_000)]
    root = recording(tmp_path / "r", snapshot(0, 1, "5.00"), *changes)
    stage = Stage(tmp_path, ReplayWorld(root, 20))
    closes_at = stage.exchange.listing(TICKER).closes_at
    for _ in range(10):
        stage.pass_time(3, budget=0)
    assert stage.exchange.listing(TICKER).closes_at > closes_at + timedelta(seconds=5)
    for _ in range(200):
        stage.pass_time(0.25)
    assert stage.exchange.status(TICKER) == "finalized"
    assert stage.world.is_over


async def test_run_ends_when_the_recording_has_ended(tmp_path: Path) -> None:
    root = recording(tmp_path / "r", snapshot(0, 1, "5.00"), delta(1, 2, "1.00"))
    world = ReplayWorld(root, 5_000)
    exchange = Exchange(Journal(tmp_path / "journal"))
    await world.run(exchange)
    assert exchange.status(TICKER) == "finalized"
    assert exchange.listing(TICKER).result == "no"


def test_what_cannot_be_replayed_is_refused_by_name(tmp_path: Path) -> None:
    root = recording(tmp_path, snapshot(0, 1, "5.00"))
    assert ReplayWorld(root, 2).describe() == "replay of 1 recorded markets one after another, speed 2"
    with pytest.raises(NoRecordingError, match="KXNONE"):
        ReplayWorld(root, 1, ["KXNONE"])
    with pytest.raises(NoRecordingError, match="no recordings"):
        ReplayWorld(tmp_path / "empty")
    with pytest.raises(ValueError, match="speed"):
        ReplayWorld(root, 0)
