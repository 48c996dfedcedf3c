"""One socket's way out: frames in the reader's own wire form, prices gathered to the latest of each market."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgpack

from kalshi_site.live.pressure import Frame, Outbox, TooSlow

MSGPACK: Final = "kops.msgpack.1"
JSON: Final = "kops.json.1"
TICK_EVERY: Final = 0.25  # seconds: prices go out at most four times a second
PRICES: Final = ("yes_bid", "yes_ask", "no_bid", "no_ask")


def best_protocol(offered: list[str]) -> str | None:
    """The sub-protocol that we like best of those offered."""
    return next((name for name in (MSGPACK, JSON) if name in offered), None)


class Line:
    """`send` hands one message to the server; `let_go` is called once, when the reader takes less than it is sent."""

    def __init__(
        self, protocol: str, send: Callable[..., Awaitable[None]], let_go: Callable[[], None]
    ) -> None:
        self.protocol = protocol
        self.outbox = Outbox()
        self._send = send
        self._let_go = let_go
        self._is_over = False
        self._ticks: dict[str, dict[str, Any]] = {}

    def put(self, frame: Frame) -> None:
        """A frame that must arrive; the time goes with it."""
        try:
            self.outbox.put({**frame, "ts": _now_ms()})
        except TooSlow:
            self.give_up()

    def quote(self, quote: dict[str, Any]) -> None:
        """A price: it goes out at the next beat unless a later one of its market comes first."""
        if "ticker" in quote:
            self._ticks[quote["ticker"]] = quote

    def give_up(self) -> None:
        """The reader is too slow. Said once."""
        if not self._is_over:
            self._is_over = True
            self._let_go()

    async def write(self) -> None:
        """The one writer of this socket."""
        while not self._is_over:
            size = await self.say(await self.outbox.next())
            try:
                self.outbox.sent(size)
            except TooSlow:
                self.give_up()

    async def gather_ticks(self) -> None:
        """Hand on the latest price of each market that moved since the last beat."""
        while True:
            await asyncio.sleep(TICK_EVERY)
            waiting, self._ticks = self._ticks, {}
            for ticker, quote in waiting.items():
                prices = {key: quote.get(key) for key in PRICES}
                tick = {"t": f"market:{ticker}", "k": "tick", "d": prices, "ts": quote.get("ts") or _now_ms()}
                self.outbox.put_latest(ticker, tick)

    async def say(self, frame: Frame) -> int:
        """Send now, past everything that waits. Returns the size on the wire."""
        frame = {"ts": _now_ms(), **frame}
        if self.protocol == MSGPACK:
            packed: bytes = msgpack.packb(frame)
            await self._send(bytes_data=packed)
            return len(packed)
        text = json.dumps(frame, separators=(",", ":"))
        await self._send(text_data=text)
        return len(text)


def _now_ms() -> int:
    return int(time.time() * 1000)
