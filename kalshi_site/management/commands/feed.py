"""`manage.py feed`: keeps the catalogue and the quotes current."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site import fenced, heartbeat
from kalshi_site.locks import Held
from kalshi_site.wiring import feed_chores, feed_stream, note_drift, public_data
from trading.market_data.feed import LEASE, LEASE_TTL, Feed


class Command(BaseCommand):
    help = "Follow the exchange's markets: books in memory, quotes into the database, prices to the pages."

    def handle(self, *args: Any, **options: Any) -> None:
        heartbeat.begin("feed")
        # A feed that only stands by ends in order too, so that its heartbeat leaves with it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with (
            fenced.standing_by(LEASE, ttl=LEASE_TTL) as held,
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(_feed(held))


async def _feed(held: Held) -> None:
    note_drift("feed")
    feed = Feed(
        held=held,
        exchange=public_data(),
        chores=feed_chores(),
        open_stream=feed_stream,
        on_ready=_tell_ready,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, feed.stop)
    await feed.run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop reads sockets for less; it is there on Linux alone."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


def _tell_ready() -> None:
    """Leave the file that the supervisor waits for."""
    gc.collect()
    gc.freeze()  # a whole collection of what stands for good would hold up the quotes for a tenth of a second
    ready = settings.KALSHI_READY_FILE or settings.VAR_DIR / "run" / "feed.ready"
    Path(ready).write_text(str(os.getpid()), encoding="utf-8")
