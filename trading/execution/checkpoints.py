"""Named moments in the life of an order at which a crash is tried. In the product nothing happens there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Checkpoint = Callable[[str], None]

CRASH_POINTS: Final = (
    # claim
    "judged",  # the risk rules have said yes; nothing is written yet
    "inserted",  # proposal and order are written, their transaction is not committed
    "claimed",  # committed; no byte has left
    # send
    "sending",  # the last guard has let it pass: the next thing is the socket
    "answered",  # the exchange's answer is in memory alone
    "recording",  # written, its transaction is not committed
    "recorded",
    # fill
    "booking",  # the fill's row is written, position and cash are not
    "booked",  # committed
    # cancel
    "canceling",  # the wish is committed; the next thing is the socket
    "canceled",  # answered; nothing of it is written
    # reconcile
    "listed",  # the exchange's list is in memory alone
    "adopting",  # a stranger's row is written, its transaction is not committed
    "judging_absent",  # all evidence is in, the verdict is not written
)


_acts: list[Checkpoint] = []


def observe(act: Checkpoint | None) -> None:
    """Call `act` at every point from now on, in this process; None ends it. For tests alone."""
    _acts[:] = [] if act is None else [act]


def reached(point: str) -> None:
    """Say that the work has come to a point of CRASH_POINTS."""
    for act in _acts:
        act(point)
