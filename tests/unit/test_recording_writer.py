"""What is recorded is what the socket said; what was there before stays; what goes wrong is said."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recorded_lines import TICKER, line
from trading.recordings.cache import open_columns
from trading.recordings.fold import fold
from trading.recordings.frames import as_line
from trading.recordings.lines import Damaged, read_lines
from trading.recordings.messages import Delta, Gap, Snapshot
from trading.recordings.notes import read_notes
from trading.recordings.packing import PackedFile, Shelf
from trading.recordings.reader import Tally, read_market
from trading.recordings.verify import verify
from trading.recordings.writer import RecordingFailed, RecordingWriter, now_ms

DAY_MS = 86_400_000
NOON = 1_786_363_200_000  # 2026-08-10, 12:00 UTC
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
frames = st.builds(
    lambda body, indent, is_ascii, end, gap: (
        json.dumps(body, indent=indent, ensure_ascii=is_ascii, separators=(gap + ",", ":" + gap)) + end
    ),
    st.dictionaries(texts, values, max_size=4),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.sampled_from(["", "\n", "\r\n", " "]),
    st.sampled_from(["", " ", "\r", "\n"]),
)


def decoded(text: str | bytes) -> Any:
    """Numbers digit by digit."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@settings(deadline=None)
@given(frames, st.booleans())
def test_a_line_says_exactly_what_the_frame_said(frame: str, as_bytes: bool) -> None:
    _, written = as_line(7, frame.encode() if as_bytes else frame)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert b"\r" not in written
    assert decoded(written) == {"recv_ms": 7, "event": decoded(frame)}
    if not {"\n", "\r"} & set(frame):
        assert frame.encode() in written


@pytest.mark.parametrize("number", ["0.10", "1e400", "-0", "123456789012345678901234567890.50"])
def test_numbers_are_not_touched(number: str) -> None:
    frame = f'{{"type":"x","msg":{{"market_ticker":"T","n":{number}}}}}'
    assert as_line(1, frame) == ("T", b'{"recv_ms":1,"event":%b}\n' % frame.encode())


@pytest.mark.parametrize("frame", ["", "no json", "[1]", '{"msg":', '"text"', "12"])
def test_a_frame_that_is_none_is_kept_as_its_text(frame: str) -> None:
    ticker, written = as_line(1, frame)
    assert (ticker, json.loads(written)["event"]) == ("", {"type": "unreadable_frame", "text": frame})


def test_bytes_that_are_no_text_are_kept_too() -> None:
    event = json.loads(as_line(1, b"\xff\x00")[1])["event"]
    assert base64.b64decode(event["base64"]) == b"\xff\x00"


def frame(kind: str, seq: int, msg: dict[str, Any], ticker: str = TICKER) -> str:
    return json.dumps(json.loads(line(kind, 1, seq, 0, msg, ticker))["event"])


def snapshot(seq: int = 1, ticker: str = TICKER) -> str:
    return frame("orderbook_snapshot", seq, {"yes_dollars_fp": [["0.3000", "5.00"]]}, ticker)


def delta(seq: int, change: str = "1.00", ticker: str = TICKER) -> str:
    body = {"price_dollars": "0.3000", "delta_fp": change, "side": "yes", "ts_ms": NOON + seq}
    return frame("orderbook_delta", seq, body, ticker)


def recording(root: Path, *told: tuple[int, str], close: bool = True) -> RecordingWriter:
    writer = RecordingWriter(root, clock_ms=lambda: NOON)
    writer.follow([TICKER])
    for recv_ms, text in told:
        writer.tap(recv_ms, text)
    if close:
        writer.close()
    return writer


def files(root: Path, below: str = "events") -> list[str]:
    return sorted(str(file.relative_to(root / below)) for file in (root / below).rglob("*.ndjson.gz"))


