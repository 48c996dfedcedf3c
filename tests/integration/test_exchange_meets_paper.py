"""Client and paper exchange meet over the socket: two readings of one protocol, written apart, agree."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from decimal import Decimal

import pytest

from tests.exchanges import PaperExchange, paper_exchange
from tests.scripted_exchange import Ledger
from trading.domain.book import Book
from trading.domain.orders import BookSide, OrderState, TimeInForce
from trading.exchange.account import Account, open_account
from trading.exchange.auth import open_signer
from trading.exchange.channels import Channel
from trading.exchange.drift import listening
from trading.exchange.events import BookDelta, BookSnapshot, Gap, OwnFill, OwnOrder
from trading.exchange.market_data import open_market_data
from trading.exchange.orders import Orders, create_body, open_orders
from trading.exchange.outcomes import Accepted, Canceled, NotOpen, Refused, Unknown
from trading.exchange.redundant import RedundantStream, open_redundant_stream
from trading.exchange.reports import MarketDefinition
from trading.exchange.stream import Stream, open_stream


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    with paper_exchange(
        tmp_path_factory.mktemp("paper"), "--simulate", "--faults", "--tier", "prime"
    ) as started:
        yield started


@pytest.fixture(autouse=True)
def _speaks_as_agreed() -> Iterator[None]:
    """Whatever is said in these tests, the drift sentinel finds nothing in it that was not agreed."""
    with listening() as sentinel:
        yield
    heard = sentinel.take()
    assert [str(each.drift) for each in heard.sightings] == []
    assert heard.answers > 0


@pytest.fixture
def orders(paper: PaperExchange) -> Iterator[Orders]:
    with closing(open_orders(paper.rest_url, open_signer(*paper.key("desk-trade")))) as opened:
        yield opened


@pytest.fixture
def account(paper: PaperExchange) -> Iterator[Account]:
    with closing(open_account(paper.rest_url, open_signer(*paper.key("desk-read")))) as opened:
        yield opened


@pytest.fixture
def market(paper: PaperExchange) -> MarketDefinition:
    """A market with both sides, the one that stays open longest."""
    with closing(open_market_data(paper.rest_url)) as client:
        quoted = [each for each in client.markets(status="open") if each.quote.mid is not None]
    return max(quoted, key=lambda each: each.close_at)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_id() -> str:
    return f"kp-{uuid.uuid4()}"


def lowest(market: MarketDefinition) -> Decimal:
    """A price at which an order rests."""
    price = market.grid.ceil(Decimal("0.0001"))
    assert price is not None
    return price


def highest(market: MarketDefinition) -> Decimal:
    """A price at which an order trades."""
    price = market.grid.floor(Decimal("0.9999"))
    assert price is not None
    return price


def body(market: MarketDefinition, client_order_id: str, price: Decimal) -> bytes:
    return create_body(
        ticker=market.ticker,
        client_order_id=client_order_id,
        book_side=BookSide.BID,
        quantity=Decimal("2.5"),
        yes_price=price,
        time_in_force=TimeInForce.GTC,
    )


def test_an_order_lives_its_whole_life_and_the_account_adds_up(
    orders: Orders, account: Account, market: MarketDefinition
) -> None:
    mine = new_id()
    outcome = orders.send_create(body(market, mine, highest(market)), now_ms())
    assert isinstance(outcome, Accepted)
    again = orders.send_create(body(market, mine, highest(market)), now_ms())
    assert isinstance(again, Unknown)
    assert again.exchange_code == "order_already_exists"
    order, fills = account.order(outcome.order_id), account.fills(order_id=outcome.order_id)
    assert order.client_order_id == mine
    assert order.state in {OrderState.FILLED, OrderState.PARTIALLY_FILLED}
    assert sum(fill.quantity for fill in fills) == order.filled_quantity == outcome.filled_quantity
    assert sum(fill.fee for fill in fills) == order.fees
    assert sum(fill.price * fill.quantity for fill in fills) == order.fill_cost
    [held] = account.positions(ticker=market.ticker)
    assert held.quantity == sum(fill.quantity for fill in account.fills(ticker=market.ticker))


def test_a_resting_order_is_canceled_once_and_then_not_open(orders: Orders, market: MarketDefinition) -> None:
    outcome = orders.send_create(body(market, new_id(), lowest(market)), now_ms())
    assert isinstance(outcome, Accepted)
    canceled = orders.cancel(outcome.order_id, market_ticker=market.ticker)
    assert isinstance(canceled, Canceled)
    assert canceled.reduced_by == Decimal("2.5")
    assert isinstance(orders.cancel(outcome.order_id, market_ticker=market.ticker), NotOpen)


def test_refusals_are_proven_and_leave_nothing_behind(
    orders: Orders, account: Account, market: MarketDefinition
) -> None:
    off_grid, late = new_id(), new_id()
    assert not market.grid.holds(Decimal("0.1234"))
    refused = orders.send_create(body(market, off_grid, Decimal("0.1234")), now_ms())
    assert isinstance(refused, Refused)
    assert refused.exchange_code == "invalid_price"
    refused = orders.send_create(body(market, late, lowest(market)), now_ms() - 60_000)
    assert isinstance(refused, Refused)
    assert refused.exchange_code == "header_timestamp_expired"
    assert not {order.client_order_id for order in account.orders()} & {off_grid, late}


@pytest.mark.parametrize(
    ("fault", "exists"),
    [("drop_before", False), ("drop_after", True), ("error_before", False), ("error_after", True)],
)
def test_an_unanswered_create_is_unknown_and_can_be_found_by_its_id(
    paper: PaperExchange, orders: Orders, account: Account, market: MarketDefinition, fault: str, exists: bool
) -> None:
    mine = new_id()
    paper.faults({"endpoint": "create", "kind": fault})
    assert isinstance(orders.send_create(body(market, mine, lowest(market)), now_ms()), Unknown)
    found = [order for order in account.orders(ticker=market.ticker) if order.client_order_id == mine]
    assert len(found) == exists


@pytest.mark.parametrize("open_it", [open_stream, open_redundant_stream])
async def test_streamed_books_equal_the_books_read_and_own_news_arrives(
    paper: PaperExchange,
    orders: Orders,
    market: MarketDefinition,
    open_it: Callable[..., Stream | RedundantStream],
) -> None:
    mine, got = new_id(), Ledger()
    channels: dict[Channel, Collection[str] | None] = {
        "orderbook_delta": [market.ticker],
        "fill": None,
        "user_orders": None,
    }
    stream = open_it(paper.ws_url, open_signer(*paper.key("desk-read")), channels)
    running = asyncio.create_task(stream.run(got))
    async with asyncio.timeout(20):
        while not stream.trusted:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(orders.send_create, body(market, mine, highest(market)), now_ms())
        while not any(event.order.client_order_id == mine for event in got.of(OwnOrder)):
            await asyncio.sleep(0.01)
        await _equals_the_rest_book(paper, market.ticker, got)
    await stream.stop()
    await running
    assert got.of(Gap) == []
    mine_filled = [event.fill.trade_id for event in got.of(OwnFill) if event.fill.client_order_id == mine]
    assert mine_filled
    assert len(mine_filled) == len(set(mine_filled))  # over two connections, and yet told once


async def _equals_the_rest_book(paper: PaperExchange, ticker: str, got: Ledger) -> None:
    """The market moves on between the two readings, so they must agree at some moment, and soon."""
    with closing(open_market_data(paper.rest_url)) as client:
        while True:
            read = await asyncio.to_thread(client.order_book, ticker)
            await asyncio.sleep(0.05)
            book = Book(ticker)
            for event in got.events:
                if isinstance(event, BookSnapshot):
                    book.apply_snapshot(event.bids, event.asks)
                elif isinstance(event, BookDelta):
                    book.apply_delta(event.side, event.tick, event.change)
                same_bids = book.raw_levels(BookSide.BID) == sorted(read.bids, reverse=True)
                if same_bids and book.raw_levels(BookSide.ASK) == sorted(read.asks):
                    return
