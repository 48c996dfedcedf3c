"""The recorder's decisions, with an exchange and a stream made of plain Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trading.domain.markets import MarketStatus
from trading.exchange import events
from trading.exchange.errors import Unreachable
from trading.exchange.stream import Channels, Sink, Tap
from trading.market_data.recorder import Pace, Recorder, TooManyMarkets
from trading.recordings.notes import read_notes
from trading.recordings.writer import RecordingFailed, RecordingWriter

SOON = Pace(turn=0.01, sweep=0.05, progress=0.05)


@dataclass
class Definition:
    ticker: str
    status: MarketStatus = MarketStatus.ACTIVE

    @property
    def event_ticker(self) -> str:
        return self.ticker.rpartition("-")[0]


@dataclass
class Exchange:
    """What the exchange would answer by REST."""

    live: dict[str, Definition] = field(default_factory=dict)
    failures: int = 0
    asked: list[str] = field(default_factory=list)

    def open(self, *tickers: str) -> None:
        self.live |= {ticker: Definition(ticker) for ticker in tickers}

    def markets(self, *, status: str, series_ticker: str | None = None) -> list[Any]:
        if self.failures:
            self.failures -= 1
            raise Unreachable("down")
        wanted = series_ticker or ""
        return [
            m for m in self.live.values() if m.ticker.startswith(wanted) and m.status is MarketStatus.ACTIVE
        ]

    def markets_named(self, tickers: Iterable[str]) -> list[Any]:
        return [self.live[ticker] for ticker in tickers if ticker in self.live]

    def event_as_told(self, ticker: str) -> bytes:
        self.asked.append(ticker)
        return json.dumps({"event": {"event_ticker": ticker}, "markets": []}).encode()


@dataclass
class Wire:
    """A stream that the test speaks through."""

    tap: Tap
    followed: dict[str, set[str]] = field(default_factory=dict)
    sink: Sink | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, sink: Sink) -> None:
        self.sink = sink
        sink(events.Connected(1))
        await self.ended.wait()

    async def stop(self) -> None:
        self.ended.set()

    async def add_markets(self, channel: str, tickers: Iterable[str]) -> None:
        self.followed.setdefault(channel, set()).update(tickers)

    async def remove_markets(self, channel: str, tickers: Iterable[str]) -> None:
        self.followed[channel].difference_update(tickers)


@dataclass
class Stage:
    recorder: Recorder
    exchange: Exchange
    writer: RecordingWriter
    wires: list[Wire]
    said: list[str]

    @property
    def wire(self) -> Wire:
        return self.wires[0]

    @property
    def books(self) -> set[str]:
        return self.wire.followed.get("orderbook_delta", set()) if self.wires else set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)


def stage(root: Path, exchange: Exchange, **options: Any) -> Stage:
    writer, wires, said = RecordingWriter(root), list[Wire](), list[str]()

    def open_stream(channels: Channels, tap: Tap) -> Any:
        assert channels == {"orderbook_delta": [], "trade": [], "market_lifecycle_v2": None}
        wires.append(Wire(tap))
        return wires[-1]

    recorder = Recorder(
        exchange=exchange, writer=writer, open_stream=open_stream, say=said.append, pace=SOON, **options
    )
    return Stage(recorder, exchange, writer, wires, said)


async def finish(it: Stage, running: asyncio.Task[None]) -> None:
    it.recorder.stop()
    await running
    it.writer.close()


async def test_it_follows_the_series_and_whatever_opens_in_it(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.open("GOLD-1-A", "SNOW-1-A")
    it = stage(tmp_path, exchange, series=("GOLD",))
    running = asyncio.create_task(it.recorder.run())
    await it.until(lambda: it.books == {"GOLD-1-A"})
    exchange.open("GOLD-2-A")
    await it.until(lambda: it.books == {"GOLD-1-A", "GOLD-2-A"})
    await it.until(lambda: it.wire.followed["trade"] == it.books)
    await finish(it, running)
    assert sorted(file.name for file in (tmp_path / "metadata").iterdir()) == ["GOLD-1.json", "GOLD-2.json"]


async def test_a_settled_market_is_let_go_with_its_definition_read_again(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.open("GOLD-1-A", "GOLD-2-A")
    it = stage(tmp_path, exchange, series=("GOLD",))
    running = asyncio.create_task(it.recorder.run())
    await it.until(lambda: len(it.books) == 2)
    exchange.live["GOLD-1-A"].status = MarketStatus.FINALIZED
    await it.until(lambda: it.books == {"GOLD-2-A"})
    await finish(it, running)
    assert exchange.asked == ["GOLD-1", "GOLD-2", "GOLD-1"]
    assert any("settled: GOLD-1-A" in line for line in it.said)


async def test_named_markets_are_followed_until_they_are_settled_whatever_their_state(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.open("GOLD-1-A", "GOLD-2-A")
    exchange.live["GOLD-1-A"].status = MarketStatus.CLOSED
    it = stage(tmp_path, exchange, markets=("GOLD-1-A",))
    running = asyncio.create_task(it.recorder.run())
    await it.until(lambda: it.books == {"GOLD-1-A"})
    await finish(it, running)


async def test_an_exchange_that_is_away_is_asked_again(tmp_path: Path) -> None:
    exchange = Exchange(failures=3)
    exchange.open("GOLD-1-A")
    it = stage(tmp_path, exchange)
    running = asyncio.create_task(it.recorder.run())
    await it.until(lambda: it.books == {"GOLD-1-A"})
    await finish(it, running)


async def test_what_the_frames_do_not_say_is_noted(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.open("GOLD-1-A")
    it = stage(tmp_path, exchange)
    running = asyncio.create_task(it.recorder.run())
    await it.until(lambda: it.books == {"GOLD-1-A"})
    assert it.wire.sink is not None
    it.wire.sink(events.Gap("orderbook_delta", "seq 9 after 2", ("GOLD-1-A",)))
    it.wire.sink(events.Gap("trade", "seq 5 after 2"))
    it.wire.sink(events.Disconnected("silence", 1.0))
    await finish(it, running)
    told = [(note.note, note.reason, note.tickers) for note in read_notes(tmp_path).notes]
    assert told == [
        ("started", "", ()),
        ("connected", "", ()),
        ("gap", "seq 9 after 2", ("GOLD-1-A",)),
        ("disconnected", "silence", ()),
        ("stopped", "", ()),
    ]


async def test_a_failed_disk_ends_it(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.open("GOLD-1-A")
    (tmp_path / "metadata").write_text("a file where a folder should be")
    it = stage(tmp_path, exchange)
    with pytest.raises(RecordingFailed, match="definition of GOLD-1"):
        await it.recorder.run()
    it.writer.close()


async def test_more_markets_than_one_recorder_can_follow_are_refused(tmp_path: Path) -> None:
    exchange = Exchange()
    exchange.open(*(f"GOLD-{number}-A" for number in range(1_001)))
    it = stage(tmp_path, exchange)
    with pytest.raises(TooManyMarkets, match="1001 live markets"):
        await it.recorder.run()
    it.writer.close()
