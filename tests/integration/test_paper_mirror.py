"""A paper exchange that mirrors another: trades there are seen here, our orders fill here, nothing is sent there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from tests.exchanges import PaperExchange, paper_exchange
from tests.paper_venue import ASK, BID, A, B, Client, Running, Signer, running
from trading.domain.book import Book
from trading.domain.orders import Side
from trading.exchange.events import TradePrint
from trading.exchange.reports import PublicTrade
from trading.paper import cli
from trading.paper.accounts import make_key
from trading.paper.mirror import MirrorWorld

pytestmark = pytest.mark.slow


@dataclass
class Mirrored:
    """The exchange of the test, and a process that mirrors it with a client of its own."""

    there: Running
    here: Client
    process: PaperExchange

    async def book(self, ticker: str = A) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.here.get(f"/markets/{ticker}/orderbook"))["orderbook_fp"]
        return shown

    async def market(self, ticker: str = A) -> dict[str, Any]:
        market: dict[str, Any] = (await self.here.get(f"/markets/{ticker}"))["market"]
        return market

    async def plan(self, *rows: dict[str, Any]) -> None:
        """Faults at the mirrored exchange."""
        async with self.there.reader.session.post(self.there.origin + "/__faults", json=rows) as answer:
            assert answer.status == 201


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """What `look` finds once it finds something."""
    async with asyncio.timeout(15):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


@contextlib.asynccontextmanager
async def mirroring(there: Running, home: Path, *options: str) -> AsyncIterator[Mirrored]:
    """The process is started and ended in a thread: the mirrored exchange lives in this loop and must answer it."""
    key_file = there.server.home / "desk-read.pem"
    wanted = ("--mirror", there.server.rest_url, there.server.ws_url)
    key = ("--mirror-key-id", there.reader.signer.key_id, "--mirror-key-file", str(key_file))
    process = paper_exchange(home, *wanted, *key, "--tier", "prestige", *options)
    started = await asyncio.to_thread(process.__enter__)
    try:
        origin = started.rest_url.removesuffix("/trade-api/v2")
        here = Client(there.reader.session, origin, Signer.of(home, "desk-trade"))
        yield Mirrored(there, here, started)
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


@pytest.fixture
async def mirrored(tmp_path: Path) -> AsyncIterator[Mirrored]:
    async with (
        running(tmp_path / "there", with_faults=True) as there,
        mirroring(there, tmp_path / "here", "--series", "TEST") as both,
    ):
        yield both


async def the_same_book(both: Mirrored) -> bool:
    theirs = (await both.there.reader.get(f"/markets/{A}/orderbook"))["orderbook_fp"]
    return bool(theirs["yes_dollars"]) and await both.book() == theirs


async def taken(both: Mirrored, **fields: Any) -> Any:
    """An order that the mirror takes, once its book is known."""

    async def accepted() -> Any:
        status, body = await both.here.order("bid", "0.42", "3", **fields)
        return body if status == 201 else None

    return await until(accepted)


async def test_markets_books_and_prints_are_seen_here(mirrored: Mirrored) -> None:
    there = mirrored.there
    assert {market["ticker"] for market in (await mirrored.here.get("/markets"))["markets"]} == {A, B}
    there.quote()
    await until(lambda: the_same_book(mirrored))
    there.exchange.house_submit("taker", A, BID, 4200, 250)

    async def printed() -> Any:
        return (await mirrored.here.get("/markets/trades", ticker=A))["trades"]

    (trade,) = await until(printed)
    assert (trade["count_fp"], trade["yes_price_dollars"]) == ("2.50", "0.4200")
    theirs = (await there.reader.get("/markets/trades", ticker=A))["trades"]
    assert trade["trade_id"] == theirs[0]["trade_id"]
    await until(lambda: the_same_book(mirrored))
    assert (await mirrored.market())["volume_fp"] == "2.50"


async def test_our_order_fills_here_and_is_paid_as_it_ends_there(mirrored: Mirrored) -> None:
    there, here = mirrored.there, mirrored.here
    there.quote()
    await until(lambda: the_same_book(mirrored))
    filled = await taken(mirrored, time_in_force="immediate_or_cancel")
    assert (filled["fill_count"], filled["average_fill_price"]) == ("3.00", "0.4200")
    assert (await mirrored.book())["no_dollars"] == [["0.5800", "97.00"]]
    assert (await there.reader.get("/portfolio/orders"))["orders"] == []
    _, resting = await here.order("bid", "0.41", "5")
    there.exchange.house_submit("seller", A, ASK, 4000, 20_000)  # trades through ours there

    async def executed() -> Any:
        order = (await here.get(f"/portfolio/orders/{resting['order_id']}"))["order"]
        return order["status"] == "executed"

    await until(executed)
    there.exchange.determine(A, "yes")

    async def determined() -> Any:
        return (await mirrored.market())["status"] == "determined"

    await until(determined)
    there.exchange.settle(A)

    async def paid() -> Any:
        return (await here.get("/portfolio/settlements"))["settlements"]

    (settlement,) = await until(paid)
    assert (settlement["market_result"], settlement["yes_count_fp"]) == ("yes", "8.00")
    assert (await mirrored.market())["status"] == "finalized"


async def test_a_lost_link_empties_the_book_and_takes_no_orders_until_it_heals(mirrored: Mirrored) -> None:
    there, here = mirrored.there, mirrored.here
    there.quote()
    await until(lambda: the_same_book(mirrored))
    _, resting = await here.order("bid", "0.40", "5")
    await mirrored.plan({"kind": "disconnect", "seconds": 1.0})

    async def only_ours() -> Any:
        book = await mirrored.book()
        return book == {"yes_dollars": [["0.4000", "5.00"]], "no_dollars": []}

    await until(only_ours)
    status, body = await here.order("bid", "0.42", "1")
    assert (status, body["error"]["code"]) == (409, "trading_is_paused")
    there.exchange.house_submit("late", A, BID, 3900, 100)

    async def healed() -> Any:
        return (await mirrored.book())["yes_dollars"] == [["0.3900", "1.00"], ["0.4000", "105.00"]]

    await until(healed)
    assert (await here.order("bid", "0.42", "1", time_in_force="immediate_or_cancel"))[1][
        "fill_count"
    ] == "1.00"
    status, canceled = await here.call("DELETE", f"/portfolio/events/orders/{resting['order_id']}")
    assert (status, canceled["reduced_by"]) == (200, "5.00")


async def test_a_lost_frame_is_noticed_and_the_book_fetched_again(mirrored: Mirrored) -> None:
    there = mirrored.there
    there.quote()
    await until(lambda: the_same_book(mirrored))
    await mirrored.plan({"kind": "drop_frame", "channel": "orderbook_delta", "frame": "orderbook_delta"})
    for lots in (100, 200, 300):
        there.exchange.house_submit("crowd", A, BID, 3700, lots)
    await until(lambda: the_same_book(mirrored))


def test_a_print_finer_than_the_exchange_s_step_puts_its_book_in_doubt_and_not_the_mirror_out() -> None:
    world = MirrorWorld("http://there/trade-api/v2", Mock(), Mock())
    world._books[A] = Book(A)
    venue, stream = Mock(), Mock()
    odd = PublicTrade("t1", A, Decimal("0.42005"), Decimal(3), Side.YES, datetime.now(UTC), False)
    world._hear(venue, stream, TradePrint(odd, 0))
    stream.distrust.assert_called_once_with(A)
    venue.lose_external_book.assert_called_once_with(A)
    venue.external_trade.assert_not_called()


async def test_pauses_new_markets_and_moved_closes_are_followed(mirrored: Mirrored) -> None:
    there = mirrored.there
    there.exchange.pause_market(A)

    async def paused() -> Any:
        return (await mirrored.market())["status"] == "inactive"

    await until(paused)
    there.exchange.open_market(A)

    async def active() -> Any:
        return (await mirrored.market())["status"] == "active"

    await until(active)
    definition = {**there.exchange.listing(A).definition, "ticker": "TEST-1-C"}
    there.exchange.add_market(definition)
    there.exchange.update_market(B, {"close_time": "2030-01-01T00:00:00Z"})

    async def listed() -> Any:
        return "TEST-1-C" in {m["ticker"] for m in (await mirrored.here.get("/markets"))["markets"]}

    async def moved() -> Any:
        return (await mirrored.market(B))["close_time"] == "2030-01-01T00:00:00Z"

    await until(listed)
    await until(moved)
    there.exchange.house_submit("maker", "TEST-1-C", BID, 1000, 100)

    async def followed() -> Any:
        return (await mirrored.book("TEST-1-C"))["yes_dollars"] == [["0.1000", "1.00"]]

    await until(followed)


async def test_a_pause_of_all_trading_there_is_one_here(mirrored: Mirrored) -> None:
    mirrored.there.quote()
    await until(lambda: the_same_book(mirrored))
    for active in (False, True):
        mirrored.there.exchange.trading_active = active

        async def same(wanted: bool = active) -> Any:
            status = await mirrored.here.get("/exchange/status")
            return status["trading_active"] is wanted

        await until(same)
        status, _ = await mirrored.here.order("bid", "0.40", "1")
        assert status == (201 if active else 409)


async def test_after_a_restart_the_mirror_goes_on_with_our_orders(tmp_path: Path) -> None:
    async with running(tmp_path / "there") as there:
        there.quote()
        async with mirroring(there, tmp_path / "here", "--market", A) as both:
            await until(lambda: the_same_book(both))
            _, resting = await both.here.order("bid", "0.41", "5")
            both.process.kill()
        async with mirroring(there, tmp_path / "here", "--market", A) as both:
            order = (await both.here.get(f"/portfolio/orders/{resting['order_id']}"))["order"]
            assert order["status"] == "resting"

            async def together() -> Any:
                return (await both.book())["yes_dollars"] == [["0.4000", "100.00"], ["0.4100", "5.00"]]

            await until(together)


async def test_a_simulated_exchange_in_a_process_of_its_own_can_be_mirrored(tmp_path: Path) -> None:
    with paper_exchange(tmp_path / "there", "--simulate", "--tier", "prestige") as there:
        key_id, key_file = there.key("desk-read")
        async with aiohttp.ClientSession() as session:
            origin = there.rest_url.removesuffix("/trade-api/v2")
            theirs = Client(session, origin, Signer.of(there.home, "desk-read"))
            listed = (await theirs.get("/markets", status="open"))["markets"]
            # One that ends within seconds would have an empty book before the mirror has looked.
            lasting = max(listed, key=lambda market: market["close_time"])["ticker"]
            options = ("--mirror", there.rest_url, there.ws_url, "--market", lasting)
            options += ("--tier", "prestige")
            key = ("--mirror-key-id", key_id, "--mirror-key-file", str(key_file))
            with paper_exchange(tmp_path / "here", *options, *key) as here:
                assert lasting in here.ready["world"]
                ours = Client(
                    session, here.rest_url.removesuffix("/trade-api/v2"), Signer.of(here.home, "desk-trade")
                )
                path = f"/markets/{lasting}/orderbook"

                async def same() -> Any:
                    book = (await ours.get(path))["orderbook_fp"]
                    return any(book.values()) and book == (await theirs.get(path))["orderbook_fp"]

                await until(same)


NOWHERE = ("--mirror", "http://127.0.0.1:9/trade-api/v2", "ws://127.0.0.1:9/trade-api/ws/v2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--series", "X"), "needs --mirror-key-id"),
        (
            ("--series", "X", "--mirror-key-id", "k", "--mirror-key-file", "nowhere.pem"),
            "nowhere.pem is missing",
        ),
        (("--mirror-key-id", "k", "--mirror-key-file", "{key}"), "needs --series or --market"),
    ],
)
def test_a_mirror_that_cannot_begin_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    make_key(tmp_path, "key", "ed25519", ("read",))
    given = [option.format(key=tmp_path / "key.pem") for option in options]
    assert cli.main(["--home", str(tmp_path / "home"), *NOWHERE, *given]) == 2
    assert words in capsys.readouterr().err