def test_each_market_and_day_has_a_file_and_the_rest_goes_to_the_session(tmp_path: Path) -> None:
    recording(
        tmp_path,
        (NOON + 5, '{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":1}}'),
        (NOON + 6, snapshot()),
        (NOON + 7, snapshot(2, "OTHER")),
        (NOON + DAY_MS, delta(3)),
    )
    assert files(tmp_path) == [f"{TICKER}/2026-08-10.ndjson.gz", f"{TICKER}/2026-08-11.ndjson.gz"]
    assert files(tmp_path, "session") == ["2026-08-10.ndjson.gz"]
    told = [type(received.event) for received in read_market(tmp_path, TICKER)]
    assert told == [Snapshot, Delta]
    kinds = [note.note for note in read_notes(tmp_path).notes]
    assert kinds == ["started", "stopped"]


def test_a_ticker_that_leads_elsewhere_gets_no_folder(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, follow_all=True, clock_ms=lambda: NOON)
    writer.tap(NOON, snapshot(1, "../../evil"))
    writer.close()
    assert files(tmp_path, "session") == ["2026-08-10.ndjson.gz"]
    assert not (tmp_path / "events").exists()


def test_a_restart_goes_on_in_a_part_of_its_own(tmp_path: Path) -> None:
    recording(tmp_path, (NOON + 1, snapshot()), (NOON + 2, delta(2)))
    first = tmp_path / "events" / TICKER / "2026-08-10.ndjson.gz"
    before = first.read_bytes()
    recording(tmp_path, (NOON + 3, snapshot()), (NOON + 4, delta(2)))
    recording(tmp_path, (NOON + 5, snapshot()))
    assert first.read_bytes() == before
    assert [name.rpartition("/")[2] for name in files(tmp_path)] == [
        "2026-08-10.ndjson.gz",
        "2026-08-10.part0002.ndjson.gz",
        "2026-08-10.part0003.ndjson.gz",
    ]
    tally = Tally()
    told = [type(received.event) for received in read_market(tmp_path, TICKER, tally)]
    assert told == [Snapshot, Delta, Gap, Snapshot, Delta, Gap, Snapshot]
    assert (tally.breaks, tally.gaps, tally.repeated) == (2, 0, 0)
    assert verify(tmp_path).clean


def test_two_recorders_do_not_share_a_folder(tmp_path: Path) -> None:
    writer = recording(tmp_path, close=False)
    with pytest.raises(RecordingFailed, match="another recorder"):
        recording(tmp_path)
    writer.close()
    recording(tmp_path)


def test_a_clock_that_is_set_back_does_not_turn_the_order(tmp_path: Path) -> None:
    recording(tmp_path, (NOON + 500, snapshot()), (NOON + 100, delta(2)), (NOON + 600, delta(3)))
    received = [message.recv_ms for message in read_market(tmp_path, TICKER)]
    assert received == sorted(received)


def test_a_noted_gap_makes_the_book_unknown_and_the_verdict_unclean(tmp_path: Path) -> None:
    writer = recording(tmp_path, (NOON + 1, snapshot()), (NOON + 2, delta(2)), close=False)
    until(lambda: writer.frames == 2)
    writer.note("gap", "seq 9 after 2", [TICKER])
    writer.tap(NOON + 3, delta(9))
    writer.tap(NOON + 4, snapshot(10))
    writer.close()
    told = [type(received.event) for received in read_market(tmp_path, TICKER)]
    assert told == [Snapshot, Delta, Gap, Delta, Snapshot]
    assert verify(tmp_path).markets[0].faults == {"gaps": 1, "withheld": 1}


def test_missing_numbers_of_a_whole_subscription_are_a_fault(tmp_path: Path) -> None:
    for root, numbers in ((tmp_path / "whole", (2, 3, 4)), (tmp_path / "holed", (2, 4, 5))):
        writer = recording(root, close=False)
        writer.note("connected")
        until(lambda: any(note.note == "connected" for note in read_notes(root).notes))  # noqa: B023
        writer.tap(NOON + 10, snapshot())
        for seq in numbers:
            writer.tap(NOON + 10, delta(seq, ticker=TICKER if seq == 2 else "OTHER"))
        writer.close()
    assert (verify(tmp_path / "whole").missing_numbers, verify(tmp_path / "whole").clean) == (0, True)
    assert (verify(tmp_path / "holed").missing_numbers, verify(tmp_path / "holed").clean) == (1, False)


