"""From the engine to the sockets: events in order, once they are durable, each body encoded once for all who get it."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from trading.domain.matching import TICKS_PER_DOLLAR
from trading.domain.orders import BookSide
from trading.paper import views
from trading.paper.definitions import Payload
from trading.paper.events import (
    Event,
    Filled,
    GroupChanged,
    LevelChanged,
    Lifecycle,
    OrderChanged,
    PositionChanged,
    TickerChanged,
    Traded,
)
from trading.paper.exchange import Exchange
from trading.paper.journal import Journal
from trading.paper.listing import trade_message
from trading.paper.published import PublishedBook
from trading.paper.subscriptions import Channel, Subscription, Subscriptions
from trading.paper.wire import count_fp, dollars, outcome_side, rfc3339_ms

encode = msgspec.json.encode


class Hub:
    """Keeps the published books and hands every event to its subscriptions."""

    def __init__(self, exchange: Exchange, journal: Journal) -> None:
        self._exchange = exchange
        self._journal = journal
        self._waiting: deque[tuple[int, list[Event]]] = deque()
        self._scheduled = False
        self._dirty_tickers: dict[str, None] = {}
        self.subscriptions = Subscriptions()
        # Clocks begin at the time of day, so that they do not fall back over a restart.
        self._first_clock = exchange.now_ms()
        self._books = {
            ticker: PublishedBook.of(listing, self._first_clock)
            for ticker, listing in exchange.catalog.listings.items()
        }
        exchange.publish = self.publish
        journal.on_durable = self.deliver

    def book(self, ticker: str) -> PublishedBook:
        """The published book of a listed market. Raises KeyError."""
        book = self._books.get(ticker)
        if book is None:
            book = self._books[ticker] = PublishedBook(
                self._exchange.listing(ticker).market_id, self._first_clock
            )
        return book

    def publish(self, sequence: int, events: list[Event]) -> None:
        """Queue the events of one step until the journal is durable up to `sequence`."""
        self._waiting.append((sequence, events))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver_scheduled)

    def deliver(self) -> None:
        """Send out every step that is durable. Ticker messages are sent once per market after the burst."""
        while self._waiting and self._waiting[0][0] <= self._journal.durable_sequence:
            for event in self._waiting.popleft()[1]:
                self._deliver(event)
        if self._dirty_tickers:
            self._deliver_tickers()

    def snapshot_to(self, subscription: Subscription, tickers: Iterable[str], command_id: int = 0) -> None:
        """Send the published book of each listed market; an unlisted one gets its snapshot when it is listed."""
        for ticker in tickers:
            if ticker in self._exchange.catalog.listings:
                body = self.book(ticker).snapshot(ticker, use_yes_price=subscription.use_yes_price)
                subscription.send("orderbook_snapshot", encode(body), command_id=command_id)

    def tickers_to(self, subscription: Subscription, tickers: Iterable[str]) -> None:
        """The present state of the ticker channel (`send_initial_snapshot`)."""
        listings = self._exchange.catalog.listings
        for ticker in tickers:
            if ticker in listings:
                body = listings[ticker].ticker_message(self._exchange.now_ms())
                subscription.send("ticker", encode(body))

    def tickers_by_id(self, market_ids: Iterable[str]) -> list[str]:
        """The tickers of the markets with these ids (the ticker channel may be asked by id)."""
        wanted = set(market_ids)
        listings = self._exchange.catalog.listings.values()
        return [listing.ticker for listing in listings if listing.market_id in wanted]

    def market_ids(self, tickers: Iterable[str]) -> list[str]:
        """The ids of these markets, those that are listed."""
        listings = self._exchange.catalog.listings
        return [listings[ticker].market_id for ticker in tickers if ticker in listings]

    def _deliver_scheduled(self) -> None:
        self._scheduled = False
        self.deliver()

    def _deliver(self, event: Event) -> None:
        match event:
            case LevelChanged():
                self._level(event)
            case TickerChanged():
                self._dirty_tickers[event.ticker] = None
            case Traded():
                self._send(Channel.TRADE, "trade", event.trade.ticker, lambda: trade_message(event.trade))
            case Filled():
                fill = event.fill
                self._send_private(
                    *(Channel.FILL, "fill", (fill.account_id, fill.subaccount), fill.ticker),
                    lambda: views.fill_message(fill),
                )
            case OrderChanged():
                order = event.order
                self._send_private(
                    *(Channel.USER_ORDERS, "user_order", (order.account_id, order.subaccount), order.ticker),
                    lambda: views.order_message(order),
                )
            case PositionChanged():
                owner = (event.account_id, event.subaccount)
                self._send_private(
                    *(Channel.MARKET_POSITIONS, "market_position", owner, event.ticker),
                    lambda: event.body,
                )
            case GroupChanged():
                owner = (event.group.account_id, event.group.subaccount)
                self._send_private(
                    *(Channel.ORDER_GROUP_UPDATES, "order_group_updates", owner, ""),
                    lambda: views.group_message(event),
                )
            case Lifecycle():
                self._lifecycle(event)

    def _level(self, event: LevelChanged) -> None:
        book = self.book(event.ticker)
        book.change(event.side, event.price_ticks, event.delta_lots)
        subscriptions = list(self.subscriptions.of(Channel.ORDERBOOK_DELTA, event.ticker))
        if not subscriptions:
            return
        body: Payload = {
            "market_ticker": event.ticker,
            "market_id": book.market_id,
            "clock": book.clock,
            "price_dollars": dollars(event.price_ticks),
            "delta_fp": count_fp(event.delta_lots),
            "side": outcome_side(event.side),
            "ts": rfc3339_ms(event.at_ms),
            "ts_ms": event.at_ms,
        }
        encoded: dict[tuple[bool, bool], bytes] = {}
        for subscription in subscriptions:
            own = event.order is not None and subscription.owns(
                event.order.account_id, event.order.subaccount
            )
            no_scale = event.side is BookSide.ASK and not subscription.use_yes_price
            if (own, no_scale) not in encoded:
                encoded[own, no_scale] = self._encode_level(event, body, own=own, no_scale=no_scale)
            subscription.send("orderbook_delta", encoded[own, no_scale])

    @staticmethod
    def _encode_level(event: LevelChanged, body: Payload, *, own: bool, no_scale: bool) -> bytes:
        shown = dict(body)
        if no_scale:
            shown["price_dollars"] = dollars(TICKS_PER_DOLLAR - event.price_ticks)
        if own and event.order is not None:
            shown["client_order_id"] = event.order.client_order_id
            shown["subaccount"] = event.order.subaccount
        return encode(shown)

    def _lifecycle(self, event: Lifecycle) -> None:
        if event.combo:
            # A combo's life is told on the channel of combos, whose market messages bear its name (API.md 14).
            kind = event.kind.replace(Channel.MARKET_LIFECYCLE, Channel.COMBO_LIFECYCLE)
            self._send(Channel.COMBO_LIFECYCLE, kind, "", lambda: event.body)
        else:
            self._send(Channel.MARKET_LIFECYCLE, event.kind, "", lambda: event.body)
        if event.body.get("event_type") == "created":
            ticker = event.body["market_ticker"]
            for subscription in self.subscriptions.of(Channel.ORDERBOOK_DELTA, ticker):
                self.snapshot_to(subscription, [ticker])

    def _deliver_tickers(self) -> None:
        tickers = list(self._dirty_tickers)
        self._dirty_tickers.clear()
        now_ms = self._exchange.now_ms()
        for ticker in tickers:
            listing = self._exchange.catalog.listings.get(ticker)
            if listing is not None:
                self._send(
                    Channel.TICKER, "ticker", ticker, functools.partial(listing.ticker_message, now_ms)
                )

    def _send(self, channel: Channel, kind: str, ticker: str, body: Callable[[], Payload]) -> None:
        """Encode the body once, and only when somebody hears it."""
        encoded = None
        for subscription in self.subscriptions.of(channel, ticker):
            encoded = encoded or encode(body())
            subscription.send(kind, encoded)

    def _send_private(
        self, channel: Channel, kind: str, owner: tuple[str, int], ticker: str, body: Callable[[], Payload]
    ) -> None:
        encoded = None
        for subscription in self.subscriptions.of(channel, ticker):
            if subscription.owns(*owner):
                encoded = encoded or encode(body())
                subscription.send(kind, encoded)
