"""A small exchange whose true books are known at every clock, and whose wire loses, repeats, swaps and ends at will."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import msgspec
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from trading.domain.book import Book
from trading.domain.orders import BookSide

PATH: Final = "/trade-api/ws/v2"
Fault = Literal["gap", "repeat", "swap", "disconnect", "overflow", "away", "lost snapshot"]
Depth = tuple[tuple[int, int], ...]  # (cent, lots)
_REMEMBERED: Final = 20_000


class TrueMarket:
    """One market's book, and what it was at each of its clocks."""

    def __init__(self, ticker: str, chance: random.Random) -> None:
        self.ticker = ticker
        self.clock = 0
        self.bids = dict.fromkeys(range(40, 46), 1000)
        self.asks = dict.fromkeys(range(50, 56), 1000)
        self.known: dict[int, list[tuple[Depth, Depth]]] = {0: [self.depths]}
        self._chance = chance

    @property
    def depths(self) -> tuple[Depth, Depth]:
        return tuple(sorted(self.bids.items())), tuple(sorted(self.asks.items()))

    def act(self) -> list[tuple[str, int, int]]:
        """One action of the market: (side, cent, lots) of its changes, which share a clock."""
        self.clock += self._chance.randint(1, 3)
        changes = []
        for _ in range(self._chance.randint(1, 3)):
            side, book, low = self._chance.choice([("yes", self.bids, 40), ("no", self.asks, 50)])
            cent = low + self._chance.randrange(8)
            held = book.get(cent, 0)
            lots = -held if held and self._chance.random() < 0.4 else self._chance.randint(1, 900)
            book[cent] = held + lots
            if not book[cent]:
                del book[cent]
            changes.append((side, cent, lots))
            self.known.setdefault(self.clock, []).append(self.depths)
        if len(self.known) > _REMEMBERED:
            del self.known[next(iter(self.known))]
        return changes

    def snapshot(self) -> dict[str, Any]:
        body: dict[str, Any] = {"market_ticker": self.ticker, "market_id": "x", "clock": self.clock}
        for key, book in (("yes_dollars_fp", self.bids), ("no_dollars_fp", self.asks)):
            if book:
                body[key] = [[f"{cent / 100:.4f}", f"{lots / 100:.2f}"] for cent, lots in book.items()]
        return body

    def was_once(self, book: Book) -> bool:
        """Whether this is the true book at the clock that it carries."""
        shown = tuple(
            tuple(sorted((tick // 100, lots) for tick, lots in book.raw_levels(side))) for side in BookSide
        )
        return shown in self.known.get(book.clock, ())


class Wire:
    """One connection: its subscription, and the faults that its next frames meet."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.sid, self.seq = 0, 0
        self.tickers: set[str] = set()
        self.faults: deque[Fault] = deque()
        self.commands = 0
        self._kept_back: str | None = None

    async def subscribed(self, sid: int, number: int) -> None:
        self.sid, self.seq = sid, 0
        told = {"id": number, "type": "subscribed", "msg": {"channel": "orderbook_delta", "sid": sid}}
        await self.socket.send_str(_json(told))

    async def send(self, kind: str, msg: object, **more: Any) -> None:
        """The next frame of the subscription, if nothing happens to it."""
        self.seq += 1
        text = _json({"type": kind, "sid": self.sid, "seq": self.seq, "msg": msg, **more})
        fault = self._next_fault(kind)
        if fault in {"gap", "lost snapshot"}:
            return
        if fault == "swap" and self._kept_back is None:
            self._kept_back = text
            return
        await self.socket.send_str(text)
        if fault == "repeat":
            await self.socket.send_str(text)
        if self._kept_back is not None:
            late, self._kept_back = self._kept_back, None
            await self.socket.send_str(late)
        if fault == "disconnect":
            await self.socket.close()
        elif fault == "overflow":
            told = {"type": "error", "sid": self.sid, "msg": {"code": 25, "msg": "buffer overflow"}}
            await self.socket.send_str(_json(told))
            self.sid, self.tickers = 0, set()

    def _next_fault(self, kind: str) -> Fault | None:
        if not self.faults or (self.faults[0] == "lost snapshot") != (kind == "orderbook_snapshot"):
            return None
        return self.faults.popleft()


class ChaoticExchange:
    """`wires` are the connections that stand. `is_away`: nobody is let in."""

    def __init__(self, tickers: list[str], seed: int) -> None:
        self.chance = random.Random(seed)
        self.markets = {ticker: TrueMarket(ticker, self.chance) for ticker in tickers}
        self.wires: list[Wire] = []
        self.is_away = False
        self._sids = 0

    async def trade(self) -> None:
        """Let the markets move until canceled."""
        while True:
            market = self.chance.choice(list(self.markets.values()))
            for side, cent, lots in market.act():
                body = {"market_ticker": market.ticker, "market_id": "x", "clock": market.clock, "side": side}
                body |= {"price_dollars": f"{cent / 100:.4f}", "delta_fp": f"{lots / 100:.2f}", "ts_ms": 1}
                for wire in list(self.wires):
                    if market.ticker in wire.tickers:
                        await self._send(wire, "orderbook_delta", body)
            await asyncio.sleep(0.001)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.is_away:
            return web.Response(status=503)
        socket = web.WebSocketResponse(autoping=True, compress=False)
        await socket.prepare(request)
        wire = Wire(socket)
        self.wires.append(wire)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._command(wire, msgspec.json.decode(message.data))
        finally:
            self.wires.remove(wire)
        return socket

    async def _command(self, wire: Wire, command: dict[str, Any]) -> None:
        wire.commands += 1
        params = command["params"]
        tickers = list(params["market_tickers"])
        if command["cmd"] == "subscribe":
            self._sids += 1
            await wire.subscribed(self._sids, command["id"])
        elif wire.sid not in params["sids"]:
            return
        for ticker in tickers:
            wire.tickers.add(ticker)
            await self._send(wire, "orderbook_snapshot", self.markets[ticker].snapshot())

    async def _send(self, wire: Wire, kind: str, body: object) -> None:
        try:
            await wire.send(kind, body)
        except (ConnectionError, RuntimeError):
            wire.tickers = set()  # gone in the middle of a word


@asynccontextmanager
async def serving(exchange: ChaoticExchange) -> AsyncIterator[str]:
    """The exchange's url; its markets move meanwhile."""
    app = web.Application()
    app.router.add_get(PATH, exchange.handle)
    async with TestServer(app) as server:
        trading = asyncio.create_task(exchange.trade())
        try:
            yield str(server.make_url(PATH)).replace("http", "ws", 1)
        finally:
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)


def _json(told: object) -> str:
    return msgspec.json.encode(told).decode()
