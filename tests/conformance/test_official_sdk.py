"""Kalshi's official SDK cannot tell the paper exchange from the real one: every call of the surface, both kinds of key.

Run by `make conformance`, which installs the SDK into an environment of its own and names its interpreter in
`SDK_PYTHON`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.judge import Judge, judging
from tests.conformance.report import record
from tests.conformance.surface import ALL
from tests.contract import at_hand
from tests.paper_venue import ASK, BID, PREFIX, A, B, Running, running
from trading.paper.accounts import make_key

TOUR = Path(__file__).with_name("sdk_tour.py")
WITHIN = 120.0


@dataclass
class Visited:
    """An exchange with something of everything in it, behind a judge."""

    paper: Running
    judge: Judge
    home: Path


@pytest.fixture
async def visited(tmp_path: Path, algorithm: str) -> AsyncIterator[Visited]:
    key = make_key(tmp_path, "visitor", algorithm, ("read", "write"))
    account = {"account_id": "visitor", "name": "visitor", "balance": "10000.00", "keys": [key]}
    desk = [make_key(tmp_path, name, "ed25519", ("read", "write")) for name in ("desk-read", "desk-trade")]
    other = {"account_id": "desk", "name": "desk", "balance": "10000.00", "keys": desk}
    (tmp_path / "accounts.json").write_text(json.dumps({"accounts": [account, other]}), encoding="utf-8")
    async with running(tmp_path, tier="prestige", shards=2) as paper, judging(paper.origin) as judge:
        paper.quote(bid=4000, ask=4200)
        paper.exchange.house_submit("maker", B, BID, 4000, 1000)
        paper.exchange.house_submit("taker", B, ASK, 4000, 100)
        paper.exchange.determine(B, "no")
        paper.exchange.settle(B)
        yield Visited(paper, judge, tmp_path)


@pytest.mark.parametrize("algorithm", ["rsa", "ed25519"])
async def test_the_official_sdk_runs_every_call_of_the_surface(visited: Visited, algorithm: str) -> None:
    steps = await tour(visited)
    record(f"sdk_{algorithm}", {step["call"]: step["ok"] for step in steps})
    record("answers", {f"{name} {status}": n for (name, status), n in visited.judge.answered.items()})
    assert [f"{step['call']}: {step['error']}" for step in steps if not step["ok"]] == []
    assert visited.judge.faults == []
    if at_hand():
        assert ALL - visited.judge.succeeded() == set()


async def tour(visited: Visited) -> list[dict[str, Any]]:
    """Let the SDK walk through the exchange; its steps."""
    accounts = json.loads((visited.home / "accounts.json").read_text(encoding="utf-8"))["accounts"]
    key = next(key for account in accounts for key in account["keys"] if key["name"] == "visitor")
    given = {
        "host": visited.judge.origin + PREFIX,
        "key_id": key["key_id"],
        "key_file": str(visited.home / key["key_file"]),
        "ticker": A,
        "settled": B,
        "event": "TEST-1",
        "series": "TEST",
    }
    process = await asyncio.create_subprocess_exec(
        interpreter(),
        str(TOUR),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate(json.dumps(given).encode())
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


def interpreter() -> str:
    """The SDK's own Python. Without it there is nothing to prove here: the suite is run by `make conformance`."""
    return os.environ.get("SDK_PYTHON") or pytest.skip("SDK_PYTHON is not set: run make conformance")
