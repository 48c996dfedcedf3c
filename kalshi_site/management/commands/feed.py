"""`manage.py feed`: keeps the catalogue and the quotes current."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site.wiring import read_signer
from trading.exchange.market_data import open_market_data
from trading.exchange.stream import open_stream
from trading.market_data.feed import Feed


class Command(BaseCommand):
    help = "Follow the exchange's markets: books in memory, quotes into the database, prices to the pages."

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(_feed())


async def _feed() -> None:
    feed = Feed(
        exchange=open_market_data(settings.KALSHI_REST_URL),
        open_stream=partial(open_stream, settings.KALSHI_WS_URL, read_signer()),
        on_ready=_tell_ready,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, feed.stop)
    await feed.run()


def _tell_ready() -> None:
    """Leave the file that the supervisor waits for."""
    ready = settings.KALSHI_READY_FILE or settings.VAR_DIR / "run" / "feed.ready"
    Path(ready).write_text(str(os.getpid()), encoding="utf-8")
