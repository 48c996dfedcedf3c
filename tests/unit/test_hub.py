"""The hub's books: which of them changed, however they are kept, and how many there may be."""

from __future__ import annotations

from decimal import Decimal

from trading.domain.markets import TopOfBook
from trading.domain.orders import BookSide
from trading.exchange.events import BookSnapshot, Disconnected, TickerUpdate
from trading.market_data.hub import Hub

EMPTY = TopOfBook(None, None)


def hub_of(*tickers: str, most_books: int = 10) -> Hub:
    hub = Hub(on_fault=lambda _: None, most_books=most_books)
    hub.follow(tickers)
    return hub


def snapshot(ticker: str) -> BookSnapshot:
    return BookSnapshot(ticker, ((4_000, 100),), ((4_200, 100),), 1_000)


def test_a_book_that_the_stream_writes_into_is_noticed_by_its_revision() -> None:
    hub = hub_of("A", "B")
    hub.take_unwritten()
    hub.shelf.keep(snapshot("A"))
    assert [touch.ticker for touch in hub.take_unwritten()] == ["A"]
    assert hub.take_unwritten() == []
    hub.books["A"].apply_delta(BookSide.BID, 4_000, 5)
    assert [touch.ticker for touch in hub.take_unwritten()] == ["A"]
    assert [touch.ticker for touch in hub.take_unpublished()] == ["A", "B"]
    assert hub.take_unpublished() == []


def test_a_lost_connection_is_a_change_of_every_book_that_was_trusted() -> None:
    hub = hub_of("A", "B")
    hub.shelf.keep(snapshot("A"))
    hub.take_unwritten()
    hub.apply(Disconnected("gone", 1.0))
    [touch] = hub.take_unwritten()
    assert (touch.ticker, touch.is_trusted) == ("A", False)
    assert hub.waiting == ["A", "B"]


def test_the_least_recently_wanted_book_goes_when_there_are_too_many() -> None:
    hub = hub_of("A", "B", "C", most_books=3)
    hub.follow(["A"])
    hub.take_unwritten()
    assert hub.follow(["D"]) == ["B"]
    assert set(hub.books) == {"A", "C", "D"}
    assert {touch.ticker: touch.is_trusted for touch in hub.take_unwritten()} == {"B": False, "D": False}


def test_wanting_a_book_again_keeps_what_it_knows() -> None:
    hub = hub_of("A")
    hub.shelf.keep(snapshot("A"))
    hub.follow(["A"])
    assert hub.books["A"].is_current


def test_ten_thousand_markets_that_come_and_go_leave_nothing_behind() -> None:
    hub = hub_of(most_books=50)
    for number in range(10_000):
        ticker = f"M{number}"
        hub.follow([ticker])
        hub.apply(snapshot(ticker))
        hub.apply(TickerUpdate(ticker, EMPTY, None, Decimal(0), Decimal(0), 1))
        hub.take_unwritten()
        hub.take_unpublished()
        hub.take_activity()
    assert len(hub.books) == len(hub.activity) == 50


def test_the_trading_of_a_market_that_is_not_followed_is_not_kept() -> None:
    hub = hub_of("A")
    hub.apply(TickerUpdate("B", EMPTY, None, Decimal(0), Decimal(0), 1))
    assert hub.take_activity() == {}
