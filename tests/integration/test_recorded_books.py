"""Real recordings through the real door: `recordings verify` is clean, and `recordings book` is an independent fold.

`RECORDED_PAIRS=10000` compares so many (market, instant) pairs over all markets instead of the few of every run.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded_lines import Sides, made_up, packed, true_books, write_day
from trading.recordings.cache import open_columns
from trading.recordings.columns import NotKnown
from trading.recordings.verify import verify, verify_market

pytestmark = pytest.mark.slow

RECORDED = os.environ.get("KALSHI_RECORDINGS", "")
ROOT = Path(RECORDED)
PAIRS = int(os.environ.get("RECORDED_PAIRS", "300"))
RECONNECTED, TWO_FILES, SHORT = (f"KXGOLD15M-26AUG{end}" for end in ("102130-30", "102000-00", "101900-00"))
PROJECT = Path(__file__).resolve().parents[2]
needs_recordings = pytest.mark.skipif(not RECORDED, reason="KALSHI_RECORDINGS does not point at recordings")


def raw_lines(ticker: str) -> list[bytes]:
    return [
        raw
        for file in sorted((ROOT / "events" / ticker).iterdir())
        for raw in gzip.decompress(file.read_bytes()).splitlines()
    ]


def instants_of(ticker: str, lines: list[bytes], count: int) -> list[int]:
    """Half anywhere in the market's time and a little outside it, half at the times of messages."""
    chance = random.Random(f"{ticker} {count}")
    stamps = [int(raw.rpartition(b'"ts_ms":')[2].rstrip(b"}")) for raw in lines if b'"ts_ms"' in raw]
    anywhere = [chance.randint(stamps[0] - 2_000, stamps[-1] + 2_000) for _ in range(count // 2)]
    return anywhere + [chance.choice(stamps) for _ in range(count - len(anywhere))]


def our_books(ticker: str, instants: list[int], cache: Path) -> dict[int, Sides]:
    found: dict[int, Sides] = {}
    with open_columns(ROOT, ticker, cache) as columns:
        for instant in instants:
            try:
                found[instant] = columns.book_at(instant).wire()
            except NotKnown:
                continue
    return found


@needs_recordings
def test_books_at_random_instants_equal_a_plain_fold_of_the_files(tmp_path: Path) -> None:
    every = sorted(folder.name for folder in (ROOT / "events").iterdir())
    tickers = every if PAIRS > 1_000 else [RECONNECTED, TWO_FILES, SHORT]
    compared = 0
    for number, ticker in enumerate(tickers):
        lines = raw_lines(ticker)
        share = PAIRS * (number + 1) // len(tickers) - PAIRS * number // len(tickers)
        instants = instants_of(ticker, lines, share)
        truth = true_books(lines, instants)
        for _ in ("made anew", "from the cache"):
            assert our_books(ticker, instants, tmp_path) == truth
        compared += len(instants)
    assert compared == PAIRS


def recordings(*arguments: str, cache: Path | None = None) -> tuple[int, str, str]:
    """`manage.py recordings …` as a process of its own."""
    home = {"VAR_DIR": str(cache)} if cache else {}
    done = subprocess.run(
        [sys.executable, "manage.py", "recordings", *arguments],
        cwd=PROJECT,
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@needs_recordings
def test_every_recorded_market_is_clean_and_the_two_oddities_are_told() -> None:
    report = verify(ROOT)
    assert (report.clean, report.messages, len(report.markets), report.problems) == (True, 732_320, 14, [])
    assert {market.definition for market in report.markets} == {"settled"}
    told = {market.ticker: " ".join(market.oddities) for market in report.markets}
    assert [ticker for ticker in told if "1 × reconnected" in told[ticker]] == [RECONNECTED]
    assert [ticker for ticker in told if "without a snapshot of its own" in told[ticker]] == [TWO_FILES]


@needs_recordings
def test_the_commands_answer_in_json(tmp_path: Path) -> None:
    code, out, _ = recordings("verify", RECORDED, "--market", SHORT, "--json")
    report = json.loads(out)
    assert (code, report["clean"], report["messages"]) == (0, True, 23_003)
    assert report["markets"][0]["by_type"] == {"snapshot": 2, "delta": 22_024, "trade": 977}
    lines = raw_lines(SHORT)
    instant = json.loads(lines[11_111])["event"]["msg"]["ts_ms"]
    book = ("book", RECORDED, "--market", SHORT, "--json", "--at")
    for _ in ("made anew", "from the cache"):
        code, out, _ = recordings(*book, str(instant), cache=tmp_path)
        assert (code, json.loads(out)) == (0, true_books(lines, [instant])[instant])
    code, out, err = recordings(*book, "1", cache=tmp_path)
    assert (code, out) == (1, "")
    assert "E872" in err
    assert [file.name for file in tmp_path.rglob("*.columns")] == [f"{SHORT}.columns"]


@needs_recordings
def test_a_damaged_copy_is_not_clean_and_says_where(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "events" / SHORT, tmp_path / "events" / SHORT)
    file = next((tmp_path / "events" / SHORT).iterdir())
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1_000])
    report = verify_market(tmp_path, SHORT)
    assert not report.clean
    assert (report.truncated_files, report.gaps) == (1, 1)
    assert 22_000 < report.messages < 23_003


def test_an_unclean_recording_ends_with_status_1(tmp_path: Path) -> None:
    lines = made_up(5)
    write_day(tmp_path, packed([*lines[:30], b"junk", *lines[30:]]))
    code, out, _ = recordings("verify", str(tmp_path), "--json")
    market = json.loads(out)["markets"][0]
    assert (code, market["clean"], market["unreadable"], market["gaps"]) == (1, False, 1, 1)
    assert market["withheld"] > 0
    code, out, _ = recordings("verify", str(tmp_path))
    assert "NOT CLEAN" in out
    assert recordings("verify", str(tmp_path / "nothing"))[0] == 1
