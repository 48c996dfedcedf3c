"""A WebSocket proxy that loses, repeats, swaps and cuts: the line between a real client and a real web process."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMessage, WSMsgType, web
from aiohttp.test_utils import TestServer

PATH = "/ws/v1/live"
Socket = web.WebSocketResponse | ClientWebSocketResponse
Watcher = Callable[[WSMessage, str], None]


def _unwatched(_: WSMessage, __: str) -> None:
    """Nobody looks."""


@dataclass
class BadLine:
    """`share` of the frames of each kind of fault, in both directions; `watch` is told the fate of server frames."""

    target: str
    chance: random.Random
    share: float = 0.05
    swap_within: float = 0.5  # seconds: a frame that waits to be overtaken waits no longer
    lose_next: str = ""  # the next server frame that contains this text is lost, whatever the share
    watch: Watcher = _unwatched
    counts: dict[str, int] = field(default_factory=dict)
    _sockets: set[Socket] = field(default_factory=set)

    def cut(self) -> None:
        """End every connection without a goodbye."""
        for socket in list(self._sockets):
            transport = getattr(socket, "_req", None) and socket._req.transport  # type: ignore[union-attr]
            if transport is not None:
                transport.abort()
        self.counts["cut"] = self.counts.get("cut", 0) + 1

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One client: a connection of its own behind, and two pumps between."""
        near = web.WebSocketResponse(protocols=("kops.msgpack.1", "kops.json.1"), autoclose=False)
        await near.prepare(request)
        self._sockets.add(near)
        try:
            async with (
                ClientSession() as session,
                session.ws_connect(
                    self.target,
                    protocols=(near.ws_protocol or "kops.json.1",),
                    origin=self.target.replace("ws", "http", 1),
                ) as far,
            ):
                pumps = [asyncio.create_task(self._pump(far, near, self.watch))]
                pumps.append(asyncio.create_task(self._pump(near, far, _unwatched)))
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (ClientError, OSError):
            pass  # nobody serves just now
        finally:
            self._sockets.discard(near)
            with contextlib.suppress(ConnectionError, RuntimeError):
                await near.close(code=1012)
        return near

    async def _pump(self, source: Socket, sink: Socket, watch: Watcher) -> None:
        swap = _Swap(sink, self.swap_within)
        async for message in source:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            fate = self._fate(message)
            watch(message, fate)
            self.counts[fate] = self.counts.get(fate, 0) + 1
            if fate == "swapped":
                await swap.hold(message)
                continue
            for _ in range({"lost": 0, "repeated": 2}.get(fate, 1)):
                await _pass_on(sink, message)
            await swap.release()

    def _fate(self, message: WSMessage) -> str:
        if self.lose_next and message.type is WSMsgType.TEXT and self.lose_next in message.data:
            self.lose_next = ""
            return "lost"
        draw = self.chance.random()
        fates = ("lost", "repeated", "swapped")
        return next((fate for n, fate in enumerate(fates, 1) if draw < n * self.share), "passed")


class _Swap:
    """Holds one frame until another has overtaken it."""

    def __init__(self, sink: Socket, within: float) -> None:
        self._sink, self._within = sink, within
        self._held: WSMessage | None = None

    async def hold(self, message: WSMessage) -> None:
        await self.release()
        self._held = message
        asyncio.get_running_loop().call_later(self._within, lambda: asyncio.ensure_future(self.release()))

    async def release(self) -> None:
        message, self._held = self._held, None
        if message is not None:
            await _pass_on(self._sink, message)


async def _pass_on(sink: Socket, message: WSMessage) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        else:
            await sink.send_bytes(message.data)


@asynccontextmanager
async def serving(line: BadLine) -> AsyncIterator[str]:
    """The address of the near end."""
    app = web.Application()
    app.router.add_get(PATH, line.handle)
    async with TestServer(app) as server:
        yield str(server.make_url(PATH)).replace("http", "ws", 1)
