"""How fast frames become books, as ratios taken in one run: `python benchmarks/ingest.py [--json] [--long]`.

Every comparison runs both pipelines in turns, so that a busy machine hits both alike, and takes the median over the
rounds of the CPU time of the thread that follows the frames: it is what bounds how many can come. The baseline stands
in `baseline.py`, the frames in `tape.py`. Both must end with the same books.

    bytes   frames in memory to books, in batches as a socket hands them over under load
    socket  a local server that sends as fast as it can; baseline: `websockets`, same event loop
    full    the same with everything recorded and the changed prices published twenty times a second; the recorder
            compresses on a thread of its own, which `process` counts in
    burst   50,000 messages from the socket: seconds of one core
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import uvloop

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import pipelines  # noqa: E402 - found by the line above when run as a file
from benchmarks.pipelines import Measured  # noqa: E402
from benchmarks.tape import Tape  # noqa: E402

BURST: Final = 50_000


@dataclass(frozen=True, slots=True)
class Result:
    """`ours`, `process` (all threads of ours) and `baseline` are µs of CPU for one message; seconds for the burst."""

    name: str
    ours: float
    process: float
    baseline: float | None
    ratio: float | None
    goal: float
    reached: bool

    def __str__(self) -> str:
        if self.ratio is None:
            return f"{self.name:8} {self.ours:8.3f} s of one core (goal: at most {self.goal})"
        return (
            f"{self.name:8} {self.ours:8.2f} us a message ({self.process:.2f} in all threads), "
            f"baseline {self.baseline:6.2f} us: "
            f"{self.ratio:5.1f} times as fast (goal: {self.goal:.0f})"
        )


def compared(name: str, ours: list[Measured], theirs: list[Measured], count: int, goal: float) -> Result:
    for one, other in zip(ours, theirs, strict=True):
        assert one.books == other.books, f"{name}: the pipelines end with different books"
    mine, baseline, process = (
        statistics.median(seconds) / count * 1e6
        for seconds in (
            [each.loop for each in ours],
            [each.loop for each in theirs],
            [each.process for each in ours],
        )
    )
    return Result(name, mine, process, baseline, baseline / mine, goal, baseline / mine >= goal)


def from_bytes(rounds: int, count: int) -> Result:
    tape = Tape()
    opening, changes = tape.opening(), tape.changes(count)
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(pipelines.baseline_from_bytes(tape.tickers, opening, changes))
        ours.append(pipelines.ours_from_bytes(tape.tickers, opening, changes))
    return compared("bytes", ours, theirs, count, 10)


@contextmanager
def blasting(count: int) -> Iterator[str]:
    """The url of a server process that sends so many changes."""
    command = [sys.executable, "-m", "benchmarks.blaster", str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"ws://127.0.0.1:{int(server.stdout.readline())}/trade-api/ws/v2"
        finally:
            server.terminate()


def from_socket(rounds: int, count: int) -> tuple[Result, Result]:
    tape = Tape()
    last = len(tape.tickers) + count
    plain, full, theirs = [], [], []
    with blasting(count) as url:
        for _ in range(rounds):
            theirs.append(uvloop.run(pipelines.baseline_from_socket(url, tape.tickers, last)))
            plain.append(uvloop.run(pipelines.ours_from_socket(url, tape.tickers, last)))
            full.append(with_everything(url, tape.tickers, last))
    return compared("socket", plain, theirs, count, 5), compared("full", full, theirs, count, 3)


def with_everything(url: str, tickers: list[str], last: int) -> Measured:
    """Record every frame and publish every change of a price, as the feed does."""
    from trading.market_data.hub import Hub
    from trading.market_data.snapshots import tick_batch
    from trading.recordings.writer import RecordingWriter

    hub = Hub(on_fault=lambda _: None)
    hub.follow(tickers)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.setblocking(False)

    def publish() -> None:
        told = msgspec.json.encode(tick_batch(hub.take_unpublished(), 0))
        here.send(told)
        there.recv(1 << 20)

    with tempfile.TemporaryDirectory() as folder, here, there:
        writer = RecordingWriter(Path(folder), follow_all=True)
        try:
            return uvloop.run(
                pipelines.ours_from_socket(
                    url, tickers, last, books=hub.books, tap=writer.tap, beside=publish
                )
            )
        finally:
            writer.close()


def burst(rounds: int) -> Result:
    tape = Tape()
    with blasting(BURST) as url:
        seconds = statistics.median(
            uvloop.run(pipelines.ours_from_socket(url, tape.tickers, len(tape.tickers) + BURST)).process
            for _ in range(rounds)
        )
    return Result("burst", seconds, seconds, None, None, 0.5, seconds <= 0.5)


def endurance(count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Memory over `count` messages, with markets that come and go all the while."""
    from trading.market_data.hub import Hub

    tape, hub, process = Tape(), Hub(on_fault=lambda _: None, most_books=500), psutil.Process()
    hub.follow(tape.tickers)
    session = pipelines.session_over(tape.tickers, hub.shelf)
    session.receive_all(tape.opening())
    memory: list[int] = []
    step = 10_000
    for number in range(count // step):
        session.receive_all(tape.changes(step))
        hub.follow([*(f"GONE-{number}-{each}" for each in range(20)), *tape.tickers])
        hub.take_unpublished()
        hub.take_unwritten()
        if number % 50 == 49:
            memory.append(process.memory_info().rss)
            say(f"{(number + 1) * step:>12,} messages, {memory[-1] / 1e6:.1f} MB, {len(hub.books)} books")
    later = memory[len(memory) // 4 :]
    return {"messages": count, "growth_mb": (later[-1] - later[0]) / 1e6, "last_mb": later[-1] / 1e6}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--long", action="store_true", help="memory over 10 million messages, about two minutes"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=100_000)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    import django

    django.setup()
    logging.disable(logging.WARNING)  # of the books that have to go in the long run
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    results = [from_bytes(options.rounds, options.messages)]
    say(str(results[-1]))
    results += from_socket(options.rounds, options.messages)
    results.append(burst(options.rounds))
    for each in results[1:]:
        say(str(each))
    report: dict[str, Any] = {"results": [asdict(each) for each in results]}
    if options.long:
        report["endurance"] = endurance(10_000_000, say)
        say(f"memory grew by {report['endurance']['growth_mb']:.1f} MB after the first quarter")
    if options.json:
        print(json.dumps(report))
    return 0 if all(each.reached for each in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
