"""How long it takes from the click on Approve until the exchange has the order, beside the usual form, in one run.

    python -m benchmarks.orders [--json FILE] [--clicks 200]

End to end, through real processes: a script's request goes to the desk's REST door (Daphne, PostgreSQL or SQLite with
every commit synced), the decision is committed, execution is woken, judges once more, claims, signs, sends, and the
paper exchange verifies, matches and syncs the order to disk. Both desks are whole ones (`make run`), one after the
other. The usual form is the same desk, but its execution reads and parses the key and opens a connection for each
order.

In one process: from the claim's commit to the first byte on the wire, both forms in turns (`wire`).

Absolute numbers move with the machine, so its load and its disk's own time are printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import wire
from benchmarks.clicks import STEPS
from benchmarks.order_desks import FORMS, ROOT, running
from kalshi_site.management.supervisor.ports import free_port

GOALS: Final = {"p50_ms": 15.0, "p99_ms": 50.0, "times_usual": 3.0, "times_usual_in_process": 10.0}


def main() -> int:
    """Measure, print the table, write the JSON; 1 when a goal is missed."""
    options = _options()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="orders-benchmark-") as folder:
        home = Path(folder)
        end_to_end = {form: _clicks(form, home, options.clicks) for form in options.form or FORMS}
        in_process = wire.measure(home, options.clicks)
    found: dict[str, Any] = {
        "goals": GOALS,
        "load_before": round(before, 2),
        "processors": os.cpu_count(),
        "end_to_end": {form: _summary(told) for form, told in end_to_end.items()},
        "in_process_ms": {form: _quantiles(getattr(in_process, form)) for form in ("ours", "usual")},
    }
    found["met"] = _met(found)
    _print(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(found["met"].values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orders", description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=200, help="on each desk")
    parser.add_argument("--form", choices=tuple(FORMS), action="append", help="both, unless one is chosen")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _clicks(form: str, home: Path, count: int) -> dict[str, Any]:
    """Start a desk, click from a process of its own, stop the desk."""
    with running(form, home / form / "var", free_port()) as desk:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.clicks", str(count)],
            cwd=ROOT,
            env=desk.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _summary(told: dict[str, Any]) -> dict[str, Any]:
    return {"lost": told["lost"], **{step: _quantiles(told["steps"][step]) for step in STEPS}}


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {
        "orders": len(ordered),
        **{name: round(ordered[int(share * (len(ordered) - 1))], 2) for name, share in shares.items()},
    }


def _met(found: dict[str, Any]) -> dict[str, bool]:
    ends, inside = found["end_to_end"], found["in_process_ms"]
    met = {"in_process": inside["usual"]["p50"] >= GOALS["times_usual_in_process"] * inside["ours"]["p50"]}
    if "ours" in ends:
        ours = ends["ours"]["accepted"]
        met |= {"p50": ours["p50"] <= GOALS["p50_ms"], "p99": ours["p99"] <= GOALS["p99_ms"]}
    if len(ends) == len(FORMS):
        usual = ends["usual"]["accepted"]["p50"]
        met["end_to_end"] = usual >= GOALS["times_usual"] * ends["ours"]["accepted"]["p50"]
    return met


def _print(found: dict[str, Any]) -> None:
    out = sys.stdout.write
    out("from the click, in ms (p50 / p90 / p99):\n")
    for form, told in found["end_to_end"].items():
        out(f"{form:<8}" + "".join(f"  {step} {_row(told[step])}" for step in STEPS))
        out(f"  ({told['accepted']['orders']} orders, {told['lost']} without an answer)\n")
    out("in one process, from the claim's commit to the first byte, in ms:\n")
    for form, told in found["in_process_ms"].items():
        out(f"{form:<8}  {_row(told)}\n")
    out(f"load before: {found['load_before']} on {found['processors']} processors\n")
    out(f"goals: {found['goals']}, met: {found['met']}\n")


def _row(told: dict[str, float]) -> str:
    return " / ".join(f"{told[name]:.1f}" for name in ("p50", "p90", "p99"))


if __name__ == "__main__":
    sys.exit(main())
