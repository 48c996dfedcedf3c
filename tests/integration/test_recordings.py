"""Real recordings: our book equals an independent fold of the files; damage never gives a wrong book."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trading.domain.book import Book
from trading.domain.orders import BookSide
from trading.recordings.definitions import definition_of, read_definitions
from trading.recordings.fold import Depth, fold
from trading.recordings.messages import Gap, Received, apply
from trading.recordings.reader import NoRecordingError, Tally, read_market, recorded_tickers

pytestmark = pytest.mark.slow

ROOT = Path(os.environ.get("KALSHI_RECORDINGS", ""))
TICKERS = sorted(f.name for f in (ROOT / "events").iterdir()) if os.environ.get("KALSHI_RECORDINGS") else []
INSTANTS = 1_000
needs_recordings = pytest.mark.skipif(not TICKERS, reason="KALSHI_RECORDINGS does not point at recordings")
if not TICKERS:
    TICKERS = ["none"]


def raw_lines(ticker: str) -> Iterator[dict[str, Any]]:
    """The files as they lie there, without our reader."""
    for file in sorted((ROOT / "events" / ticker).iterdir()):
        with gzip.open(file, "rt") as stream:
            yield from map(json.loads, stream)


def raw_books(ticker: str, instants: list[int]) -> Iterator[tuple[Depth, Depth]]:
    """YES bids and NO bids at each instant, folded in Decimals straight from the files."""
    yes: Depth = {}
    no: Depth = {}
    lines = raw_lines(ticker)
    ahead = next(lines, None)
    for instant in instants:
        while ahead is not None and ahead["recv_ms"] <= instant:
            msg, kind = ahead["event"]["msg"], ahead["event"]["type"]
            if kind == "orderbook_snapshot":
                yes = {Decimal(p): Decimal(c) for p, c in msg.get("yes_dollars_fp", [])}
                no = {Decimal(p): Decimal(c) for p, c in msg.get("no_dollars_fp", [])}
            elif kind == "orderbook_delta":
                side, price = yes if msg["side"] == "yes" else no, Decimal(msg["price_dollars"])
                side[price] = side.get(price, Decimal(0)) + Decimal(msg["delta_fp"])
            ahead = next(lines, None)
        yield {p: c for p, c in yes.items() if c}, {p: c for p, c in no.items() if c}


def our_books(messages: Iterator[Received], instants: list[int]) -> Iterator[Book]:
    book = Book("under test")
    ahead = next(messages, None)
    for instant in instants:
        while ahead is not None and ahead.recv_ms <= instant:
            apply(book, ahead)
            ahead = next(messages, None)
        yield book


def no_bids(book: Book) -> Depth:
    return {1 - price: count for price, count in book.levels(BookSide.ASK)}


@needs_recordings
@pytest.mark.parametrize("ticker", TICKERS)
def test_our_book_equals_a_plain_fold_of_the_files_at_random_instants(ticker: str) -> None:
    received = list(read_market(ROOT, ticker))
    chance = random.Random(ticker)
    first, last = received[0].recv_ms, received[-1].recv_ms
    instants = sorted(chance.randint(first, last) for _ in range(INSTANTS))
    sampled = chance.choice(instants)
    pairs = zip(instants, our_books(iter(received), instants), raw_books(ticker, instants), strict=True)
    for instant, book, (yes, no) in pairs:
        assert dict(book.levels(BookSide.BID)) == yes
        assert no_bids(book) == no
        assert (book.top().yes_bid, book.top().yes_ask) == (
            max(yes, default=None),
            1 - max(no) if no else None,
        )
        if instant == sampled:
            assert fold(received, instant) == (yes, no)


@needs_recordings
@pytest.mark.parametrize("ticker", TICKERS)
def test_every_recorded_market_has_a_definition_and_a_settlement(ticker: str) -> None:
    market = definition_of(ROOT, ticker)
    assert market.open_at < market.close_at <= market.settled_at
    assert (market.result, Decimal(market.settlement_value)) in [("yes", Decimal(1)), ("no", Decimal(0))]
    assert market.event["event_ticker"] == market.market["event_ticker"]


@needs_recordings
def test_the_whole_recording_reads_without_loss() -> None:
    tally = Tally()
    for ticker in recorded_tickers(ROOT)[:3]:
        assert sum(1 for _ in read_market(ROOT, ticker, tally)) > 10_000
    assert (tally.unreadable, tally.truncated_files, tally.repeated, tally.gaps) == (0, 0, 0, 0)


# What follows needs no recordings: small files are written here.

TICKER = "SIMT-1"


def snapshot(seq: int, yes: str = "5.00", recv_ms: int = 0, sid: int = 1) -> bytes:
    msg = {"market_ticker": TICKER, "yes_dollars_fp": [["0.3000", yes]]}
    return line("orderbook_snapshot", seq, msg, recv_ms, sid)


def delta(seq: int, change: str, recv_ms: int = 0, sid: int = 1) -> bytes:
    msg = {"market_ticker": TICKER, "price_dollars": "0.3000", "delta_fp": change, "side": "yes", "ts_ms": 1}
    return line("orderbook_delta", seq, msg, recv_ms, sid)


def line(kind: str, seq: int, msg: dict[str, Any], recv_ms: int, sid: int) -> bytes:
    event = {"type": kind, "sid": sid, "seq": seq, "msg": msg}
    return json.dumps({"recv_ms": recv_ms, "event": event}).encode() + b"\n"


def write(root: Path, *days: bytes) -> Path:
    folder = root / "events" / TICKER
    folder.mkdir(parents=True)
    for number, content in enumerate(days, start=1):
        (folder / f"2026-08-{number:02}.ndjson.gz").write_bytes(gzip.compress(content))
    return root


def quantity_after(root: Path, tally: Tally) -> Decimal | None:
    """What our book says at the end, or None when it says that it knows nothing."""
    book = Book(TICKER)
    for received in read_market(root, TICKER, tally):
        apply(book, received)
    return book.top().yes_bid_quantity if book.is_current else None


def test_a_second_day_without_a_snapshot_continues_the_first(tmp_path: Path) -> None:
    root = write(tmp_path, snapshot(1) + delta(4, "1.25"), delta(9, "-2.00"))
    assert quantity_after(root, Tally()) == Decimal("4.25")


@pytest.mark.parametrize(
    "bad",
    [
        b'{"recv_ms": 1, "event": {"type": "orderbook_de\n',
        b"\x00\xff\n",
        delta(3, "half"),
        delta(3, "1.001"),
        b"[]\n",
    ],
)
def test_after_a_bad_line_the_book_is_unknown_until_the_next_snapshot(tmp_path: Path, bad: bytes) -> None:
    tally = Tally()
    root = write(tmp_path, snapshot(1) + bad + delta(5, "1.00"))
    assert quantity_after(root, tally) is None
    assert (tally.unreadable, tally.gaps) == (1, 1)
    healed = write(tmp_path / "healed", snapshot(1) + bad + delta(5, "1.00") + snapshot(6, "7.00"))
    assert quantity_after(healed, Tally()) == Decimal("7.00")


def test_a_file_cut_short_is_counted_and_the_book_unknown_until_the_next_snapshot(tmp_path: Path) -> None:
    changes = b"".join(delta(seq, f"{seq}.{seq % 100:02}") for seq in range(2, 3_000))
    root = write(tmp_path, snapshot(1) + changes, delta(4_000, "1.00"))
    first = root / "events" / TICKER / "2026-08-01.ndjson.gz"
    first.write_bytes(first.read_bytes()[:-2_000])
    tally = Tally()
    assert quantity_after(root, tally) is None
    assert tally.truncated_files == 1
    assert tally.messages["delta"] > 100


def test_a_repeated_message_counts_once(tmp_path: Path) -> None:
    tally = Tally()
    root = write(tmp_path, snapshot(1) + delta(2, "1.00") + delta(2, "1.00"))
    assert (quantity_after(root, tally), tally.repeated) == (Decimal("6.00"), 1)


@pytest.mark.parametrize("after", [delta(1, "1.00"), delta(9, "1.00", sid=2)])
def test_a_new_connection_without_a_snapshot_is_a_gap(tmp_path: Path, after: bytes) -> None:
    root = write(tmp_path, snapshot(2) + after)
    assert any(isinstance(received.event, Gap) for received in read_market(root, TICKER))
    assert quantity_after(root, Tally()) is None
    assert fold(read_market(root, TICKER), 10) is None


def test_messages_of_other_channels_are_counted_and_passed_over(tmp_path: Path) -> None:
    tally = Tally()
    ticker_line = line("ticker", 2, {"market_ticker": TICKER}, 0, 3)
    assert quantity_after(write(tmp_path, snapshot(1) + ticker_line), tally) == Decimal("5.00")
    assert (tally.other, tally.unreadable) == (1, 0)


def test_a_missing_recording_or_definition_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(NoRecordingError, match=TICKER):
        list(read_market(tmp_path, TICKER))
    with pytest.raises(NoRecordingError, match=TICKER):
        definition_of(tmp_path, TICKER)
    with pytest.raises(NoRecordingError, match="no recordings"):
        recorded_tickers(tmp_path)


def test_a_definition_without_its_settlement_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "E.json").write_text('{"response": {"event": {}, "markets": [{"ticker": "T"}]}}')
    with pytest.raises(ValueError, match=r"E\.json"):
        read_definitions(tmp_path)
