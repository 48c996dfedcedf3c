"""`manage.py record --out DIR`: record the exchange's stream, as it comes, until SIGTERM, Ctrl-C or `--for`."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from kalshi_site.wiring import public_signer
from trading.exchange.errors import KeyFileRefused
from trading.exchange.market_data import open_market_data
from trading.exchange.stream import Channels, Stream, Tap
from trading.market_data.recorder import Recorder, TooManyMarkets
from trading.recordings.writer import RecordingFailed, RecordingWriter


class Command(BaseCommand):
    help = "Record order books, trades and lifecycle of live markets, with their definitions."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the recording lies")
        parser.add_argument(
            "--series", action="append", default=[], help="all its live markets (may be repeated)"
        )
        parser.add_argument("--market", action="append", default=[], help="this market (may be repeated)")
        parser.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="stop by itself")

    def handle(self, *args: Any, out: Path, seconds: float | None, **options: Any) -> None:
        if not settings.KALSHI_REST_URL or not settings.KALSHI_WS_URL:
            raise CommandError(
                "no exchange: start the desk (make run), or set KALSHI_REST_URL and KALSHI_WS_URL"
            )
        try:
            asyncio.run(self._record(out, seconds, tuple(options["series"]), tuple(options["market"])))
        except (RecordingFailed, TooManyMarkets, KeyFileRefused) as error:
            raise CommandError(f"{error.code} {error}") from error

    async def _record(
        self, out: Path, seconds: float | None, series: tuple[str, ...], markets: tuple[str, ...]
    ) -> None:
        signer = public_signer()
        writer = RecordingWriter(out)

        def open_stream(channels: Channels, tap: Tap) -> Stream:
            return Stream(settings.KALSHI_WS_URL, signer, channels, use_yes_price=False, tap=tap)

        recorder = Recorder(
            exchange=open_market_data(settings.KALSHI_REST_URL, signer),
            writer=writer,
            open_stream=open_stream,
            say=self._say,
            rest_url=settings.KALSHI_REST_URL,
            series=series,
            markets=markets,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, recorder.stop)
        if seconds is not None:
            loop.call_later(seconds, recorder.stop)
        try:
            await recorder.run()
        finally:
            await asyncio.to_thread(writer.close)
        self._say(f"stopped: {recorder.progress()}")

    def _say(self, line: str) -> None:
        try:
            self.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {line}")
            self.stdout.flush()
        except BrokenPipeError:  # whoever started us may not read
            sys.stdout = None
