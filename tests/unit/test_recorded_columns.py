"""The columns of a recording: the cache is never stale, never believed when damaged, and costs nothing when refused."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from tests.recorded_lines import TICKER, line, made_up, packed, true_books, write_day
from trading.recordings.cache import cache_folder, open_columns
from trading.recordings.columns import DELTA, GAP, SKEW_MS, SNAPSHOT, TRADE, NotKnown
from trading.recordings.notes import Note, encode
from trading.recordings.verify import verify_market

LINES = made_up(3)
STAMPS = [ts for raw in LINES if (ts := json.loads(raw)["event"]["msg"].get("ts_ms")) is not None]
MIDDLE = STAMPS[len(STAMPS) // 2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_day(tmp_path, packed(LINES))


def told(root: Path, at: int = MIDDLE, cache: Path | None = None) -> dict[str, list[list[str]]]:
    with open_columns(root, TICKER, cache or root / "cache") as columns:
        return columns.book_at(at).wire()


def cached(root: Path) -> Path:
    return root / "cache" / f"{TICKER}.columns"


def test_a_second_reading_comes_from_the_cache(root: Path) -> None:
    first = told(root)
    made_at = cached(root).stat().st_mtime_ns
    assert told(root) == first == true_books(LINES, [MIDDLE])[MIDDLE]
    assert cached(root).stat().st_mtime_ns == made_at


def test_a_changed_source_is_never_answered_from_the_old_cache(root: Path) -> None:
    told(root)
    source = root / "events" / TICKER / "2026-08-10.ndjson.gz"
    before = source.stat()
    other = [raw.replace(b'"0.0100"', b'"0.4600"') for raw in LINES]
    source.write_bytes(packed(other).ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(NotKnown):
        told(root, STAMPS[-1] + 10_000)
    write_day(root, packed(other))
    assert told(root) == true_books(other, [MIDDLE])[MIDDLE]


def test_a_second_file_and_a_note_of_the_recorder_make_the_cache_anew(root: Path) -> None:
    told(root)
    later = line(
        "orderbook_delta", 1, 9_000, 1_786_500_000_000, {**change("5.00"), "ts_ms": 1_786_500_000_000}
    )
    write_day(root, packed([later]), name="2026-08-11.ndjson.gz")
    now = told(root, 1_786_500_000_000)["yes"]
    assert Decimal(now[0][1]) - Decimal(dict(told(root, STAMPS[-1])["yes"]).get("0.0100", "0")) == 5
    (root / "session").mkdir()
    (root / "session" / "notes.ndjson").write_bytes(encode(Note(1_786_499_999_999, "disconnected")))
    with pytest.raises(NotKnown, match="disconnected"):
        told(root, 1_786_500_000_000)


def change(count: str) -> dict[str, str]:
    return {"price_dollars": "0.0100", "delta_fp": count, "side": "yes"}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.9999])
def test_a_torn_cache_is_made_anew(root: Path, share: float) -> None:
    truth = told(root)
    whole = cached(root).read_bytes()
    cached(root).write_bytes(whole[: int(len(whole) * share)])
    assert told(root) == truth
    assert cached(root).read_bytes() == whole


@pytest.mark.parametrize("at", range(0, 4_000, 397))
def test_a_cache_with_one_wrong_bit_is_made_anew(root: Path, at: int) -> None:
    truth = told(root)
    whole = bytearray(cached(root).read_bytes())
    whole[at % len(whole)] ^= 4
    cached(root).write_bytes(whole)
    assert told(root) == truth


def test_the_cache_of_another_market_is_not_believed(root: Path) -> None:
    truth = told(root)
    strangers = [raw.replace(TICKER.encode(), b"OTHER-1") for raw in made_up(4)]
    write_day(root, packed(strangers), ticker="OTHER-1")
    with open_columns(root, "OTHER-1", root / "cache"):
        pass
    (root / "cache" / "OTHER-1.columns").replace(cached(root))
    assert told(root) == truth


def test_a_cache_that_cannot_be_written_costs_only_the_cache(root: Path) -> None:
    (root / "taken").write_text("a file where the folder should be")
    assert told(root, cache=root / "taken") == true_books(LINES, [MIDDLE])[MIDDLE]


def test_a_folder_that_is_not_ours_to_write_in_gets_its_cache_elsewhere(root: Path) -> None:
    assert cache_folder(root, root / "elsewhere") == root / ".cache"
    root.chmod(0o555)
    try:
        assert cache_folder(root, root / "elsewhere").parent == root / "elsewhere"
    finally:
        root.chmod(0o755)


def test_every_row_can_be_read_and_searched(root: Path) -> None:
    with open_columns(root, TICKER, root / "cache") as columns:
        rows = list(columns.rows())
        kinds = {"orderbook_snapshot": SNAPSHOT, "orderbook_delta": DELTA, "trade": TRADE}
        assert [row.kind for row in rows] == [kinds[json.loads(raw)["event"]["type"]] for raw in LINES]
        assert [row.recv for row in rows] == [json.loads(raw)["recv_ms"] for raw in LINES]
        changes = [row.ts for row in rows if row.kind == DELTA]
        assert columns.span() == (changes[0], changes[-1])
        assert columns.row_received(rows[50].recv) >= 50
        assert columns.row_received(rows[0].recv - 1) == -1
        assert columns.row_at(changes[0] - 1) == -1


def test_before_the_first_change_nothing_is_known(root: Path) -> None:
    with pytest.raises(NotKnown, match="no change"):
        told(root, min(STAMPS) - 100)


def test_a_gap_leaves_the_books_before_it_and_takes_those_close_to_it(tmp_path: Path) -> None:
    lines = [*LINES[:40], b"junk", *LINES[40:]]
    root = write_day(tmp_path, packed(lines))
    last = max(ts for raw in LINES[:40] if (ts := json.loads(raw)["event"]["msg"].get("ts_ms")) is not None)
    early = last - SKEW_MS - 1
    assert told(root, early) == true_books(LINES, [early])[early]
    with pytest.raises(NotKnown, match="unreadable"):
        told(root, last)
    with open_columns(root, TICKER, root / "cache") as columns:
        assert [row.kind for row in columns.rows()].count(GAP) == 1


def test_a_change_that_no_book_can_take_makes_the_rest_unknown(tmp_path: Path) -> None:
    bad = line(
        "orderbook_delta", 1, 9_000, 1_786_500_000_000, {**change("-999999.00"), "ts_ms": 1_786_500_000_000}
    )
    root = write_day(tmp_path, packed([*LINES, bad]))
    with pytest.raises(NotKnown, match="bid change"):
        told(root, 1_786_500_000_000)


@pytest.mark.parametrize(
    "msg",
    [
        {"price_dollars": "1.5000", "delta_fp": "1.00", "side": "yes"},
        {"price_dollars": "0.0000", "delta_fp": "1.00", "side": "yes"},
        {"price_dollars": "0.0100", "delta_fp": "9" * 40, "side": "yes"},
        {"price_dollars": "0.0100", "delta_fp": "1.00", "side": "yes", "ts_ms": 10**40},
        {"price_dollars": "0.9900", "delta_fp": "1.00", "side": "no"},
    ],
)
def test_an_impossible_change_is_never_a_crash(tmp_path: Path, msg: dict[str, object]) -> None:
    bad = line("orderbook_delta", 1, 9_000, 1_786_500_000_000, {"ts_ms": 1_786_500_000_000, **msg})
    root = write_day(tmp_path, packed([*LINES, bad]))
    with pytest.raises(NotKnown):
        told(root, 1_786_500_000_000)
    assert not verify_market(root, TICKER).clean
