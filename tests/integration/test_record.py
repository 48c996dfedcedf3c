"""The recorder's round trip through the real door: a paper exchange trades, `record` records it, `verify` and `book`
judge what was recorded, and a second paper exchange replays it. Killed, it loses nothing that is a second old."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.exchanges import paper_exchange
from tests.paper_venue import ASK, BID, A, Running, running
from trading.recordings.cache import open_columns
from trading.recordings.columns import NotKnown
from trading.recordings.definitions import read_definitions
from trading.recordings.files import NoRecordingError
from trading.recordings.messages import Gap
from trading.recordings.reader import Tally, read_market
from trading.recordings.verify import verify

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # each starts processes of its own


@contextlib.asynccontextmanager
async def recorder(paper: Running, out: Path, *options: str, **how: Any) -> AsyncIterator[Process]:
    """`manage.py record` as a process of its own, which follows market A before the block; ended after it."""
    key = json.loads((paper.server.home / "accounts.json").read_text())["accounts"]
    read = next(key for account in key for key in account["keys"] if key["name"] == "desk-read")
    settings = {
        "KALSHI_REST_URL": paper.server.rest_url,
        "KALSHI_WS_URL": paper.server.ws_url,
        "KALSHI_READ_KEY_ID": read["key_id"],
        "KALSHI_READ_KEY_FILE": str(paper.server.home / read["key_file"]),
        "VAR_DIR": str(out.parent / "var"),
    }
    command = [sys.executable, "manage.py", "record", "--out", str(out), *options]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, env={**os.environ, **settings}, stdout=PIPE, stderr=STDOUT, **how
    )
    before = len(messages(out))
    try:
        await until(lambda: len(messages(out)) > before or process.returncode is not None)
        if process.returncode is not None:
            raise AssertionError((await process.communicate())[0].decode())
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stop(process: Process) -> str:
    process.send_signal(signal.SIGTERM)
    told, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, told.decode()
    return told.decode()


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def trade(paper: Running, steps: int, seed: int = 1) -> None:
    """The house makes, cancels and takes orders in market A; the books change all the time and then stand still."""
    chance, standing = random.Random(seed), list[str]()
    for step in range(steps):
        side = chance.choice([BID, ASK])
        tick = 100 * (chance.randint(30, 49) if side is BID else chance.randint(51, 70))
        if standing and chance.random() < 0.4:
            paper.exchange.house_cancel(A, standing.pop(chance.randrange(len(standing))))
        else:
            lots = chance.randint(1, 5_000)
            standing.append(paper.exchange.house_submit("maker", A, side, tick, lots).order_id)
        if step % 50 == 49:
            paper.exchange.house_submit("taker", A, ASK, 3_000, 200)
        if step % 20 == 19:
            await asyncio.sleep(0.01)


def messages(out: Path, tally: Tally | None = None) -> list[str]:
    """What a reader finds of market A at this moment."""
    try:
        return [type(received.event).__name__ for received in read_market(out, A, tally)]
    except NoRecordingError:
        return []


async def order_book(paper: Running) -> dict[str, list[list[str]]]:
    book = (await paper.reader.get(f"/markets/{A}/orderbook"))["orderbook_fp"]
    return {side: book.get(f"{side}_dollars") or [] for side in ("yes", "no")}


def recorded_book(out: Path) -> dict[str, list[list[str]]] | None:
    """After the last recorded change, whatever may have been lost behind it."""
    try:
        with open_columns(out, A, out / ".cache") as columns:
            return columns.book_after(columns.row_at(columns.span()[1])).wire()
    except (NoRecordingError, NotKnown):
        return None


def settle(paper: Running, result: str = "yes") -> None:
    for ticker in ("TEST-1-A", "TEST-1-B"):
        paper.exchange.close_market(ticker)
        paper.exchange.determine(ticker, result, 10_000, "17")
        paper.exchange.settle(ticker)


async def test_a_recording_is_clean_is_the_exchanges_book_and_plays_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with running(tmp_path / "home") as paper, recorder(paper, out, "--series", "TEST") as process:
        await trade(paper, 400)
        live = await order_book(paper)
        assert live["yes"]
        assert live["no"]
        await until(lambda: recorded_book(out) == live)
        at = paper.exchange.now_ms()
        await until(lambda: paper.exchange.now_ms() > at)
        settle(paper)
        await until(lambda: A in read_definitions(out))
        told = await stop(process)
    assert f"recording {A}" in told
    assert f"settled: {A}" in told
    report = verify(out)
    assert (report.clean, report.problems, report.missing_numbers) == (True, [], 0), report
    assert {market.definition for market in report.markets} == {"settled"}
    assert report.markets[0].by_type["trade"] >= 8
    code, shown = recordings("book", str(out), "--market", A, "--at", str(at), "--json")
    assert (code, json.loads(shown)) == (0, live)
    assert recordings("verify", str(out), "--json")[0] == 0
    with paper_exchange(tmp_path / "again", "--replay", str(out), "--speed", "2000", "--market", A) as again:
        url = f"{again.rest_url}/markets/{A}"
        await until(
            lambda: urllib3.request("GET", url, timeout=5.0).json()["market"]["status"] == "finalized"
        )
        market = urllib3.request("GET", url, timeout=5.0).json()["market"]
        assert (market["result"], market["expiration_value"]) == ("yes", "17")


async def test_killed_it_loses_nothing_old_and_the_next_one_harms_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with running(tmp_path / "home") as paper:
        async with recorder(paper, out, "--market", A) as first:
            await trade(paper, 200)
            live = await order_book(paper)
            await until(lambda: recorded_book(out) == live)
            first.kill()
            await first.wait()
        before = {file: file.read_bytes() for file in (out / "events" / A).iterdir()}
        async with recorder(paper, out, "--market", A) as second:
            await until(lambda: messages(out).count("Snapshot") == 2)
            await trade(paper, 200, seed=2)
            live = await order_book(paper)
            await until(lambda: recorded_book(out) == live)
            await stop(second)
    assert all(file.read_bytes() == content for file, content in before.items())
    report = verify(out)
    assert not report.clean  # the killed one's file has no end, and that is said
    assert report.markets[0].faults == {"gaps": 1, "truncated_files": 1}
    assert [word for word in messages(out) if word in {"Gap", "Snapshot"}] == [
        "Snapshot",
        "Gap",
        "Gap",
        "Snapshot",
    ]


async def test_a_lost_connection_is_noted_and_the_next_snapshot_heals_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    home = tmp_path / "home"
    async with running(home) as paper:
        port = paper.server.port
        async with recorder(paper, out, "--market", A) as process:
            await trade(paper, 50)
            await paper.server.stop()
            async with running(home, port=port) as again:
                await until(lambda: messages(out).count("Snapshot") > 1)
                live = await order_book(again)
                await trade(again, 50, seed=3)
                live = await order_book(again)
                await until(lambda: recorded_book(out) == live)
                await stop(process)
    report = verify(out)
    assert report.markets[0].clean, report
    assert "lost its connection" in report.markets[0].oddities[0]
    assert any(isinstance(received.event, Gap) for received in read_market(out, A))


async def test_a_full_disk_ends_it_with_a_clear_word_and_what_was_written_stays_readable(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    async with running(tmp_path / "home") as paper, recorder(paper, out, preexec_fn=small_files) as process:
        ending = asyncio.create_task(process.communicate())
        while not ending.done():
            await trade(paper, 500)
        told = (await ending)[0].decode()
    assert process.returncode == 1
    assert f"E874 cannot record into {out}: File too large" in told
    tally = Tally()
    assert len(messages(out, tally)) > 100
    assert tally.truncated_files == 1
    assert not verify(out).clean


def test_without_an_exchange_it_says_what_to_do(tmp_path: Path) -> None:
    done = command("record", "--out", str(tmp_path / "out"), var=tmp_path / "var")
    assert done.returncode == 1
    assert "make run" in done.stderr
    assert not (tmp_path / "out").exists()


def recordings(*arguments: str) -> tuple[int, str]:
    done = command("recordings", *arguments)
    return done.returncode, done.stdout


def command(*arguments: str, var: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={**os.environ, **({"VAR_DIR": str(var)} if var else {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
