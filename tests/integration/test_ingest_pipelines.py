"""The two pipelines that the ingest benchmark compares end with the same books; its numbers are not judged here."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from benchmarks import pipelines
from benchmarks.tape import Tape

pytestmark = pytest.mark.slow

COUNT = 3_000


def test_from_bytes_both_end_with_the_same_books() -> None:
    tape = Tape()
    opening, changes = tape.opening(), tape.changes(COUNT)
    ours = pipelines.ours_from_bytes(tape.tickers, opening, changes)
    theirs = pipelines.baseline_from_bytes(tape.tickers, opening, changes)
    assert ours.books == theirs.books


def test_a_lost_frame_is_no_part_of_the_comparison() -> None:
    tape = Tape()
    opening, changes = tape.opening(), tape.changes(10)
    with pytest.raises(AssertionError, match="no gap"):
        pipelines.ours_from_bytes(tape.tickers, opening, changes[1:])


async def test_from_a_socket_both_end_with_the_same_books() -> None:
    tape = Tape()
    last = len(tape.tickers) + COUNT
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.blaster", str(COUNT), stdout=PIPE
    )
    try:
        assert server.stdout is not None
        url = f"ws://127.0.0.1:{int(await server.stdout.readline())}/trade-api/ws/v2"
        async with asyncio.timeout(30):
            ours = await pipelines.ours_from_socket(url, tape.tickers, last)
            theirs = await pipelines.baseline_from_socket(url, tape.tickers, last)
    finally:
        server.terminate()
        await server.wait()
    assert ours.books == theirs.books
