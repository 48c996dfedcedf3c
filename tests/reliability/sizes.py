"""How large each suite of this folder runs: small in every change's build, full on request. One row per size.

RELIABILITY=full chooses the full sizes; a variable with a row's name in capitals chooses one size, whatever the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """`full` is what RELIABILITY.md asks for; `small` is as much of it as a build has time for."""

    small: int
    full: int


SIZES: Final[dict[str, Size]] = {
    # One decision each, four processes at a barrier.
    "race_proposals": Size(400, 10_000),
    # Runs, spread evenly over all cells of point x behaviour of the exchange; full is 12 x 12 x 25.
    "crash_runs": Size(120, 3_600),
    # Orders, in batches of proposals, while each request and frame may meet a fault; small is usually four batches.
    "faulty_orders": Size(64, 10_000),
    # Senders, and holders of a lease, stopped and continued.
    "paused_senders": Size(20, 1_000),
    "paused_holders": Size(20, 1_000),
    # The same with nothing shortened: minutes each.
    "paused_senders_at_real_times": Size(0, 10),
    "paused_holders_at_real_times": Size(0, 10),
    # Runs of two clients at two web processes behind bad lines, with kills, flushes and restores.
    "socket_runs": Size(3, 100),
    # Proposals whose deadline comes while beats, workers and the broker are killed and flushed.
    "due_proposals": Size(60, 1_000),
    # Stops at random moments while execution sends as fast as it can, `halt_backlog` approvals waiting each time.
    "halts": Size(3, 100),
    "halt_backlog": Size(40, 400),
    # Proposals that two hosts' worth of processes trade while their leaders die.
    "host_orders": Size(21, 500),
    # Looks for trades during whose thought something else changes.
    "looks_for_trades": Size(60, 10_000),
    # Hypothesis: lives of an order, and steps in each.
    "order_lives": Size(60, 5_000),
    "order_steps": Size(30, 50),
}


def is_full() -> bool:
    """Whether the run shall be as large as the figures that it shows are published for."""
    return os.environ.get("RELIABILITY") == "full"


def size(name: str) -> int:
    """How many of it this run makes. Raises KeyError for a name without a row, ValueError for a number that is none."""
    row = SIZES[name]
    usual = row.full if is_full() else row.small
    return int(os.environ.get(name.upper(), usual))
