"""The script of docs/how-to/script.md does what the page says, against a running desk."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from tests.e2e.conftest import ROOT, RunningDesk, propose

PAGE = ROOT / "docs" / "how-to" / "script.md"
# What a market may do between two looks: the page says to run the script again.
TRY_AGAIN = ("E204", "E210", "E212", "E301", "E310", "E311", "E312", "nothing at /orders")
TRIES = 5


def _script(folder: Path) -> Path:
    found = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, "the page has one script"
    assert len(found[0].splitlines()) <= 30
    path = folder / "script.py"
    path.write_text(found[0], encoding="utf-8")
    return path


def _run(script: Path, desk: RunningDesk) -> str:
    """The script's output. It reads `var/demo-credentials.json` below its working directory."""
    for _ in range(TRIES):
        if not desk.api("GET", "/proposals?status=pending", role="viewer")["data"]:
            propose(desk, 20)  # the analyst's ideas come when the market errs, not when a test needs one
        done = subprocess.run(
            [sys.executable, "-I", str(script)],
            cwd=desk.var.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        if done.returncode == 0:
            return done.stdout
        assert any(code in done.stderr for code in TRY_AGAIN), done.stderr
    raise AssertionError(f"the market moved away {TRIES} times: {done.stderr}")


def test_a_script_approves_a_proposal_and_sees_its_order_position_and_balance(
    desk: RunningDesk, tmp_path: Path
) -> None:
    said = _run(_script(tmp_path), desk)
    lines = {line.split()[0]: line.split() for line in said.splitlines()}
    assert lines["proposal"][1] == "approved"
    assert lines["order"][1] in {"resting", "partially_filled", "filled", "canceled", "expired"}
    books = desk.api("GET", "/portfolio", role="viewer")
    paid = Decimal(books["cost"]) - Decimal(books["realized"]) + Decimal(books["fees"])
    assert Decimal(books["cash"]) == Decimal(10000) - paid
