"""Where a process may die: the product's named checkpoints, and moments around a function where it has none.

A point kills at its `nth` passing, by SIGKILL of the own process: nothing is flushed, closed or rolled back by us.
Most kill the first process; points of recovery kill the one that is started after it, where alone they are passed.
"""

from __future__ import annotations

import functools
import importlib
import signal
from collections.abc import Callable
from typing import Any, Final

from tests.reliability.desk import signal_self
from trading.execution import checkpoints
from trading.execution.checkpoints import CRASH_POINTS

REQUEST_OUT: Final = "request out"  # the kernel has the bytes; nobody will read the answer
# A function of the product, and the moment of a call of it.
_AROUND: Final = {
    "start": ("trading.execution.process:mark_overdue", "before"),
    "overdue are unknown": ("trading.execution.process:mark_overdue", "after"),
    "looked for": ("trading.execution.reconcile:Reconciler.resolve", "before"),
}
RECOVERING: Final = frozenset({*_AROUND, "judging_absent"})
POINTS: Final = (*CRASH_POINTS, REQUEST_OUT, *_AROUND)

Kill = Callable[[], None]


def lay(point: str, nth: int) -> None:
    """Let this process die at the nth passing of the point from now on."""
    kill = _countdown(nth)
    if point == REQUEST_OUT:
        _die_reading(kill)
    elif point in _AROUND:
        _die_around(*_AROUND[point], kill)
    else:
        checkpoints.observe(lambda reached: kill() if reached == point else None)


def is_create(method: str, target: str) -> bool:
    """Whether a write is an order: the desk also asks for an order group, amends and cancels."""
    return method == "POST" and target.endswith("/portfolio/events/orders")


def _countdown(nth: int) -> Kill:
    left = [nth]

    def pass_by() -> None:
        left[0] -= 1
        if left[0] == 0:
            signal_self(signal.SIGKILL)

    return pass_by


def _die_around(where: str, moment: str, kill: Kill) -> None:
    module, _, path = where.partition(":")
    *outer, name = path.split(".")
    holder: Any = functools.reduce(getattr, outer, importlib.import_module(module))
    usual = getattr(holder, name)

    @functools.wraps(usual)
    def passed(*args: Any, **named: Any) -> Any:
        if moment == "before":
            kill()
        answer = usual(*args, **named)
        if moment == "after":
            kill()
        return answer

    setattr(holder, name, passed)


def _die_reading(kill: Kill) -> None:
    from trading.exchange.transport import WriteLine

    usual = WriteLine._exchange

    def passed(line: Any, method: str, target: str, *args: Any) -> Any:
        if is_create(method, target):
            reading = type(line._connection).getresponse
            line._connection.getresponse = lambda: (kill(), reading(line._connection))[1]
        return usual(line, method, target, *args)

    WriteLine._exchange = passed  # type: ignore[method-assign]
