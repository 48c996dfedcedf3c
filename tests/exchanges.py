"""The real paper exchange as a process of its own, for tests that meet it over its sockets."""

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
from typing import Any

import urllib3

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN = 90.0


@dataclass
class PaperExchange:
    """A running one: its addresses, its home and the keys of the account `desk`."""

    process: subprocess.Popen[bytes]
    home: Path
    ready: dict[str, Any]

    @property
    def rest_url(self) -> str:
        return str(self.ready["rest_url"])

    @property
    def ws_url(self) -> str:
        return str(self.ready["ws_url"])

    def key(self, name: str) -> tuple[str, Path]:
        """Key id and file of `desk-read` or `desk-trade`."""
        accounts = json.loads((self.home / "accounts.json").read_text(encoding="utf-8"))["accounts"]
        keys = {key["name"]: key for account in accounts for key in account["keys"]}
        return keys[name]["key_id"], self.home / keys[name]["key_file"]

    def environment(self) -> dict[str, str]:
        """The settings with which one of our processes trades here."""
        read, trade = self.key("desk-read"), self.key("desk-trade")
        return {
            "KALSHI_REST_URL": self.rest_url,
            "KALSHI_WS_URL": self.ws_url,
            "KALSHI_READ_KEY_ID": read[0],
            "KALSHI_READ_KEY_FILE": str(read[1]),
            "KALSHI_TRADE_KEY_ID": trade[0],
            "KALSHI_TRADE_KEY_FILE": str(trade[1]),
            "ORDERS_PER_MINUTE": "100000",  # a test's orders are no strategy that runs away
            "ORDER_GROUP_CONTRACTS": "1000000",
        }

    def faults(self, rules: object) -> None:
        """Tell a `--faults` exchange how its create endpoint shall misbehave."""
        origin = self.rest_url.removesuffix("/trade-api/v2")
        answer = urllib3.request("POST", f"{origin}/__faults", json=rules, retries=False, timeout=5.0)
        assert answer.status < 300, answer.data

    def forget_faults(self) -> None:
        """Behave again."""
        origin = self.rest_url.removesuffix("/trade-api/v2")
        answer = urllib3.request("DELETE", f"{origin}/__faults", retries=False, timeout=5.0)
        assert answer.status < 300, answer.data

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def paper_exchange(home: Path, *options: str) -> Iterator[PaperExchange]:
    """Start one on a free port and end it after the block."""
    (home / "ready.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "trading.paper", "--port", "0", "--home", str(home), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=_unwatched_environment())
    try:
        yield PaperExchange(process, home, _ready(process, home))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _unwatched_environment() -> dict[str, str]:
    # The exchange has tests of its own inside a test's process; with its lines counted it takes three times as long to
    # be ready, in each of the tests that only meet it.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return {**ours, "PYTHONPATH": ""}


def _ready(process: subprocess.Popen[bytes], home: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        assert process.poll() is None, "the paper exchange ended at once"
        with contextlib.suppress(OSError, ValueError):
            ready: dict[str, Any] = json.loads((home / "ready.json").read_text(encoding="utf-8"))
            return ready
        time.sleep(0.05)
    raise AssertionError("the paper exchange was not ready in time")


def database_url() -> str:
    """The test database of this process, for a process that we start."""
    from django.db import connection

    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return f"postgres://{database['USER']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