def test_what_was_flushed_is_readable_while_the_recorder_lives_or_after_it_was_killed(tmp_path: Path) -> None:
    file = PackedFile(tmp_path / "a.ndjson.gz")
    file.add(b"one\ntwo\n")
    file.flush()
    file.add(b"three\n")
    found: list[bytes] = []
    with pytest.raises(Damaged, match="no end"):
        found.extend(read_lines(tmp_path / "a.ndjson.gz"))
    file.finish()
    assert list(read_lines(tmp_path / "a.ndjson.gz")) == [b"one", b"two", b"three"]


def test_a_finished_market_is_whole_at_once_and_can_go_on(tmp_path: Path) -> None:
    writer = recording(tmp_path, (NOON + 1, snapshot()), close=False)
    writer.finish([TICKER])
    file = tmp_path / "events" / TICKER / "2026-08-10.ndjson.gz"
    until(lambda: file.exists() and is_whole(file))
    writer.tap(NOON + 2, delta(2))
    writer.close()
    assert len(list(read_lines(file))) == 2
    assert files(tmp_path) == [f"{TICKER}/2026-08-10.ndjson.gz"]


def is_whole(file: Path) -> bool:
    try:
        return len(list(read_lines(file))) > 0
    except Damaged:
        return False


def test_of_many_markets_only_some_files_are_open_and_all_are_whole(tmp_path: Path) -> None:
    shelf = Shelf()
    for turn in range(2):
        for number in range(210):
            shelf.add(tmp_path / str(number), "2026-08-10", b"%d\n" % turn)
    shelf.finish_all()
    for number in range(210):
        content = (tmp_path / str(number) / "2026-08-10.ndjson.gz").read_bytes()
        assert gzip.decompress(content) == b"0\n1\n"


@pytest.mark.parametrize("use_yes_price", [True, False])
def test_both_scales_of_no_prices_read_the_same(tmp_path: Path, use_yes_price: bool) -> None:
    told = {True: ("0.6500", "0.6400"), False: ("0.3500", "0.3600")}[use_yes_price]
    writer = RecordingWriter(tmp_path, use_yes_price=use_yes_price, follow_all=True)
    writer.tap(now_ms(), frame("orderbook_snapshot", 1, {"no_dollars_fp": [[told[0], "5.00"]]}))
    change = {"price_dollars": told[1], "delta_fp": "2.00", "side": "no", "ts_ms": NOON}
    writer.tap(now_ms(), frame("orderbook_delta", 2, change))
    writer.close()
    with open_columns(tmp_path, TICKER, tmp_path / ".cache") as columns:
        assert columns.book_at(NOON).wire() == {"yes": [], "no": [["0.3500", "5.00"], ["0.3600", "2.00"]]}
    assert fold(read_market(tmp_path, TICKER), now_ms()) == ({}, {Decimal("0.35"): 5, Decimal("0.36"): 2})


def test_a_disk_that_takes_no_more_ends_the_recording_with_its_reason(tmp_path: Path) -> None:
    writer = recording(tmp_path, (NOON, snapshot()), close=False)
    until(lambda: writer.frames == 1)
    (tmp_path / "events" / "FULL").write_text("a file where a folder should be")
    writer.follow(["FULL"])
    writer.tap(NOON, snapshot(2, "FULL"))
    until(lambda: writer.failure is not None)
    with pytest.raises(RecordingFailed, match="cannot record"):
        writer.tap(NOON, delta(3))
    with pytest.raises(RecordingFailed):
        writer.close()
    with pytest.raises(RecordingFailed, match="cannot record into"):
        RecordingWriter(tmp_path / "events" / "FULL")


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
