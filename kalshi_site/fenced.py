"""Every write of a loop under its fence, without a word in the code that writes.

A lease says who may begin; it cannot stop a holder that was frozen and wakes up after somebody else took over. So
while `writes` lasts, each statement that changes something is preceded, in its own transaction, by a look at the lease
row that also locks it: whoever takes over waits for that transaction, and whoever was outrun writes nothing more.
The lease stands in the database that is written to, so its row is the guard of all topics at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from django.db import Error as DatabaseError
from django.db import connection, connections, transaction

from kalshi_site import locks
from kalshi_site.locks import Held, Outrun

log = logging.getLogger(__name__)

_CHANGES: Final = ("INSERT", "UPDATE", "DELETE")
RENEW_SHARE: Final = 1 / 3  # of the term of a lease


@contextlib.contextmanager
def work(name: str, *, ttl: timedelta, needs_redis: bool) -> Iterator[Held]:
    """Hold the loop `name`, keep it while the block runs, and let nothing be written once it is lost.

    Raises Busy when somebody else holds it, Outrun at the first write after it was lost.
    """
    with locks.hold(name, ttl=ttl, needs_redis=needs_redis) as held, kept(held, ttl), writes(held):
        yield held


@contextlib.contextmanager
def standing_by(name: str, *, ttl: timedelta, look_every: float = 0.5) -> Iterator[Held]:
    """Wait until nobody else holds `name`, then hold and keep it. What is written asks `writes`, in each thread."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                held = stack.enter_context(locks.lease(name, ttl=ttl))
                break
            except locks.Busy:
                time.sleep(look_every)
        stack.enter_context(kept(held, ttl))
        yield held


@contextlib.contextmanager
def writes(held: Held) -> Iterator[None]:
    """Let this thread write only while `held` is ours. Raises Outrun at a write, which then has not happened."""
    with connection.execute_wrapper(_Fence(held)):
        yield


class _Fence:
    def __init__(self, held: Held) -> None:
        self._held = held

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        if not sql.lstrip().upper().startswith(_CHANGES):
            return execute(sql, params, many, context)
        if context["connection"].in_atomic_block:
            self._held.require_fence()
            return execute(sql, params, many, context)
        # A statement by itself would be committed after the look and not with it.
        with transaction.atomic(using=context["connection"].alias):
            self._held.require_fence()
            done = execute(sql, params, many, context)
            _fetch(context["cursor"])
            return done


def _fetch(cursor: Any) -> None:
    """Take the rows of INSERT ... RETURNING before the commit: SQLite ends no transaction that still has some."""
    if cursor.description:
        cursor.cursor = _Fetched(cursor.cursor, cursor.fetchall())


class _Fetched:
    """A cursor whose rows are here already."""

    def __init__(self, inner: Any, rows: list[Any]) -> None:
        self._inner, self._rows = inner, iter(rows)

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return list(islice(self._rows, size))

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextlib.contextmanager
def kept(held: Held, ttl: timedelta) -> Iterator[None]:
    """Renew the lease at each third of its term, from a thread that a frozen process freezes too."""
    over = threading.Event()
    thread = threading.Thread(target=_renew, args=(held, ttl, over), name=f"keep-{held.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _renew(held: Held, ttl: timedelta, over: threading.Event) -> None:
    try:
        while not over.wait(ttl.total_seconds() * RENEW_SHARE):
            try:
                held = held.renewed(ttl)
            except DatabaseError as error:  # it may hold a little longer; the next write tells
                log.warning("lease.renew.failed", extra={"lease": held.name, "error": repr(error)})
    except Outrun as error:
        log.error("lease.outrun", extra={"lease": held.name, "error": str(error)})
    finally:
        connections.close_all()
