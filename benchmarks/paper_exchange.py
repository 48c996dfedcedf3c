"""How many orders a second the paper exchange takes, each verified and durable before it is acknowledged.

    python -m benchmarks.paper_exchange [--json FILE] [--orders 10000] [--connections 64]

One run measures, with Ed25519 and with RSA keys: the most creates per second; the latency when 500 a second are
offered; and the same for the baseline (`paper_baseline`), in the same minute on the same machine. Absolute numbers move
with the machine, so the ratios and the processor time per order are printed beside them. The exchange is the real
process (`python -m trading.paper --simulate --tier unlimited`), its simulated world included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from benchmarks.paper_load import Key, Measured, offer, signed_creates
from trading.paper.accounts import load_or_make

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN = 60.0  # seconds; beside a whole test suite it takes twenty
LATENCY_RATE = 500.0
GOALS = {"creates_per_second": 2_000.0, "p99_ms_at_500": 10.0}


@dataclass(frozen=True)
class Server:
    """A server under load."""

    name: str
    port: int
    process: psutil.Process
    ticker: str = "X"

    def cpu_seconds(self) -> float:
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


def main() -> int:
    """Measure, print the table, write the JSON; 1 when a goal of the paper exchange is missed."""
    options = _options()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="paper-benchmark-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        keys = _keys(home)
        disk_ms = _disk_ms(home)
        # The load has a process of its own, and a fresh one: the server's clock is not to wait for our interpreter.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as load:
            for algorithm in options.algorithm or keys:
                for begin in (_exchange, _baseline):
                    with begin(home, keys[algorithm]) as server:
                        rows.append(_measured(server, algorithm, keys[algorithm], options, load))
    _print(rows, disk_ms)
    if options.json:
        found = {"goals": GOALS, "fdatasync_ms": disk_ms, "runs": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(_meets(row) for row in rows if row["server"] == "paper exchange") else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper_exchange", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--orders", type=int, default=10_000, help="of the run for throughput")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--latency-seconds", type=float, default=6.0, help="of the run at 500 a second")
    parser.add_argument(
        "--algorithm", choices=("rsa", "ed25519"), action="append", help="both, unless one is chosen"
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _disk_ms(home: Path) -> dict[str, float]:
    """What the disk itself needs for one small durable write: nobody can acknowledge sooner."""
    descriptor = os.open(home / "disk", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    for _ in range(300):
        began = time.perf_counter()
        os.write(descriptor, b"x" * 1_000)
        os.fdatasync(descriptor)
        taken.append(1000 * (time.perf_counter() - began))
    os.close(descriptor)
    taken.sort()
    return {"p50": round(taken[150], 2), "p99": round(taken[297], 2)}


def _keys(home: Path) -> dict[str, Key]:
    """Fresh accounts whose RSA key may trade too."""
    load_or_make(home)
    accounts = home / "accounts.json"
    document = json.loads(accounts.read_text())
    keys = document["accounts"][0]["keys"]
    for key in keys:
        key["scopes"] = ["read", "write::trade"]
    document["accounts"][0]["balance"] = "100000000.00"
    accounts.write_text(json.dumps(document))
    return {key["algorithm"]: Key(key["key_id"], home / key["key_file"]) for key in keys}


def _measured(
    server: Server, algorithm: str, key: Key, options: argparse.Namespace, load: ProcessPoolExecutor
) -> dict[str, Any]:
    """Warm up, then throughput, then latency. Requests are built and signed before the clock starts."""
    _run(server, key, 500, 16, None, load)
    before = server.cpu_seconds()
    most = _run(server, key, options.orders, options.connections, None, load)
    spent = server.cpu_seconds() - before
    calm = _run(server, key, int(LATENCY_RATE * options.latency_seconds), 32, LATENCY_RATE, load)
    return {
        "server": server.name,
        "algorithm": algorithm,
        "creates_per_second": round(most.rate, 1),
        "cpu_us_per_create": round(1e6 * spent / options.orders, 1),
        "p50_ms": round(most.quantile_ms(0.5), 2),
        "p99_ms": round(most.quantile_ms(0.99), 2),
        "p50_ms_at_500": round(calm.quantile_ms(0.5), 2),
        "p99_ms_at_500": round(calm.quantile_ms(0.99), 2),
        "refused": {**most.refused, **calm.refused},
    }


def _run(
    server: Server, key: Key, count: int, connections: int, rate: float | None, load: ProcessPoolExecutor
) -> Measured:
    return load.submit(_load, server.port, key, server.ticker, count, connections, rate).result()


def _load(port: int, key: Key, ticker: str, count: int, connections: int, rate: float | None) -> Measured:
    requests = signed_creates(port, key, ticker, count)
    return offer(port, requests, connections=connections, rate=rate)


@contextlib.contextmanager
def _exchange(home: Path, _key: Key) -> Iterator[Server]:
    """The real process on a fresh journal, and its open market that closes last."""
    (home / "journal.jsonl").unlink(missing_ok=True)
    command = [sys.executable, "-m", "trading.paper", "--home", str(home), "--tier", "unlimited"]
    with _process(command) as process:
        ready = _ready(process, home / "ready.json")
        url = f"{ready['rest_url']}/markets?status=open&limit=1000"
        with urllib.request.urlopen(url, timeout=START_WITHIN) as answer:  # noqa: S310 - our own loopback address
            markets = json.loads(answer.read())["markets"]
        last = max(markets, key=lambda market: str(market["close_time"]))
        yield Server("paper exchange", ready["port"], psutil.Process(process.pid), last["ticker"])


@contextlib.contextmanager
def _baseline(home: Path, key: Key) -> Iterator[Server]:
    command = [sys.executable, "-m", "benchmarks.paper_baseline", str(key.file), str(home / "baseline.log")]
    with _process(command) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Server("fsync per request", port, psutil.Process(process.pid))


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _ready(process: subprocess.Popen[bytes], file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            ready: dict[str, Any] = json.loads(file.read_text())
            return ready
        time.sleep(0.05)
    raise RuntimeError("the paper exchange did not get ready")


def _meets(row: dict[str, Any]) -> bool:
    fast = row["creates_per_second"] >= GOALS["creates_per_second"]
    return fast and row["p99_ms_at_500"] <= GOALS["p99_ms_at_500"] and not row["refused"]


def _print(rows: list[dict[str, Any]], disk_ms: dict[str, float]) -> None:
    columns = (
        "creates_per_second",
        "cpu_us_per_create",
        "p50_ms",
        "p99_ms",
        "p50_ms_at_500",
        "p99_ms_at_500",
    )
    out = sys.stdout.write
    out(f"{'server':<18} {'key':<8} " + " ".join(f"{name:>18}" for name in columns) + "  refused\n")
    for row in rows:
        out(f"{row['server']:<18} {row['algorithm']:<8} ")
        out(" ".join(f"{row[name]:>18.2f}" for name in columns) + f"  {row['refused'] or 'none'}\n")
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        ratio = ours["creates_per_second"] / theirs["creates_per_second"]
        out(f"{ours['algorithm']}: {ratio:.2f} times the creates per second of an fsync per request\n")
    out(f"fdatasync of this disk: {disk_ms['p50']} ms, in the worst hundredth {disk_ms['p99']} ms\n")
    out(f"goals: {GOALS}, met: {all(_meets(row) for row in rows[::2])}\n")


if __name__ == "__main__":
    sys.exit(main())
