"""The stream over a real socket: signed, uncompressed, alive by pings, back after every loss."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.scripted_exchange import Ledger
from trading.exchange.auth import Signer
from trading.exchange.events import BookDelta, BookSnapshot, Connected, Disconnected, Gap, Heartbeat
from trading.exchange.session import Session
from trading.exchange.stream import Stream

KEY = Ed25519PrivateKey.generate()
PATH = "/trade-api/ws/v2"
Socket = web.WebSocketResponse
Script = Callable[[Socket, int], Awaitable[None]]


class Exchange:
    """Runs the script for each connection, with its number, and remembers handshakes and commands."""

    def __init__(self, script: Script, refuse_first: int = 0) -> None:
        self.script = script
        self.refuse = refuse_first
        self.handshakes: list[dict[str, str]] = []
        self.commands: list[list[dict[str, Any]]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append({name.upper(): value for name, value in request.headers.items()})
        if len(self.handshakes) <= self.refuse:
            return web.json_response({"error": {"code": "authentication_error"}}, status=401)
        socket = Socket(autoping=False, compress=False)
        await socket.prepare(request)
        self.commands.append([])
        await self.script(socket, len(self.commands))
        return socket

    async def hear(self, socket: Socket, count: int = 1) -> None:
        """Take this many commands."""
        while count:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                self.commands[-1].append(json.loads(message.data))
                count -= 1
            elif message.type is not WSMsgType.PING:
                return


@asynccontextmanager
async def streaming(exchange: Exchange, **options: Any) -> AsyncIterator[tuple[Stream, Ledger]]:
    app = web.Application()
    app.router.add_get(PATH, exchange.handle)
    async with TestServer(app) as server:
        url = str(server.make_url(PATH)).replace("http", "ws", 1)
        options.setdefault("share", lambda: 0.0)
        stream, got = Stream(url, Signer("key-1", KEY), {"orderbook_delta": ["A"]}, **options), Ledger()
        task = asyncio.create_task(stream.run(got))
        try:
            yield stream, got
        finally:
            await stream.stop()
            await task


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def subscribe(socket: Socket, sid: int = 1) -> None:
    await socket.send_json({"id": 1, "type": "subscribed", "msg": {"channel": "orderbook_delta", "sid": sid}})
    body = {"market_ticker": "A", "market_id": "x", "clock": 1, "yes_dollars_fp": [["0.4000", "10.00"]]}
    await socket.send_json({"type": "orderbook_snapshot", "sid": sid, "seq": 1, "msg": body})


def delta(seq: int, sid: int = 1) -> dict[str, Any]:
    body = {"market_ticker": "A", "market_id": "x", "clock": 1, "price_dollars": "0.4000", "delta_fp": "1.00"}
    return {"type": "orderbook_delta", "sid": sid, "seq": seq, "msg": {**body, "side": "yes"}}


async def test_the_handshake_is_signed_and_asks_for_no_compression() -> None:
    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)
        await subscribe(socket)
        await exchange.hear(socket)

    exchange = Exchange(script)
    async with streaming(exchange) as (stream, got):
        await until(lambda: got.of(BookSnapshot))
        assert stream.trusted == {"A"}
        assert stream.proven_ms is not None
    [headers] = exchange.handshakes
    text = headers["KALSHI-ACCESS-TIMESTAMP"] + "GET" + PATH
    KEY.public_key().verify(base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"]), text.encode())
    assert "SEC-WEBSOCKET-EXTENSIONS" not in headers
    assert exchange.commands[0][0]["params"]["use_yes_price"] is True


async def test_a_gap_fetches_a_snapshot_over_the_wire() -> None:
    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)
        await subscribe(socket)
        await socket.send_json(delta(2))
        await socket.send_json(delta(4))
        await exchange.hear(socket)
        body = {"market_ticker": "A", "market_id": "x", "clock": 9, "yes_dollars_fp": [["0.4000", "12.00"]]}
        await socket.send_json({"type": "orderbook_snapshot", "id": 2, "sid": 1, "seq": 5, "msg": body})
        await socket.send_json(delta(6))
        await exchange.hear(socket)

    exchange = Exchange(script)
    async with streaming(exchange) as (stream, got):
        await until(lambda: len(got.of(BookDelta)) == 2)
        assert stream.trusted == {"A"}
    assert [type(event) for event in got.events] == [
        Connected,
        BookSnapshot,
        BookDelta,
        Gap,
        BookSnapshot,
        BookDelta,
    ]
    assert exchange.commands[0][1]["params"]["action"] == "get_snapshot"


async def test_after_a_lost_connection_nothing_of_the_old_one_holds() -> None:
    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)
        await subscribe(socket, sid=number)
        if number == 1:
            await socket.send_json(delta(2))
            await socket.close()
            return
        await exchange.hear(socket, 5)

    exchange = Exchange(script)
    async with streaming(exchange) as (stream, got):
        await until(lambda: len(got.of(BookSnapshot)) == 2)
        await stream.add_markets("orderbook_delta", ["B"])
        await until(lambda: len(exchange.commands[1]) == 2)
    kinds = [type(event) for event in got.events]
    assert kinds == [Connected, BookSnapshot, BookDelta, Disconnected, Connected, BookSnapshot]
    assert exchange.commands[1][1]["params"] == {
        "sids": [2],
        "market_tickers": ["B"],
        "action": "add_markets",
    }


async def test_markets_added_while_away_are_subscribed_on_the_next_connection() -> None:
    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket, 5)

    exchange = Exchange(script, refuse_first=1)
    async with streaming(exchange, share=lambda: 0.2) as (stream, got):
        await until(lambda: got.of(Disconnected))
        await stream.add_markets("orderbook_delta", ["B"])
        await until(lambda: exchange.commands and exchange.commands[0])
    [lost] = got.of(Disconnected)
    assert "401" in lost.reason
    assert "SIGNATURE" not in lost.reason.upper(), "a reason is logged and shown"
    assert lost.retry_in == 0.2
    assert exchange.commands[0][0]["params"]["market_tickers"] == ["A", "B"]


async def test_silence_is_a_lost_connection() -> None:
    async def script(socket: Socket, number: int) -> None:
        await asyncio.sleep(20)

    exchange = Exchange(script)
    async with streaming(exchange, silence=0.05) as (_, got):
        await until(lambda: len(got.of(Connected)) > 1)
    assert "silent" in got.of(Disconnected)[0].reason


async def test_a_watch_that_breaks_ends_the_connection_and_the_next_one_is_watched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = iter([True])

    def tick(_: Session) -> None:
        if next(broken, False):
            raise RuntimeError("a fault of ours")

    async def script(socket: Socket, number: int) -> None:
        await asyncio.sleep(20)

    monkeypatch.setattr(Session, "tick", tick)
    async with streaming(Exchange(script), silence=0.5) as (_, got):
        await until(lambda: len(got.of(Connected)) > 2)
    assert "silent" in got.of(Disconnected)[1].reason


async def test_a_ping_is_answered_and_proves_the_quiet_books() -> None:
    ponged = asyncio.Event()

    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)
        await subscribe(socket)
        await socket.ping(b"heartbeat")
        async with asyncio.timeout(5):
            message = await socket.receive()
        if message.type is WSMsgType.PONG and message.data == b"heartbeat":
            ponged.set()
        await exchange.hear(socket)

    exchange = Exchange(script)
    times = iter(range(1_000, 10_000))
    async with streaming(exchange, clock_ms=lambda: next(times)) as (stream, got):
        await until(lambda: got.of(Heartbeat))
        assert stream.proven_ms == got.of(Heartbeat)[-1].at_ms
        await ponged.wait()


async def test_what_is_no_frame_drops_the_connection() -> None:
    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)
        await socket.send_str("hello" if number == 1 else json.dumps({"type": "new_word"}))
        await exchange.hear(socket, 5)

    exchange = Exchange(script)
    async with streaming(exchange) as (_, got):
        await until(lambda: len(exchange.commands) == 2)
        await asyncio.sleep(0.05)
    assert len(got.of(Disconnected)) == 1


async def test_a_tap_hears_every_frame_as_it_came_before_it_is_read() -> None:
    said = [
        '{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}\n',
        '{"type":"new_word", "sid":1}',
        '{"type":"ticker","sid":1,"msg":{}}',
    ]

    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)
        for text in said:
            await socket.send_str(text)
        await exchange.hear(socket, 5)

    exchange, heard = Exchange(script), list[tuple[int, str | bytes]]()
    times = iter(range(1_000, 10_000))
    async with streaming(
        exchange, clock_ms=lambda: next(times), tap=lambda at, text: heard.append((at, text))
    ):
        await until(lambda: len(heard) == len(said))
    assert [text for _, text in heard] == [text.encode() for text in said]
    assert sorted(at for at, _ in heard) == [at for at, _ in heard]


async def test_stopping_ends_a_long_pause_at_once() -> None:
    async def script(socket: Socket, number: int) -> None:
        await socket.close()

    async with asyncio.timeout(5), streaming(Exchange(script), share=lambda: 60.0) as (_, got):
        await until(lambda: got.of(Disconnected))


async def test_what_the_sink_raises_ends_the_run() -> None:
    async def script(socket: Socket, number: int) -> None:
        await exchange.hear(socket)

    def sink(event: object) -> None:
        raise RuntimeError("the books are broken")

    exchange = Exchange(script)
    app = web.Application()
    app.router.add_get(PATH, exchange.handle)
    async with TestServer(app) as server:
        url = str(server.make_url(PATH)).replace("http", "ws", 1)
        with pytest.raises(RuntimeError, match="broken"):
            await Stream(url, Signer("key-1", KEY), {"trade": None}).run(sink)
