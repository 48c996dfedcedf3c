"""Whatever happens to a recording's files, no wrong book comes out of them: the true one, or the word that it is not
known. Cut at any byte, lines swapped, repeated, mixed with junk and with other markets' lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recorded_lines import TICKER, Sides, line, made_up, packed, true_books, write_day
from trading.recordings.cache import open_columns
from trading.recordings.columns import NotKnown
from trading.recordings.files import NoRecordingError
from trading.recordings.verify import verify_market

pytestmark = pytest.mark.slow

LINES = made_up(7)
STAMPS = sorted({ts for raw in LINES if (ts := json.loads(raw)["event"]["msg"].get("ts_ms")) is not None})
INSTANTS = sorted({ts + by for ts in STAMPS for by in (-1, 0)} | {STAMPS[-1] + 5_000})
TRUTH = true_books(LINES, INSTANTS)

Damage = tuple[Callable[[list[bytes], int, int, bytes], None], int, int, bytes]

position = st.integers(0, len(LINES) - 1)
junk = st.one_of(
    st.binary(max_size=80).map(lambda raw: raw.replace(b"\n", b" ")),
    st.just(b"{}"),
    st.just(b'{"recv_ms":1,"event":{"type":"orderbook_delta","sid":1,"seq":2,"msg":{}}}'),
    st.just(
        b'{"recv_ms":1,"event":{"type":"ticker","sid":3,"msg":{"market_ticker":"' + TICKER.encode() + b'"}}}'
    ),
    st.sampled_from(LINES).map(lambda raw: raw[: len(raw) // 2]),
)
foreign = st.builds(
    lambda seq, price: line(
        "orderbook_delta",
        1,
        seq,
        1_786_400_000_500,
        {"price_dollars": f"0.{price}00", "delta_fp": "9.00", "side": "yes", "ts_ms": 1_786_400_000_400},
        ticker="OTHER-1",
    ),
    st.integers(1, 2_000),
    st.integers(10, 45),
)


def told(content: bytes, instants: list[int] = INSTANTS) -> dict[int, Sides]:
    """The books that we claim to know from a file with this content."""
    found: dict[int, Sides] = {}
    with TemporaryDirectory() as folder:
        root = write_day(Path(folder), content)
        with open_columns(root, TICKER, root / "cache") as columns:
            for instant in instants:
                try:
                    found[instant] = columns.book_at(instant).wire()
                except NotKnown:
                    continue
        verify_market(root, TICKER)  # never a crash
    return found


def is_never_wrong(content: bytes) -> dict[int, Sides]:
    known = told(content)
    assert {instant: book for instant, book in known.items() if book != TRUTH.get(instant)} == {}
    return known


def test_an_undamaged_recording_is_known_throughout() -> None:
    assert told(packed(LINES)) == TRUTH
    assert len(TRUTH) > 100


@settings(deadline=None, max_examples=20)
@given(st.integers(0, len(packed(LINES)) - 1))
def test_cut_at_any_byte(length: int) -> None:
    is_never_wrong(packed(LINES)[:length])


@settings(deadline=None, max_examples=20)
@given(position, position)
def test_two_lines_swapped(one: int, other: int) -> None:
    lines = list(LINES)
    lines[one], lines[other] = lines[other], lines[one]
    is_never_wrong(packed(lines))


@settings(deadline=None, max_examples=20)
@given(position, position)
def test_a_line_that_comes_again(which: int, where: int) -> None:
    is_never_wrong(packed([*LINES[:where], LINES[which], *LINES[where:]]))


@settings(deadline=None, max_examples=20)
@given(position)
def test_a_line_that_comes_twice_at_once_costs_nothing(which: int) -> None:
    assert is_never_wrong(packed([*LINES[: which + 1], *LINES[which:]])) == TRUTH


@settings(deadline=None, max_examples=20)
@given(junk, position)
def test_junk_between_the_lines(raw: bytes, where: int) -> None:
    is_never_wrong(packed([*LINES[:where], raw, *LINES[where:]]))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(position, foreign), min_size=1, max_size=5))
def test_lines_of_other_markets_cost_nothing(strangers: list[tuple[int, bytes]]) -> None:
    lines = list(LINES)
    for where, raw in strangers:
        lines.insert(where, raw)
    assert is_never_wrong(packed(lines)) == TRUTH


@settings(deadline=None, max_examples=20)
@given(position, st.binary(min_size=1, max_size=4), st.integers(0, 5_000))
def test_bytes_written_over(where: int, patch: bytes, at: int) -> None:
    content = bytearray(packed(LINES))
    at %= len(content)
    content[at : at + len(patch)] = patch
    is_never_wrong(bytes(content))


def swap(lines: list[bytes], one: int, other: int, raw: bytes) -> None:
    lines[one], lines[other] = lines[other], lines[one]


def repeat(lines: list[bytes], one: int, other: int, raw: bytes) -> None:
    lines.insert(other, lines[one])


def insert(lines: list[bytes], one: int, other: int, raw: bytes) -> None:
    lines.insert(one, raw)


damage = st.tuples(st.sampled_from([swap, repeat, insert]), position, position, st.one_of(junk, foreign))


@settings(deadline=None, max_examples=40)
@given(st.lists(damage, min_size=1, max_size=4))
def test_several_at_once(damages: list[Damage]) -> None:
    lines = list(LINES)
    for act, one, other, raw in damages:
        act(lines, one, other, raw)
    is_never_wrong(packed(lines))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(position, st.one_of(junk, foreign)), max_size=4), st.floats(0.5, 1.0))
def test_junk_and_then_a_cut(strangers: list[tuple[int, bytes]], share: float) -> None:
    """A message from the future whose own place is cut away is not among these: it leaves no trace, like a line taken
    out whole, because the numbers count over all markets."""
    lines = list(LINES)
    for where, raw in strangers:
        lines.insert(where, raw)
    content = packed(lines)
    is_never_wrong(content[: int(len(content) * share)])


def naive_book(lines: list[bytes]) -> Iterator[tuple[int, Sides]]:
    """What a reader without our doubts would say."""
    yield from true_books([raw for raw in lines if raw.startswith(b"{")], INSTANTS).items()


def test_the_guard_is_needed() -> None:
    lines = list(LINES)
    lines[10], lines[90] = lines[90], lines[10]
    assert any(book != TRUTH.get(instant) for instant, book in naive_book(lines))
    is_never_wrong(packed(lines))


def test_a_missing_market_is_said(tmp_path: Path) -> None:
    for ticker in ("NONE", "..", "a/b", ""):
        try:
            verify_market(tmp_path, ticker)
        except NoRecordingError:
            continue
        raise AssertionError(ticker)
