"""A paper exchange inside the test's own loop, a quiet world for it, and a client that signs by itself."""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import functools
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from trading.domain.orders import BookSide
from trading.paper.accounts import load_or_make
from trading.paper.exchange import Exchange
from trading.paper.server import PaperServer
from trading.paper.wire import rfc3339
from trading.paper.world import Venue

BID, ASK = BookSide.BID, BookSide.ASK
PREFIX = "/trade-api/v2"
ORDERS = "/portfolio/events/orders"
A, B = "TEST-1-A", "TEST-1-B"


class QuietWorld:
    """Lists two markets of one event and then lets the test be the world."""

    def __init__(self, fee_type: str = "quadratic") -> None:
        self.fee_type = fee_type

    async def run(self, exchange: Venue) -> None:
        now = exchange.now()
        exchange.add_series(
            {"ticker": "TEST", "fee_type": self.fee_type, "category": "Tests", "tags": ["quiet"]}
        )
        exchange.add_event({"event_ticker": "TEST-1", "series_ticker": "TEST", "title": "A test"})
        times = {
            "open_time": rfc3339(now - timedelta(seconds=1)),
            "close_time": rfc3339(now + timedelta(hours=1)),
        }
        for ticker in (A, B):
            exchange.add_market({"ticker": ticker, "event_ticker": "TEST-1", **times})
        await asyncio.Event().wait()

    def describe(self) -> str:
        return "a quiet world"


@dataclass
class Signer:
    """Signs as API.md 3 says, from the key file that the exchange wrote."""

    key_id: str
    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @classmethod
    def of(cls, home: Path, name: str) -> Signer:
        accounts = json.loads((home / "accounts.json").read_text())["accounts"]
        entry = next(key for account in accounts for key in account["keys"] if key["name"] == name)
        private = serialization.load_pem_private_key((home / entry["key_file"]).read_bytes(), None)
        assert isinstance(private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
        return cls(entry["key_id"], private)

    def headers(self, method: str, path: str, *, skew_ms: int = 0) -> dict[str, str]:
        timestamp = str(int(time.time() * 1000) + skew_ms)
        text = f"{timestamp}{method}{path}".encode()
        if isinstance(self.private, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
            signature = self.private.sign(text, pss, hashes.SHA256())
        else:
            signature = self.private.sign(text)
        return {
            "KALSHI-ACCESS-KEY": self.key_id,
            "KALSHI-ACCESS-TIMESTAMP": timestamp,
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode(),
        }


@dataclass
class Client:
    """REST and stream of one key against one base URL."""

    session: aiohttp.ClientSession
    origin: str
    signer: Signer
    numbers: int = 0

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and decoded body of a signed request; `path` without the prefix."""
        headers = {**self.signer.headers(method, PREFIX + path), **options.pop("headers", {})}
        async with self.session.request(
            method, self.origin + PREFIX + path, headers=headers, **options
        ) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def get(self, path: str, **params: Any) -> Any:
        """The body of a read that must succeed."""
        status, body = await self.call("GET", path, params=params)
        assert status == 200, body
        return body

    async def order(self, side: str, price: str, count: str, **fields: Any) -> tuple[int, Any]:
        self.numbers += 1
        body = {
            "ticker": A,
            "side": side,
            "price": price,
            "count": count,
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "taker_at_cross",
            "client_order_id": f"{self.signer.key_id[:8]}-{self.numbers}",
            **fields,
        }
        return await self.call("POST", ORDERS, json=body)

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        path = "/trade-api/ws/v2"
        async with self.session.ws_connect(
            self.origin + path, headers=self.signer.headers("GET", path), autoping=False
        ) as socket:
            yield Stream(socket)


@dataclass
class Stream:
    """The stream of one connection; frames that a test does not wait for are kept."""

    socket: aiohttp.ClientWebSocketResponse
    kept: list[dict[str, Any]] = field(default_factory=list)
    numbers: int = 0

    async def send(self, cmd: str, **params: Any) -> int:
        self.numbers += 1
        await self.socket.send_json(
            {"id": self.numbers, "cmd": cmd, **({"params": params} if params else {})}
        )
        return self.numbers

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, message
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def next(self, kind: str) -> dict[str, Any]:
        """The next frame of a type; others on the way are kept."""
        while True:
            frame = await self.receive()
            if frame["type"] == kind:
                return frame
            self.kept.append(frame)

    async def subscribe(self, *channels: str, **params: Any) -> list[dict[str, Any]]:
        """Subscribe and return the `subscribed` replies."""
        await self.send("subscribe", channels=list(channels), **params)
        return [await self.next("subscribed") for _ in channels]


@dataclass
class Running:
    """A started exchange with a client for each of its desk's keys."""

    server: PaperServer
    reader: Client
    trader: Client

    @property
    def exchange(self) -> Exchange:
        return self.server.service.exchange

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def quote(self, bid: int = 4000, ask: int = 4200, lots: int = 10_000) -> None:
        """The house quotes market A."""
        self.exchange.house_submit("maker", A, BID, bid, lots)
        self.exchange.house_submit("maker", A, ASK, ask, lots)


@functools.cache
def _fresh_home() -> Path:
    """Accounts and keys as a first start makes them; made once, for an RSA key takes its time."""
    home = Path(tempfile.mkdtemp(prefix="kops-paper-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    load_or_make(home)
    return home


@contextlib.asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[Running]:
    """Start a paper exchange on a free port and stop it after the block."""
    if not home.exists() or not any(home.iterdir()):
        shutil.copytree(_fresh_home(), home, dirs_exist_ok=True)
    server = PaperServer(
        home, options.pop("world", None) or QuietWorld(), tier=options.pop("tier", "prestige"), **options
    )
    try:
        await server.start()
        async with aiohttp.ClientSession() as session:
            origin = f"http://127.0.0.1:{server.port}"
            reader, trader = (
                Client(session, origin, Signer.of(home, name)) for name in ("desk-read", "desk-trade")
            )
            yield Running(server, reader, trader)
    finally:
        await server.stop()
