"""The stream of the paper exchange: every channel, its parameters, its limits, and several connections at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import contract
from tests.paper_venue import BID, A, B, Running, Stream, running
from trading.paper.stream_limits import StreamLimits
from trading.paper.subscriptions import SEQUENCED, Channel
from trading.paper.websocket import Connection

LIMITS = StreamLimits(connections=3, session_markets=5, subscription_markets=3, commands_a_second=8)
MARKETLESS = sorted(set(Channel) - {Channel.ORDERBOOK_DELTA})


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, stream_limits=LIMITS) as started:
        yield started


async def error_of(stream: Stream, cmd: str, **params: Any) -> tuple[int, int | None]:
    """The code that a command is answered with, and the subscription it belongs to."""
    number = await stream.send(cmd, **params)
    frame = await stream.next("error")
    assert frame["id"] == number
    return frame["msg"]["code"], frame.get("sid")


@pytest.mark.parametrize("channel", MARKETLESS)
async def test_every_channel_can_be_subscribed_and_left(paper: Running, channel: str) -> None:
    async with paper.reader.stream() as stream:
        (subscribed,) = await stream.subscribe(channel)
        assert subscribed["msg"] == {"channel": channel, "sid": 1}
        again = await stream.send("subscribe", channels=[channel])
        ok = await stream.next("ok")
        assert (ok["id"], ok["sid"], "seq" in ok) == (again, 1, channel in SEQUENCED)
        await stream.send("unsubscribe", sids=[1])
        gone = await stream.next("unsubscribed")
        assert gone["seq"] >= 1
    if contract.at_hand():
        assert [contract.frame_faults(frame) for frame in (subscribed, gone)] == [[], []]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"shard_factor": 0}, 19),
        ({"shard_key": 0}, 20),
        ({"shard_factor": 4, "shard_key": 4}, 21),
        ({"shard_factor": 4, "shard_key": -1}, 21),
        ({"shard_factor": 101}, 22),
        ({"shard_factor": "4"}, 11),
        ({"user_filter": "others"}, 11),
        ({"user_filter": ["self"]}, 11),
    ],
)
async def test_the_channel_of_quotes_takes_shards_and_a_filter(
    paper: Running, params: dict[str, Any], code: int
) -> None:
    async with paper.reader.stream() as stream:
        assert await error_of(stream, "subscribe", channels=["communications"], **params) == (code, None)
        await stream.subscribe("communications", shard_factor=4, shard_key=3, user_filter="self")


@pytest.mark.parametrize(
    ("channel", "names", "verbs", "code"),
    [
        ("cfbenchmarks_value", "index_ids", ("subscribe_indices", "unsubscribe_indices", "indexlist"), 24),
        (
            "cfbenchmarks_value_5hz",
            "index_ids",
            ("subscribe_indices", "unsubscribe_indices", "indexlist"),
            24,
        ),
        (
            "pyth_value",
            "underlying_tickers",
            ("subscribe_underlyings", "unsubscribe_underlyings", "underlying_list"),
            28,
        ),
    ],
)
async def test_the_index_feeds_keep_their_own_filter(
    paper: Running, channel: str, names: str, verbs: tuple[str, str, str], code: int
) -> None:
    add, remove, show = verbs
    async with paper.reader.stream() as stream:
        assert await error_of(stream, "subscribe", channels=[channel], market_ticker=A) == (11, None)
        await stream.subscribe(channel, **{names: ["X"]})
        assert await error_of(stream, "update_subscription", sid=1, action=add) == (code, 1)
        assert await error_of(stream, "update_subscription", sid=1, action="add_markets") == (13, 1)
        shown = []
        for action, given in ((add, ["Y"]), (add, ["all"]), (remove, ["all"]), (remove, ["X"])):
            await stream.send("update_subscription", sid=1, action=action, **{names: given})
            shown.append((await stream.next("ok"))["msg"][names])
        assert shown == [["X", "Y"], ["all"], ["X", "Y"], ["Y"]]
        await stream.send("update_subscription", sid=1, action=show)
        assert (await stream.receive())["msg"] == {names: []}


@pytest.mark.parametrize("value", [["x"], {"x": 1}, 1, None])
async def test_words_of_the_wrong_type_are_answered_and_end_no_connection(paper: Running, value: Any) -> None:
    async with paper.reader.stream() as stream:
        assert await error_of(stream, "subscribe", channels=[value]) == (8, None)
        for channel in ("ticker", "pyth_value"):
            (subscribed,) = await stream.subscribe(channel)
            sid = subscribed["msg"]["sid"]
            code = 13 if value else 15
            assert await error_of(stream, "update_subscription", sid=sid, action=value) == (code, sid)


async def test_markets_by_id_are_for_the_ticker_channel_alone(paper: Running) -> None:
    market_id = paper.exchange.listing(A).market_id
    async with paper.reader.stream() as stream:
        assert await error_of(stream, "subscribe", channels=["ticker", "trade"], market_id=market_id) == (
            11,
            None,
        )
        await stream.subscribe("ticker", market_ids=[market_id])
        other = paper.exchange.listing(B).market_id
        await stream.send("update_subscription", sid=1, action="add_markets", market_id=other)
        assert (await stream.next("ok"))["msg"] == {"market_ids": [market_id, other]}


async def test_too_many_markets_are_refused_whole(tight: Running) -> None:
    async with tight.reader.stream() as stream:
        asked = {"channels": ["ticker"], "market_tickers": list("ABCD")}
        assert await error_of(stream, "subscribe", **asked) == (26, None)
        await stream.subscribe("ticker", market_tickers=["A", "B"])
        added = {"sid": 1, "action": "add_markets", "market_tickers": ["B", "C", "D"]}
        assert await error_of(stream, "update_subscription", **added) == (26, 1)
        await stream.send("update_subscription", sid=1, action="add_markets", market_tickers=["C"])
        assert (await stream.next("ok"))["msg"] == {"market_tickers": ["A", "B", "C"]}
        session_full = {"channels": ["trade"], "market_tickers": ["A", "B", "C"]}
        assert await error_of(stream, "subscribe", **session_full) == (26, None)


async def test_too_many_commands_are_refused_until_time_has_passed(tight: Running) -> None:
    async with tight.reader.stream() as stream:
        await stream.subscribe("ticker")
        for _ in range(60):
            await stream.send("update_subscription", sid=1, action="add_markets", market_tickers=[A])
        answers = [await stream.receive() for _ in range(60)]
        refused = [frame for frame in answers if frame["type"] == "error"]
        assert refused
        assert {(frame["msg"]["code"], frame["sid"]) for frame in refused} == {(27, 1)}


async def test_an_account_has_so_many_connections_and_no_more(tight: Running) -> None:
    async with tight.reader.stream(), tight.reader.stream(), tight.trader.stream():
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with tight.reader.stream():
                pass
        assert refused.value.status == 429


async def test_all_connections_hear_the_same_clock(paper: Running) -> None:
    paper.quote()
    async with paper.reader.stream() as one, paper.trader.stream() as other:
        heard = []
        for stream in (one, other):
            await stream.subscribe("orderbook_delta", market_tickers=[A], use_yes_price=True)
            await stream.next("orderbook_snapshot")
        for lots in range(1, 20):
            paper.exchange.house_submit("crowd", A, BID, 3000 + 100 * (lots % 5), lots)
        for stream in (one, other):
            bodies = [(await stream.next("orderbook_delta"))["msg"] for _ in range(19)]
            heard.append([(body["clock"], body["price_dollars"], body["delta_fp"]) for body in bodies])
        assert heard[0] == heard[1]


async def test_frames_are_deflated_for_those_who_offer_it(paper: Running) -> None:
    paper.quote()
    path = "/trade-api/ws/v2"
    headers = paper.reader.signer.headers("GET", path)
    async with paper.reader.session.ws_connect(
        paper.origin + path, headers=headers, compress=15, autoping=False
    ) as socket:
        assert socket.compress
        stream = Stream(socket)
        await stream.subscribe("orderbook_delta", market_ticker=A)
        assert (await stream.next("orderbook_snapshot"))["msg"]["market_ticker"] == A
    async with paper.reader.stream() as plain:
        assert not plain.socket.compress


async def test_a_combo_is_told_on_the_channel_of_combos_only(paper: Running) -> None:
    definition = {**paper.exchange.listing(A).definition, "ticker": "TEST-1-COMBO"}
    async with paper.reader.stream() as stream:
        await stream.subscribe("market_lifecycle_v2", "multivariate_market_lifecycle")
        paper.exchange.add_market({**definition, "mve_collection_ticker": "KXMVE-TEST"})
        paper.exchange.close_market(A)
        paper.exchange.determine(A, "no")
        first, second = await stream.receive(), await stream.receive()
    assert (first["type"], first["sid"]) == ("multivariate_market_lifecycle", 2)
    assert first["msg"]["market_ticker"] == "TEST-1-COMBO"
    assert (second["type"], second["msg"]["market_ticker"]) == ("market_lifecycle_v2", A)


async def test_one_who_asks_on_and_never_reads_is_not_read_either(tmp_path: Path) -> None:
    """The server keeps a bounded queue of answers: it stops reading commands instead."""
    limits = StreamLimits(buffer_bytes=2_000)
    async with running(tmp_path, stream_limits=limits) as paper, paper.reader.stream() as stream:
        connection = next(iter(paper.server.service.connections.values()))
        assert isinstance(connection, Connection)
        for _ in range(200):
            connection.session.receive(b'{"id":1,"cmd":"list_subscriptions"}')
        assert connection.is_full
        for _ in range(200):
            await stream.next("ok")
        await connection.room()
        assert not connection.is_full
