"""Our own orders and fills as the exchange streams them: early news. REST reconciles what it misses.

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

from trading.exchange.events import Connected, OwnFill, OwnOrder, StreamEvent
from trading.exchange.gateway import StreamGateway
from trading.exchange.reports import OrderReport
from trading.execution import fills, lifecycle
from trading.models import Order

log = logging.getLogger(__name__)

_CAPACITY = 10_000  # events; when it is full the oldest news is lost, and REST brings it again


@dataclass(slots=True)
class OwnStream:
    """`open_stream` is called inside the thread's own event loop."""

    venue: str
    open_stream: Callable[[], StreamGateway]
    stop: threading.Event
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
        try:
            asyncio.run(self._run())
        except Exception:  # reconciliation goes on without early news
            log.exception("own_stream.broke")

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
            log.error("own_stream.full")

    def _write(self) -> None:
        try:
            self._write_news()
        finally:
            connections.close_all()

    def _write_news(self) -> None:
        while not self.stop.is_set():
            try:
                event = self._news.get(timeout=0.5)
            except queue.Empty:
                continue
            try:
                close_old_connections()
                self.apply(event)
            except Exception:  # one odd message must not stop the news; REST brings it again
                log.exception("own_stream.event.broke")

    def apply(self, event: StreamEvent) -> None:
        """Write one event into our rows. Repeating it changes nothing."""
        match event:
            case OwnFill():
                fills.record_fill(self.venue, event.fill)
            case OwnOrder():
                order = self._row_of(event.order)
                if order is not None:
                    lifecycle.record_report(order, event.order)

    def _row_of(self, report: OrderReport) -> Order | None:
        rows = Order.objects.filter(venue=self.venue).select_related("proposal")
        found = rows.filter(venue_order_id=report.order_id).first()
        if found is None and report.client_order_id:
            found = rows.filter(client_order_id=report.client_order_id).first()
        return found
