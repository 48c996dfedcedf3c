"""The watchdog: when execution falls silent while orders may rest, it trips their order groups at the exchange.

It is a process of its own, so that it lives when execution is dead or frozen. It needs the database to hear execution's
lease being renewed, and the trading key to trip. A database that does not answer is silence too: the groups that it
knew last are tripped, and written down once the database is back. Only a person resets what it tripped (ADR 0010).
A process that is frozen inside a write keeps SQLite from everybody: it is ended, once the exchange has been told.
Whatever it wants of the database it asks over a line, which gives up in time: one that hangs keeps no look waiting.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from kalshi_site.frozen_writer import end_frozen_writer
from kalshi_site.models import Lease
from trading.exchange.gateway import GroupGateway
from trading.exchange.outcomes import Done
from trading.execution.nets import trip
from trading.execution.process import LEASE
from trading.models import Order, OrderGroup

log = logging.getLogger(__name__)

SILENT_AFTER: Final = 10.0  # seconds
LOOK_EVERY: Final = 1.0
ANSWER_WITHIN: Final = 3.0
WATCHDOG: Final = "watchdog"

Heartbeat = tuple[str, datetime]
T = TypeVar("T")


class Unanswered(OperationalError):
    """The database has not answered in time, or still owes an earlier answer."""


class Line:
    """A line to the database: one errand at a time, in a thread of its own, with a deadline that is ours.

    Naive: ask in one's own thread, with a statement_timeout and a tcp_user_timeout. The server's process enforces the
    first and may itself be frozen; its kernel goes on acknowledging, so that the second ends nothing. So we hang up,
    and the thread comes back with an error. What cannot be hung up on (a write that waits for SQLite, a connection
    that is being made) ends by its own timeout. Until then the line is busy, and the late answer is dropped.
    """

    def __init__(self) -> None:
        self._errands: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._answer: Future[Any] | None = None
        self._database: BaseDatabaseWrapper | None = None  # the thread's own
        threading.Thread(target=self._run, name="watchdog-line", daemon=True).start()

    def ask(self, errand: Callable[[], T], *, within: float) -> T:
        """What the errand brings back. Raises Unanswered, and what the errand raises."""
        if self._answer is not None and not self._answer.done():
            raise Unanswered("an earlier answer is still due")
        answer: Future[T] = Future()
        self._answer = answer
        self._errands.put((errand, answer))
        if not wait([answer], timeout=within).done:
            self._hang_up()
            raise Unanswered(f"no answer in {within:.0f} seconds")
        return answer.result()

    def close(self) -> None:
        """End the thread, and its connection with it, once it is idle."""
        self._errands.put(None)

    def _run(self) -> None:
        self._database = connections[DEFAULT_DB_ALIAS]
        for errand, answer in iter(self._errands.get, None):
            try:
                answer.set_result(_on_a_good_connection(errand))
            except BaseException as error:  # the asker's to judge; the line stays
                answer.set_exception(error)
        connections.close_all()

    def _hang_up(self) -> None:
        """Shut the socket under the connection; the connection itself is the thread's, and not ours to touch."""
        database = self._database
        if database is None or database.vendor != "postgresql" or (open_one := database.connection) is None:
            return
        with (
            contextlib.suppress(OSError, Error),  # it was closed meanwhile
            database.wrap_database_errors,
            socket.socket(fileno=os.dup(open_one.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)


def _on_a_good_connection(errand: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return errand()
    finally:
        close_old_connections()


@dataclass(frozen=True, slots=True)
class Heard:
    """What one listening brought: execution's sign of life, the groups that take orders, whether any may rest."""

    heartbeat: Heartbeat | None
    groups: list[OrderGroup]
    may_rest: bool


@dataclass(slots=True)
class Watchdog:
    """One venue's. `on_ready` is called after the first look.

    It has three lines to the database: one that is busy must not hold up what the other two are for.
    """

    venue: str
    groups: GroupGateway
    stop: threading.Event
    on_ready: Callable[[], None]
    silent_after: float = SILENT_AFTER
    look_every: float = LOOK_EVERY
    answer_within: float = ANSWER_WITHIN
    monotonic: Callable[[], float] = time.monotonic
    _heartbeat: Heartbeat | None = None
    _heard_at: float | None = None
    _known: list[OrderGroup] = field(default_factory=list)
    _may_rest: bool = True
    _ended: set[str] = field(default_factory=set)  # groups that the exchange has confirmed, in this silence
    _ear: Line = field(default_factory=Line)
    _way: Line = field(default_factory=Line)
    _pen: Line = field(default_factory=Line)

    def run(self) -> None:
        """Look every second until `stop`."""
        self.look()
        self.on_ready()
        while not self.stop.wait(self.look_every):
            self.look()
        self.close()

    def close(self) -> None:
        """Give up the lines."""
        for line in (self._ear, self._way, self._pen):
            line.close()

    def look(self) -> bool:
        """One look: listen for execution, and trip when it has been silent for too long. True while it is silent."""
        try:
            self._heed(self._ear.ask(self._listen, within=self.answer_within))
        except Error as error:  # whether execution lives cannot be heard: that is silence
            log.warning("watchdog.deaf", extra={"error": repr(error)})
        now = self.monotonic()
        if self._heard_at is None:
            self._heard_at = now  # whoever was silent before us gets its time from our start
        if now - self._heard_at <= self.silent_after:
            return False
        self._bite(now - self._heard_at)
        return True

    def _listen(self) -> Heard:
        """In the ear's thread, where it may end when nobody waits for it any more: so it changes nothing here."""
        lease = Lease.objects.filter(name=LEASE).exclude(holder="").first()
        return Heard(
            heartbeat=None if lease is None else (lease.holder, lease.expires_at),
            groups=list(OrderGroup.objects.standing(self.venue)),
            may_rest=Order.objects.open().filter(venue=self.venue, proposal__isnull=False).exists(),
        )

    def _heed(self, heard: Heard) -> None:
        """A heartbeat is a lease that was renewed: by its change, not by anybody's clock."""
        if heard.heartbeat is not None and heard.heartbeat != self._heartbeat:
            self._heartbeat, self._heard_at = heard.heartbeat, self.monotonic()
            self._ended.clear()
        self._known, self._may_rest = heard.groups, heard.may_rest

    def _bite(self, silence: float) -> None:
        """End every group at the exchange, then make way to the database, then write it down.

        At each look again, until the exchange confirms and the database knows. Naive: write each group down as soon as
        it is ended. That waits for half a minute behind a process that is frozen inside a write, and the next group
        waits with it, and so does the end of that process.
        """
        ended = [group for group in self._known if self._end(group)] if self._may_rest or self._ended else []
        self._make_way()
        if ended:
            self._note(ended, silence)

    def _end(self, group: OrderGroup) -> bool:
        """True when the exchange has ended it and the database does not know yet."""
        if group.tripped_at is not None:
            return False
        if group.venue_group_id in self._ended:
            return True
        outcome = self.groups.trigger(group.venue_group_id, exchange_index=group.exchange_index)
        if not isinstance(outcome, Done):
            log.error("watchdog.trigger.failed", extra={"group": group.venue_group_id, "why": repr(outcome)})
            return False
        log.error("watchdog.tripped", extra={"group": group.venue_group_id})
        self._ended.add(group.venue_group_id)
        return True

    def _make_way(self) -> None:
        """Execution, or whoever keeps it from its heartbeat, may be frozen with SQLite's write lock in its hand."""
        try:
            self._way.ask(lambda: end_frozen_writer(WATCHDOG), within=self.answer_within)
        except Error as error:  # it is ended; the note of it is not written
            log.warning("watchdog.note.failed", extra={"error": repr(error)})

    def _note(self, ended: list[OrderGroup], silence: float) -> None:
        """The exchange has done it: the rows follow, at the latest when the database is back."""
        reason = f"execution was not heard for {silence:.0f} seconds"
        try:
            self._pen.ask(lambda: _write_down(ended, reason), within=self.answer_within)
        except Error as error:
            log.warning("watchdog.note.failed", extra={"error": repr(error)})


def _write_down(ended: list[OrderGroup], reason: str) -> None:
    for group in ended:
        trip(group, actor=WATCHDOG, reason=reason)
