"""What the two loops cost: the update cycle over 1,000 open orders, and the decision cycle without its model.

    python -m benchmarks.cycles [--json FILE] [--orders 1000] [--rounds 20]

The exchange is the real paper process with its simulated world, the feed keeps the quotes, the database is SQLite with
every commit synced, Redis is a real one.

    update, cold      the first cycle of a desk that finds all the orders on the exchange and knows none: it adopts them
    update, warm      the cycles after it, of which each compares everything and finds nothing new
    decision, idle    lock, lease, slot and the row of the cycle, with trading paused: what the loop itself costs
    decision, stub    the same with every open market read and briefed, an analyst that refuses at once, no public
                      trades; time inside the analyst is taken off

Beside the time stands the processor time of the measured process, which moves less with the machine's load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.order_desks import ROOT
from kalshi_site.env import Settings
from kalshi_site.management.supervisor.children import ChildSpec
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.plan import READ, TRADE, Plan
from kalshi_site.management.supervisor.ports import free_port
from kalshi_site.management.supervisor.redis_servers import choose

GOALS: Final = {"update_cold_ms": 10_000.0, "update_warm_ms": 500.0, "decision_idle_ms": 5.0}
PARTS: Final = ("redis-live", "redis-cache", "paper", "feed")
STEP: Final = timedelta(milliseconds=1)  # a slot of its own for each round


def main() -> int:
    """Start the parts, measure in a process with the keys, print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cycles", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--orders", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=20, help="of each kind but the cold one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cycles-benchmark-") as folder, _parts(Path(folder)) as plan:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.cycles_inside", str(options.orders), str(options.rounds)],
            cwd=ROOT,
            env=dict(plan.environment("update", READ + TRADE)),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found = {"goals": GOALS, "load_before": round(before, 2), **json.loads(done.stdout.splitlines()[-1])}
    found["met"] = {name: found["ms"][name]["p50"] <= goal for name, goal in GOALS.items()}
    _print(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(found["met"].values()) else 1


@contextlib.contextmanager
def _parts(home: Path) -> Iterator[Plan]:
    """A desk's Redis, exchange and feed on a fresh database, ended by their process ids."""
    layout = Layout(home / "var")
    layout.make()
    os.environ["KALSHI_PAPER_TIER"] = "unlimited"
    settings = Settings(dotenv=None)
    plan = Plan(layout, settings, ROOT, "paper", free_port(), free_port(), choose(settings, layout))
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=dict(plan.environment("migrate")), check=True)
    specs = [spec for stage in plan.stages() for spec in stage if spec.name in PARTS]
    with contextlib.ExitStack() as stack:
        for spec in specs:
            stack.enter_context(_child(spec, layout))
        yield plan


@contextlib.contextmanager
def _child(spec: ChildSpec, layout: Layout) -> Iterator[None]:
    with layout.log_file(spec.name).open("ab") as log:
        process = subprocess.Popen(
            list(spec.argv), cwd=spec.cwd, env=dict(spec.env()), stdout=log, stderr=log
        )
    try:
        asyncio.run(_ready(spec))
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


async def _ready(spec: ChildSpec) -> None:
    deadline = time.monotonic() + spec.timeout
    while await spec.probe() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{spec.title} did not get ready")
        await asyncio.sleep(0.1)


def _print(found: dict[str, Any]) -> None:
    out = sys.stdout.write
    out(
        f"{found['orders']} open orders, {found['markets']} open markets; in ms (p50 / worst, processor p50):\n"
    )
    for name, told in found["ms"].items():
        out(
            f"{name:<18} {told['p50']:>9.1f} / {told['worst']:.1f}, {told['cpu_p50']:.1f}  ({told['rounds']} rounds)\n"
        )
    out(f"queries of a warm update cycle: {found['warm_queries']}\n")
    out(f"load before: {found['load_before']}; goals: {found['goals']}, met: {found['met']}\n")


if __name__ == "__main__":
    sys.exit(main())
