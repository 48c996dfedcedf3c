"""The two desks of `orders.py`: whole ones, each in a folder of its own, alike but for how their orders are sent."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trading.paper.accounts import load_or_make

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN = 240.0
STOP_WITHIN = 60.0
# How each is started. "ours" is what `make run` starts; "usual" replaces its execution (`usual_desk`).
FORMS: Final = {
    "ours": [sys.executable, "manage.py", "up"],
    "usual": [sys.executable, "-m", "benchmarks.usual_desk"],
}
_PASSED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Desk:
    """A desk that runs."""

    form: str
    var: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a command of this desk needs."""
        return environment(self.var)


def environment(var: Path) -> dict[str, str]:
    """Nothing of the caller's settings."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**passed, "VAR_DIR": str(var), "KALSHI_ENV_FILE": "", "KALSHI_PAPER_TIER": "prestige"}


@contextlib.contextmanager
def running(form: str, var: Path, port: int) -> Iterator[Desk]:
    """Start one and wait until it is ready; stop it by its process id. Raises RuntimeError when it does not start."""
    trade_with_rsa(var / "paper")
    with (var.parent / f"{form}.log").open("wb") as log:
        process = subprocess.Popen(
            [*FORMS[form], "--port", str(port)], cwd=ROOT, env=environment(var), stdout=log, stderr=log
        )
    try:
        _wait_ready(process, var / "run" / "state.json")
        yield Desk(form, var)
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN)


def trade_with_rsa(home: Path) -> None:
    """Accounts whose trading key is RSA, the kind that Kalshi's own page makes; the reading key is the other one."""
    home.mkdir(mode=0o700, parents=True)
    load_or_make(home)
    accounts = home / "accounts.json"
    document = json.loads(accounts.read_text())
    for key in document["accounts"][0]["keys"]:
        key["scopes"] = ["read", "write::trade"] if key["algorithm"] == "rsa" else ["read"]
    accounts.write_text(json.dumps(document))


def _wait_ready(process: subprocess.Popen[bytes], state: Path) -> None:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            told: dict[str, Any] = json.loads(state.read_text())
            if told["phase"] == "ready" and told["announced"]:
                return
        time.sleep(0.2)
    raise RuntimeError("the desk did not get ready")
