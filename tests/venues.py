"""A venue for tests of worlds: listings and house orders over the real matching book, on the test's own clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from trading.domain.markets import MarketStatus
from trading.domain.matching import Book, Lots, Order, SelfTrade, Ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.world import Definition, HouseOrder, Touch


class HouseVenue:
    """What a world needs that only uses house orders. `calls` counts orders entered and canceled."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.calls = 0
        self.markets: dict[str, Mapping[str, Any]] = {}
        self.events: dict[str, Mapping[str, Any]] = {}
        self.books: dict[str, Book] = {}
        self.statuses: dict[str, MarketStatus] = {}
        self.results: dict[str, str] = {}
        self.last: dict[str, Ticks] = {}
        self.traded: Lots = 0
        self.earlier: dict[str, Mapping[str, Any]] = {}
        self._ids = count(1)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def open_tickers(self) -> list[str]:
        return [ticker for ticker, status in self.statuses.items() if status is MarketStatus.ACTIVE]

    def pass_time(self, seconds: float) -> None:
        """Move the clock; markets open and close by their times, as in the engine."""
        self.at += seconds
        for ticker, market in self.markets.items():
            if self.statuses[ticker] is MarketStatus.INITIALIZED and self._reached(market["open_time"]):
                self.statuses[ticker] = MarketStatus.ACTIVE
            if self.statuses[ticker] is MarketStatus.ACTIVE and self._reached(market["close_time"]):
                self.close_market(ticker)

    def add_series(self, definition: Definition) -> None:
        pass

    def add_event(self, definition: Definition) -> None:
        self.events[definition["event_ticker"]] = definition

    def add_market(self, definition: Definition) -> None:
        ticker = definition["ticker"]
        self.markets[ticker] = definition
        self.books.setdefault(ticker, Book())
        self.statuses.setdefault(ticker, MarketStatus.INITIALIZED)
        self.pass_time(0)

    def update_market(self, ticker: str, fields: Definition) -> None:
        self.markets[ticker] = {**self.markets[ticker], **fields}

    def open_market(self, ticker: str) -> None:
        self.statuses[ticker] = MarketStatus.ACTIVE

    def pause_market(self, ticker: str) -> None:
        self.statuses[ticker] = MarketStatus.INACTIVE

    def close_market(self, ticker: str) -> None:
        self.statuses[ticker] = MarketStatus.CLOSED
        self.books[ticker] = Book()

    def determine(
        self, ticker: str, result: str, value_ticks: Ticks | None = None, expiration_value: str = ""
    ) -> None:
        self.results[ticker] = result
        self.statuses[ticker] = MarketStatus.DETERMINED

    def settle(self, ticker: str) -> None:
        assert self.statuses[ticker] is MarketStatus.DETERMINED
        self.statuses[ticker] = MarketStatus.FINALIZED

    def house_submit(
        self,
        participant: str,
        ticker: str,
        side: BookSide,
        price_ticks: Ticks,
        count_lots: Lots,
        tif: TimeInForce = TimeInForce.GTC,
        *,
        post_only: bool = False,
    ) -> HouseOrder:
        if self.statuses[ticker] is not MarketStatus.ACTIVE:
            raise ValueError(f"{ticker} takes no orders")
        self.calls += 1
        order = Order(str(next(self._ids)), participant, side, price_ticks, count_lots)
        outcome = self.books[ticker].submit(order, tif, post_only=post_only, self_trade=SelfTrade.MAKER)
        for match in outcome.matches:
            self.last[ticker] = match.maker.price_ticks
            self.traded += match.lots
        return HouseOrder(order.order_id, outcome.filled, outcome.rested)

    def house_cancel(self, ticker: str, order_id: str) -> Lots:
        self.calls += 1
        order = self.books[ticker].cancel(order_id)
        return order.remaining_lots if order else 0

    def house_cancel_all(self, participant: str, ticker: str) -> Lots:
        owned = [order.order_id for order in self.books[ticker].orders.values() if order.owner == participant]
        return sum(self.house_cancel(ticker, order_id) for order_id in owned)

    def touch(self, ticker: str) -> Touch:
        bid, bid_lots = self.books[ticker].best(BookSide.BID) or (None, 0)
        ask, ask_lots = self.books[ticker].best(BookSide.ASK) or (None, 0)
        return Touch(bid, bid_lots, ask, ask_lots, self.last.get(ticker))

    def status(self, ticker: str) -> str:
        return self.statuses[ticker].value

    def restored(self) -> Mapping[str, Mapping[str, Any]]:
        return self.earlier

    def set_active(self, **_: object) -> None:
        raise AssertionError("a simulated world pauses no exchange")

    def lose_external_book(self, *_: object) -> None:
        raise AssertionError("a simulated world has no recorded liquidity")

    def replace_external_book(self, *_: object) -> None:
        raise AssertionError("a simulated world has no recorded liquidity")

    def external_delta(self, *_: object) -> None:
        raise AssertionError("a simulated world has no recorded liquidity")

    def external_trade(self, *_: object, **__: object) -> None:
        raise AssertionError("a simulated world has no recorded liquidity")

    def _reached(self, moment: str) -> bool:
        return self.at >= datetime.fromisoformat(moment).timestamp()
