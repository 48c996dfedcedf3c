"""The stream of the paper exchange: snapshots that fit their deltas, gapless sequences, commands and their errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.paper_venue import ASK, BID, PREFIX, A, B, Running, Stream, running
from trading.domain.matching import to_lots
from trading.paper import websocket
from trading.paper.stream_limits import StreamLimits


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as started:
        yield started


class Fold:
    """Books of one subscription, folded as a client must, and the last sequence number."""

    def __init__(self) -> None:
        self.books: dict[str, dict[tuple[str, str], int]] = {}
        self.clocks: dict[str, int] = {}
        self.seq = 0

    def take(self, frame: dict[str, Any]) -> None:
        self.seq += 1
        assert frame["seq"] == self.seq, "a gap in the sequence"
        assert frame["sending_ts_ms"] > 0
        body = frame.get("msg", {})
        if frame["type"] == "orderbook_snapshot":
            sides = {"yes": body.get("yes_dollars_fp", []), "no": body.get("no_dollars_fp", [])}
            levels = {
                (side, price): to_lots(count) for side, pairs in sides.items() for price, count in pairs
            }
            self.books[body["market_ticker"]] = levels
            self.clocks[body["market_ticker"]] = body["clock"]
        elif frame["type"] == "orderbook_delta":
            self._change(body)

    def _change(self, body: dict[str, Any]) -> None:
        ticker, key = body["market_ticker"], (body["side"], body["price_dollars"])
        assert body["clock"] > self.clocks[ticker]
        self.clocks[ticker] = body["clock"]
        book = self.books[ticker]
        book[key] = book.get(key, 0) + to_lots(body["delta_fp"])
        assert book[key] >= 0
        if book[key] == 0:
            del book[key]


def rest_levels(body: dict[str, Any]) -> dict[tuple[str, str], int]:
    book = body["orderbook_fp"]
    pairs = {"yes": book["yes_dollars"], "no": book["no_dollars"]}
    return {(side, price): to_lots(count) for side, levels in pairs.items() for price, count in levels}


async def drain(stream: Stream, fold: Fold, command_id: int) -> None:
    """Fold everything up to and with the answer to a command."""
    while True:
        frame = await stream.receive()
        fold.take(frame)
        if frame.get("id") == command_id:
            return


async def test_the_handshake_must_be_signed(paper: Running) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await paper.reader.session.ws_connect(f"{paper.origin}/trade-api/ws/v2")
    assert refused.value.status == 401


async def test_folding_the_stream_gives_the_book_of_rest(paper: Running) -> None:
    chance, fold = Random(3), Fold()
    paper.quote()
    async with paper.reader.stream() as stream:
        await stream.subscribe("orderbook_delta", market_tickers=[A, B])
        for _ in range(150):
            side = chance.choice([BID, ASK])
            ticker = chance.choice([A, B])
            paper.exchange.house_submit(
                "crowd", ticker, side, chance.randint(30, 60) * 100, chance.randint(1, 500)
            )
            if chance.random() < 0.2:
                await paper.trader.order(chance.choice(["bid", "ask"]), f"0.{chance.randint(30, 60)}", "1.25")
            if chance.random() < 0.1:
                await asyncio.sleep(0)
        last = await stream.send("update_subscription", sid=1, market_tickers=[A], action="add_markets")
        await drain(stream, fold, last)
        for ticker in (A, B):
            assert fold.books[ticker] == rest_levels(await paper.reader.get(f"/markets/{ticker}/orderbook"))
    assert fold.seq > 100


async def test_control_replies_take_part_in_the_sequence(paper: Running) -> None:
    paper.quote()
    async with paper.reader.stream() as stream:
        (subscribed,) = await stream.subscribe("orderbook_delta", market_ticker=A)
        assert subscribed["msg"] == {"channel": "orderbook_delta", "sid": 1}
        assert "seq" not in subscribed
        first = await stream.receive()
        again = await stream.send("subscribe", channels=["orderbook_delta"], market_tickers=[A, B])
        merged = await stream.receive()
        second = await stream.receive()
        assert (first["type"], first["seq"]) == ("orderbook_snapshot", 1)
        assert (merged["type"], merged["seq"], merged["id"], merged["sid"]) == ("ok", 2, again, 1)
        assert merged["msg"] == {"market_tickers": [A, B]}
        assert (second["msg"]["market_ticker"], second["seq"]) == (B, 3)
        asked = await stream.send("update_subscription", sids=[1], market_tickers=[A], action="get_snapshot")
        snapshot = await stream.receive()
        assert (snapshot["type"], snapshot["id"], snapshot["seq"]) == ("orderbook_snapshot", asked, 4)
        await stream.send("update_subscription", sid=1, market_tickers=[A], action="delete_markets")
        assert (await stream.receive())["msg"] == {"market_tickers": [B]}
        paper.exchange.house_submit("maker", A, BID, 3900, 10)
        gone = await stream.send("unsubscribe", sids=[1])
        last = await stream.receive()
        assert (last["type"], last["seq"], last["id"]) == ("unsubscribed", 6, gone)


async def test_an_empty_side_has_no_key_and_the_no_scale_follows_the_flag(paper: Running) -> None:
    paper.exchange.house_submit("maker", A, ASK, 6600, 100)
    for flag, price in ((False, "0.3400"), (True, "0.6600")):
        async with paper.reader.stream() as stream:
            await stream.subscribe("orderbook_delta", market_ticker=A, use_yes_price=flag)
            body = (await stream.next("orderbook_snapshot"))["msg"]
            assert "yes_dollars_fp" not in body
            assert body["no_dollars_fp"] == [[price, "1.00"]]
            paper.exchange.house_submit("other", A, ASK, 6600, 50)
            delta = (await stream.next("orderbook_delta"))["msg"]
            assert (delta["side"], delta["price_dollars"], delta["delta_fp"]) == ("no", price, "0.50")
            paper.exchange.house_cancel_all("other", A)


async def test_own_orders_fills_and_positions_are_told_to_their_owner(paper: Running) -> None:
    paper.quote()
    async with paper.trader.stream() as stream:
        await stream.subscribe(
            "user_orders", "fill", "market_positions", "orderbook_delta", market_tickers=[A]
        )
        await stream.next("orderbook_snapshot")
        _, made = await paper.trader.order("bid", "0.42", "3", client_order_id="c-1")
        frames = {}
        while {"fill", "user_order", "market_position", "orderbook_delta"} - frames.keys():
            frame = await stream.receive()
            frames[frame["type"]] = frame
    fill, order = frames["fill"]["msg"], frames["user_order"]["msg"]
    assert "seq" not in frames["fill"]
    assert (fill["order_id"], fill["client_order_id"], fill["post_position_fp"]) == (
        made["order_id"],
        "c-1",
        "3.00",
    )
    assert (order["order_id"], order["status"], order["last_update_reason"]) == (
        made["order_id"],
        "executed",
        "Trade",
    )
    assert frames["market_position"]["msg"]["position_cost_dollars"] == "1.260000"
    assert frames["orderbook_delta"]["msg"]["client_order_id"] == "c-1"


async def test_a_canceled_order_is_told_with_its_reason(paper: Running) -> None:
    async with paper.trader.stream() as stream:
        await stream.subscribe("user_orders")
        await paper.trader.order("bid", "0.30", "3")
        assert (await stream.next("user_order"))["msg"]["status"] == "resting"
        paper.exchange.close_market(A)
        body = (await stream.next("user_order"))["msg"]
        assert (body["status"], body["last_update_reason"], body["remaining_count_fp"]) == (
            "canceled",
            "CloseCancel",
            "0.00",
        )


async def test_trades_tickers_and_lifecycle_reach_everyone(paper: Running) -> None:
    paper.quote()
    async with paper.reader.stream() as stream:
        await stream.subscribe("trade", "ticker", "market_lifecycle_v2")
        paper.exchange.house_submit("taker", A, BID, 4200, 100)
        trade = await stream.next("trade")
        ticker = await stream.next("ticker")
        assert (trade["seq"], trade["msg"]["count_fp"], trade["msg"]["taker_book_side"]) == (1, "1.00", "bid")
        assert (ticker["msg"]["price_dollars"], ticker["msg"]["volume_fp"]) == ("0.4200", "1.00")
        assert "seq" not in ticker
        paper.exchange.determine(A, "yes")
        paper.exchange.settle(A)
        told = [(await stream.next("market_lifecycle_v2"))["msg"]["event_type"] for _ in range(2)]
        assert told == ["determined", "settled"]


async def test_a_book_subscribed_before_its_market_exists_begins_with_its_snapshot(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("orderbook_delta", market_tickers=["TEST-1-LATE"])
        definition = {**paper.exchange.listing(A).definition, "ticker": "TEST-1-LATE"}
        paper.exchange.add_market(definition)
        assert (await stream.next("orderbook_snapshot"))["msg"]["market_ticker"] == "TEST-1-LATE"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{", 1),
        ({"id": 1, "cmd": "subscribe"}, 2),
        ({"id": 1, "cmd": "subscribe", "params": {}}, 3),
        ({"id": 1, "cmd": "unsubscribe", "params": {}}, 4),
        ({"id": 1, "cmd": "dance", "params": {}}, 5),
        ({"id": 1, "cmd": "unsubscribe", "params": {"sids": [9]}}, 7),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["gossip"]}}, 8),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["trade"], "market_id": "x"}}, 11),
        ({"id": 1, "cmd": "update_subscription", "params": {"sids": [1, 2], "action": "add_markets"}}, 12),
        ({"id": 1, "cmd": "update_subscription", "params": {"sid": 1, "action": "dance"}}, 13),
        ({"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"]}}, 14),
        ({"id": 1, "cmd": "update_subscription", "params": {"sid": 1}}, 15),
    ],
)
async def test_wrong_commands_get_their_error_code(paper: Running, command: Any, code: int) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("trade")
        await (
            stream.socket.send_str(command) if isinstance(command, str) else stream.socket.send_json(command)
        )
        assert (await stream.next("error"))["msg"]["code"] == code


async def test_subscriptions_are_listed(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("trade", "ticker")
        await stream.send("list_subscriptions")
        assert (await stream.next("ok"))["msg"] == [
            {"channel": "trade", "sid": 1},
            {"channel": "ticker", "sid": 2},
        ]


async def test_the_server_pings_with_its_heartbeat(paper: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "HEARTBEAT_SECONDS", 0.01)
    async with paper.reader.stream() as stream, asyncio.timeout(5):
        message = await stream.socket.receive()
    assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PING, b"heartbeat")


async def test_a_reader_that_is_too_slow_loses_the_subscription(tmp_path: Path) -> None:
    async with (
        running(tmp_path, stream_limits=StreamLimits(buffer_bytes=4_000)) as paper,
        paper.reader.stream() as stream,
    ):
        await stream.subscribe("trade")
        paper.quote(lots=1_000_000)
        for _ in range(100):  # in one breath: the writer gets no turn
            paper.exchange.house_submit("taker", A, BID, 4200, 100)
        error = await stream.next("error")
        assert (error["msg"]["code"], error["sid"]) == (25, 1)
        await stream.send("list_subscriptions")
        assert (await stream.next("ok"))["msg"] == []


async def test_stopping_closes_the_streams(tmp_path: Path) -> None:
    async with running(tmp_path) as paper:
        path = "/trade-api/ws/v2"
        headers = paper.reader.signer.headers("GET", path)
        socket = await paper.reader.session.ws_connect(paper.origin + path, headers=headers)
        await paper.server.stop()
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        with pytest.raises(aiohttp.ClientConnectionError):
            await paper.reader.session.get(paper.origin + PREFIX + "/exchange/status")
