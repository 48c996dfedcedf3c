"""Our own orders and fills as the exchange streams them: early news. REST tells what it misses (`catch_up`).

It runs in a thread of its own beside the execution loop, so that a slow database never keeps a socket waiting: the sink
only queues, a second thread writes.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import close_old_connections, connections
from django.db.models import QuerySet

from kalshi_site.prepared import prepared
from trading.exchange.events import Connected, OwnFill, OwnOrder, StreamEvent
from trading.exchange.gateway import StreamGateway
from trading.exchange.reports import OrderReport
from trading.execution import fills, lifecycle
from trading.execution.catch_up import CatchUp
from trading.models import Order

log = logging.getLogger(__name__)

_SETTLES = 0.02  # seconds in which the answer to a create comes too: what both say is then written once
_CAPACITY = 10_000  # events; when it is full the oldest news is lost, and REST brings it again


@dataclass(slots=True)
class OwnStream:
    """`open_stream` is called inside the thread's own event loop."""

    venue: str
    open_stream: Callable[[], StreamGateway]
    stop: threading.Event
    catch_up: CatchUp | None = None
    again: float = 2.0  # seconds until the stream is opened anew after it broke
    _has_lost: bool = False
    _following: bool = False
    _news: queue.Queue[StreamEvent] = field(default_factory=lambda: queue.Queue(_CAPACITY))

    def start(self) -> None:
        """Follow in the background until `stop`. A second call does nothing."""
        if self._following:
            return
        self._following = True
        threading.Thread(target=self._follow, name="own-stream", daemon=True).start()
        threading.Thread(target=self._write, name="own-stream-writer", daemon=True).start()

    def _follow(self) -> None:
        while not self.stop.is_set():
            try:
                asyncio.run(self._run())
            except Exception:  # reconciliation goes on without early news; they begin again
                log.exception("own_stream.broke")
            self.stop.wait(self.again)

    async def _run(self) -> None:
        stream = self.open_stream()
        running = asyncio.ensure_future(stream.run(self._queue))
        while not self.stop.is_set() and not running.done():
            await asyncio.sleep(0.2)
        await stream.stop()
        await running

    def _queue(self, event: StreamEvent) -> None:
        if not isinstance(event, OwnFill | OwnOrder | Connected):
            return
        try:
            self._news.put_nowait(event)
        except queue.Full:
            self._has_lost = True
            log.error("own_stream.full")

    def _write(self) -> None:
        try:
            self._write_news()
        finally:
            connections.close_all()

    def _write_news(self) -> None:
        while not self.stop.is_set():
            event = self._next()
            try:
                close_old_connections()
                if event is not None:
                    self.apply(event)
                self._ask_what_was_missed()
            except Exception:  # one odd message must not stop the news; REST brings it again
                log.exception("own_stream.event.broke")

    def _next(self) -> StreamEvent | None:
        """The next event, a moment after it came when it came alone; None after half a second without one."""
        try:
            event = self._news.get(timeout=0.5)
        except queue.Empty:
            return None
        if self._news.empty():
            self.stop.wait(_SETTLES)
        return event

    def _ask_what_was_missed(self) -> None:
        if self.catch_up is None:
            return
        if self._has_lost:
            self._has_lost = False
            self.catch_up.needed()
        self.catch_up.if_due()

    def apply(self, event: StreamEvent) -> None:
        """Write one event into our rows. Repeating it changes nothing.

        A fill that no row explains is left to REST, which gives its order a row first, and waits for that order while
        the exchange shows the fill alone: booked as nobody's it would hide an order that was placed elsewhere, and an
        orphan, for good.
        """
        match event:
            case OwnFill() if event.fill.is_primary and fills.is_explained(self.venue, event.fill):
                fills.record_fill(self.venue, event.fill)
            case OwnFill() if event.fill.is_primary and self.catch_up is not None:
                self.catch_up.soon()
            case OwnOrder() if not self._is_known(event.order):
                order = self._row_of(event.order)
                if order is not None:
                    lifecycle.record_report(order, event.order)
            case Connected() if self.catch_up is not None:
                self.catch_up.needed()

    def _is_known(self, report: OrderReport) -> bool:
        """Asked first and cheaply: most news of an order is the answer to its create once more."""
        order = _short_of_theirs.first(self.venue, report.order_id)
        return order is not None and lifecycle.knows(order, report)

    def _row_of(self, report: OrderReport) -> Order | None:
        found = _of_theirs.first(self.venue, report.order_id)
        if found is None and report.client_order_id:
            found = Order.of_client_id(self.venue, report.client_order_id)
        return found if found is not None and found.may_be(report.order_id) else None


@prepared
def _of_theirs(venue: str, order_id: str) -> QuerySet[Order]:
    return Order.objects.filter(venue=venue, venue_order_id=order_id).select_related("proposal")


@prepared
def _short_of_theirs(venue: str, order_id: str) -> QuerySet[Order]:
    return Order.objects.filter(venue=venue, venue_order_id=order_id).only(*lifecycle.KNOWN_BY)
