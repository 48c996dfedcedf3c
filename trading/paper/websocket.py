"""One connection of the stream: the signed handshake, its outgoing queue, heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from trading.paper.accounts import ApiKey
from trading.paper.auth import require_scope
from trading.paper.commands import MESSAGES, Session
from trading.paper.hub import Hub
from trading.paper.service import SERVICE
from trading.paper.subscriptions import Subscription

HEARTBEAT = b"heartbeat"
HEARTBEAT_SECONDS = 10.0
STALLED_SECONDS = 60.0  # a connection that takes nothing for so long is closed


class Connection:
    """The outgoing side: frames queue here, so that one slow reader never holds up the exchange."""

    def __init__(
        self, socket: web.WebSocketResponse, key: ApiKey, hub: Hub, clock_ms: Any, buffer_bytes: int
    ) -> None:
        self.account_id = key.account_id
        self.session = Session(hub, self, self.reply)
        self._socket = socket
        self._clock_ms = clock_ms
        self._limit = buffer_bytes
        self._frames: deque[tuple[Subscription | None, bytes]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    def now_ms(self) -> int:
        return int(self._clock_ms())

    def reply(self, message: dict[str, Any]) -> None:
        """Send a control message that belongs to no subscription."""
        self._queue(None, msgspec.json.encode({**message, "sending_ts_ms": self.now_ms()}))

    def push(self, subscription: Subscription, frame: bytes) -> None:
        self._queue(subscription, frame)
        if self._bytes > self._limit and subscription.sid in self.session.subscriptions:
            self._overflow(subscription)

    async def write_forever(self) -> None:
        """Send queued frames in order."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._frames:
                _, frame = self._frames.popleft()
                self._bytes -= len(frame)
                async with asyncio.timeout(STALLED_SECONDS):
                    await self._socket.send_frame(frame, WSMsgType.TEXT)

    async def beat_forever(self) -> None:
        """Ping every ten seconds with the real exchange's body."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            async with asyncio.timeout(STALLED_SECONDS):
                await self._socket.ping(HEARTBEAT)

    def _queue(self, subscription: Subscription | None, frame: bytes) -> None:
        self._frames.append((subscription, frame))
        self._bytes += len(frame)
        self._ready.set()

    def _overflow(self, subscription: Subscription) -> None:
        """Error 25: the slow reader loses the subscription and what was queued for it (API.md 14)."""
        self.session.drop(subscription)
        self._frames = deque(item for item in self._frames if item[0] is not subscription)
        self._bytes = sum(len(frame) for _, frame in self._frames)
        body = {"code": 25, "msg": MESSAGES[25]}
        subscription.send("error", msgspec.json.encode(body))


async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /trade-api/ws/v2`: signed handshake, then commands until the client leaves."""
    service = request.app[SERVICE]
    key = service.verifier.identify(request.headers, request.method, request.raw_path.partition("?")[0])
    require_scope(key, "read")
    socket = web.WebSocketResponse(max_msg_size=1024 * 1024)
    await socket.prepare(request)
    connection = Connection(socket, key, service.hub, service.exchange.now_ms, service.buffer_bytes)
    service.sockets.add(socket)
    tasks = [asyncio.create_task(connection.write_forever()), asyncio.create_task(connection.beat_forever())]
    for task in tasks:
        task.add_done_callback(lambda done: _close_when_failed(done, socket, service.closing))
    try:
        async for message in socket:
            if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                connection.session.receive(message.data)
    finally:
        service.sockets.discard(socket)
        connection.session.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return socket


def _close_when_failed(
    done: asyncio.Task[None], socket: web.WebSocketResponse, closing: set[asyncio.Task[Any]]
) -> None:
    """A writer or heartbeat that failed means a dead peer: end the reading side too."""
    if done.cancelled() or done.exception() is None:
        return
    with contextlib.suppress(RuntimeError):  # the loop is already closing
        task = asyncio.ensure_future(socket.close())
        closing.add(task)
        task.add_done_callback(closing.discard)
