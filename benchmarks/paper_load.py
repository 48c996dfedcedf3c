"""Load for order entry over raw sockets: requests built and signed beforehand, one in flight per connection.

No HTTP library stands between the clock and the socket: what is measured is the server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

import uvloop
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

PATH = "/trade-api/v2/portfolio/events/orders"
CREATED = 201
PATIENCE: Final = 120.0  # seconds for a whole run
# Timestamps of 25 s ago to 35 s ahead are taken (API.md 3): begun so far ahead, signed requests stay fresh the longest.
AHEAD_MS: Final = 20_000
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)


@dataclass(frozen=True)
class Key:
    """A key of the exchange under load."""

    key_id: str
    file: Path


@dataclass
class Measured:
    """What a run showed. Latencies in seconds, counted from the moment a request was due."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def signed_creates(port: int, key: Key, ticker: str, count: int) -> list[bytes]:
    """Whole HTTP requests: resting one-cent bids, each with its own id, its own millisecond and its own signature.
    Good for half a minute, at most 15,000 of them."""
    private = serialization.load_pem_private_key(key.file.read_bytes(), None)
    order = {
        "ticker": ticker,
        "side": "bid",
        "count": "1.00",
        "price": "0.0100",
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
    }
    first_ms = time.time_ns() // 1_000_000 + AHEAD_MS
    return [_request(port, key, private, first_ms + number, order) for number in range(count)]


def _request(port: int, key: Key, private: object, at_ms: int, order: dict[str, str]) -> bytes:
    text = f"{at_ms}POST{PATH}".encode()
    if isinstance(private, ed25519.Ed25519PrivateKey):
        signature = private.sign(text)
    elif isinstance(private, rsa.RSAPrivateKey):
        signature = private.sign(text, _PSS, hashes.SHA256())
    else:
        raise TypeError(f"no key that signs requests: {private!r}")
    body = json.dumps({**order, "client_order_id": str(uuid4())})
    head = (
        f"POST {PATH} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"KALSHI-ACCESS-KEY: {key.key_id}",
        f"KALSHI-ACCESS-TIMESTAMP: {at_ms}",
        f"KALSHI-ACCESS-SIGNATURE: {base64.b64encode(signature).decode()}",
        f"Content-Length: {len(body)}",
    )
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


class _Connection(asyncio.Protocol):
    """Sends one request, waits for its whole answer, then asks for the next."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._due = 0.0
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by their type.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._run.idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._received = b""
        self._run.answered(self, int(head[9:12]), self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(exc)


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0])


class _Run:
    """All connections of one run. Without a `rate` each connection sends as soon as it has its answer."""

    def __init__(self, requests: list[bytes], rate: float | None) -> None:
        self.measured = Measured()
        self.idle: deque[_Connection] = deque()
        self.finished = asyncio.Event()
        self._requests: Iterator[bytes] = iter(requests)
        self._left = len(requests)
        self._rate = rate
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._failure: Exception | None = None

    async def run(self) -> Measured:
        started = time.perf_counter()
        if self._rate is None:
            for connection in [*self.idle]:
                self._send_next(connection)
        else:
            await self._offer(started, self._rate)
        async with asyncio.timeout(PATIENCE):
            await self.finished.wait()
        self.measured.seconds = time.perf_counter() - started
        if self._failure is not None:
            raise self._failure
        return self.measured

    async def _offer(self, started: float, rate: float) -> None:
        """One request every 1/rate seconds; whoever finds no idle connection waits, and its wait counts."""
        for number, request in enumerate(self._requests):
            due = started + number / rate
            while (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if self.idle:
                self.idle.popleft().send(request, due)
            else:
                self._waiting.append((request, due))

    def answered(self, connection: _Connection, status: int, due: float) -> None:
        if status == CREATED:
            self.measured.latencies.append(time.perf_counter() - due)
        else:
            self.measured.refused[status] = self.measured.refused.get(status, 0) + 1
        self._left -= 1
        if self._left == 0:
            self.finished.set()
        elif self._rate is None:
            self._send_next(connection)
        elif self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, cause: Exception | None) -> None:
        if not self.finished.is_set():
            self._failure = cause or ConnectionError("the server closed a connection under load")
            self.finished.set()

    def _send_next(self, connection: _Connection) -> None:
        request = next(self._requests, None)
        if request is not None:
            connection.send(request, time.perf_counter())


def offer(port: int, requests: list[bytes], *, connections: int, rate: float | None = None) -> Measured:
    """Send all requests over so many kept-alive connections, at a `rate` per second or as fast as they are answered.
    Raises when a connection ends under load."""
    return uvloop.run(_offer(port, requests, connections, rate))


async def _offer(port: int, requests: list[bytes], connections: int, rate: float | None) -> Measured:
    run, loop = _Run(requests, rate), asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port) for _ in range(connections)
    ]
    measured = await run.run()
    for transport, _ in opened:
        transport.close()
    return measured
