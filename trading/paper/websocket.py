"""One connection of the stream: the signed handshake, its outgoing queue, heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from trading.paper.accounts import ApiKey
from trading.paper.auth import require_scope
from trading.paper.commands import Session
from trading.paper.fault_stream import Tampering
from trading.paper.faults import Dropped
from trading.paper.hub import Hub
from trading.paper.refusals import too_many_requests
from trading.paper.service import SERVICE
from trading.paper.stream_limits import StreamLimits
from trading.paper.subscriptions import Subscription

HEARTBEAT = b"heartbeat"
HEARTBEAT_SECONDS = 10.0
FRAMES_A_TURN = 256
OVERFLOW = 25
SILENT_STEP_SECONDS = 0.02
STALLED_SECONDS = 60.0  # a connection that takes nothing for so long is closed


class Connection:
    """The outgoing side: frames queue here, so that one slow reader never holds up the exchange."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        key: ApiKey,
        hub: Hub,
        clock_ms: Callable[[], int],
        limits: StreamLimits,
        *,
        transport: asyncio.Transport | None = None,
        tampering: Tampering | None = None,
    ) -> None:
        self.account_id = key.account_id
        self.subaccount = key.subaccount
        self.session = Session(hub, self, self.reply, limits)
        self._socket = socket
        self._transport = transport
        self._tampering = tampering
        self._clock_ms = clock_ms
        self._limit = limits.buffer_bytes
        self._frames: deque[tuple[Subscription | None, bytes]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def now_ms(self) -> int:
        return self._clock_ms()

    def reply(self, message: dict[str, Any]) -> None:
        """Send a control message that belongs to no subscription."""
        self._queue(None, msgspec.json.encode({**message, "sending_ts_ms": self.now_ms()}))

    def push(self, subscription: Subscription, kind: str, frame: bytes) -> None:
        for shown in self._shown(subscription, kind, frame):
            self._queue(subscription, shown)
        if self._bytes > self._limit and subscription.sid in self.session.subscriptions:
            self._overflow(subscription)

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def pong(self, body: bytes) -> None:
        """Answer a client's ping, in its place among the frames."""
        await self._hush()
        await self._socket.pong(body)

    async def write_forever(self) -> None:
        """Send queued frames in order."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._frames:
                await self._hush()
                await self._write_some()

    @property
    def is_full(self) -> bool:
        """Whether more is queued than one reader may owe."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait while too much is queued: one who asks on and does not read is not read either."""
        await self._room.wait()

    async def beat_forever(self) -> None:
        """Ping every ten seconds with the real exchange's body."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self._hush()
            async with asyncio.timeout(STALLED_SECONDS):
                await self._socket.ping(HEARTBEAT)

    async def _write_some(self) -> None:
        """One clock for a batch of frames: a timer per frame costs more than the frame."""
        async with asyncio.timeout(STALLED_SECONDS):
            for _ in range(min(len(self._frames), FRAMES_A_TURN)):
                if not self._frames:
                    return  # an overflow took them while we waited
                _, frame = self._frames.popleft()
                self._bytes -= len(frame)
                await self._socket.send_frame(frame, WSMsgType.TEXT)
                if self._bytes <= self._limit:
                    self._room.set()

    def _shown(self, subscription: Subscription, kind: str, frame: bytes) -> list[bytes]:
        """The frames to send for this one: itself, unless a fault is planned."""
        if self._tampering is None:
            return [frame]
        try:
            return self._tampering.passed(subscription, kind, frame)
        except Dropped:
            self.cut()
            return []

    async def _hush(self) -> None:
        """Wait out a planned silence."""
        while self._tampering is not None and self._tampering.is_silent:
            await asyncio.sleep(SILENT_STEP_SECONDS)

    def _queue(self, subscription: Subscription | None, frame: bytes) -> None:
        self._frames.append((subscription, frame))
        self._bytes += len(frame)
        if self._bytes > self._limit:
            self._room.clear()
        self._ready.set()

    def _overflow(self, subscription: Subscription) -> None:
        """Error 25: the slow reader loses the subscription and what was queued for it (API.md 14)."""
        self._frames = deque(item for item in self._frames if item[0] is not subscription)
        self._bytes = sum(len(frame) for _, frame in self._frames)
        self.session.end(subscription, OVERFLOW)


async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /trade-api/ws/v2`: signed handshake, then commands until the client leaves.

    Messages are deflated when the client offers it. Past the account's connections the handshake is refused (429; the
    exchange publishes the number but not the answer).
    """
    service = request.app[SERVICE]
    key = service.verifier.identify(request.headers, request.method, request.raw_path.partition("?")[0])
    require_scope(key, "read")
    open_ones = sum(other.account_id == key.account_id for other in service.connections.values())
    if open_ones >= service.stream_limits.connections:
        raise too_many_requests()
    socket = web.WebSocketResponse(max_msg_size=1024 * 1024, autoping=False)
    connection = Connection(
        *(socket, key, service.hub, service.exchange.now_ms, service.stream_limits),
        transport=request.transport,
        tampering=Tampering(service.faults) if service.with_faults else None,
    )
    service.connections[socket] = connection
    try:
        await socket.prepare(request)
        await _serve(socket, connection, service.closing)
    finally:
        del service.connections[socket]
        connection.session.close()
    return socket


async def _serve(
    socket: web.WebSocketResponse, connection: Connection, closing: set[asyncio.Task[Any]]
) -> None:
    tasks = [asyncio.create_task(connection.write_forever()), asyncio.create_task(connection.beat_forever())]
    for task in tasks:
        task.add_done_callback(lambda done: _close_when_failed(done, socket, closing))
    try:
        async for message in socket:
            if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                connection.session.receive(message.data)
                await connection.room()
            elif message.type is WSMsgType.PING:
                await connection.pong(message.data)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
