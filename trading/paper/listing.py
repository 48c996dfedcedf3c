"""One listed market: its definition, its book and its live figures, and how the wire shows them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from trading.domain.fees import FeeSchedule
from trading.domain.markets import MarketStatus
from trading.domain.matching import TICKS_PER_DOLLAR, Book, Lots, Ticks, to_lots, to_ticks
from trading.domain.orders import BookSide
from trading.domain.prices import PriceGrid
from trading.paper.candles import Candles
from trading.paper.definitions import Payload, fee_schedule, market_id, time_of
from trading.paper.fill_models import FillModel
from trading.paper.recorded import RECORDED, Recorded
from trading.paper.wire import count_fp, direction, dollars, from_ms, outcome_side, rfc3339_ms, ticks_decimal

KEPT_TRADES = 5_000
TRADING = frozenset({MarketStatus.ACTIVE})
CANCELS_ALLOWED = frozenset({MarketStatus.ACTIVE, MarketStatus.INACTIVE})
DECIDED = frozenset({MarketStatus.DETERMINED, MarketStatus.DISPUTED, MarketStatus.AMENDED})
OVER = DECIDED | {MarketStatus.CLOSED, MarketStatus.FINALIZED}


class TradePrint(msgspec.Struct, frozen=True):
    """A public trade."""

    trade_id: str
    ticker: str
    price_ticks: Ticks
    lots: Lots
    taker_side: BookSide
    at_ms: int

    def payload(self) -> Payload:
        """The wire's Trade of `GET /markets/trades`."""
        return {
            "trade_id": self.trade_id,
            "ticker": self.ticker,
            "count_fp": count_fp(self.lots),
            "yes_price_dollars": dollars(self.price_ticks),
            "no_price_dollars": dollars(TICKS_PER_DOLLAR - self.price_ticks),
            "taker_outcome_side": outcome_side(self.taker_side),
            "taker_book_side": self.taker_side.value,
            "taker_side": outcome_side(self.taker_side),
            "created_time": rfc3339_ms(self.at_ms),
            "is_block_trade": False,
        }


@dataclass(slots=True, eq=False)
class Listing:
    """A market on the exchange. Live figures are whole numbers; the definition is the payload's lasting part."""

    definition: Payload
    event: Payload
    series: Payload
    status: MarketStatus = MarketStatus.INITIALIZED
    updated_ms: int = 0
    book: Book = field(default_factory=Book)
    last_ticks: Ticks | None = None
    last_lots: Lots = 0
    previous: tuple[Ticks | None, Ticks | None, Ticks | None] = (
        None,
        None,
        None,
    )  # bid, ask, last before the last trade
    volume: Lots = 0
    open_interest: Lots = 0
    result: str = ""
    value_ticks: Ticks | None = None
    determined_ms: int | None = None
    settled_ms: int | None = None
    adopted: bool = True  # a world of this run has listed it
    fill_model: FillModel = FillModel.PESSIMISTIC
    is_blind: bool = False  # its recorded book is lost: nobody knows what an order would meet
    holdings: dict[str, Lots] = field(default_factory=dict)  # net lots of every owner who traded in this run
    trades: deque[TradePrint] = field(default_factory=lambda: deque(maxlen=KEPT_TRADES))
    candles: Candles = field(default_factory=Candles)
    recorded: Recorded = field(init=False)
    grid: PriceGrid = field(init=False)
    fees: FeeSchedule = field(init=False)
    opens_at: datetime = field(init=False)
    closes_at: datetime = field(init=False)
    market_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.recorded = Recorded(self.book, self.fill_model)
        self.define(self.definition)

    @property
    def ticker(self) -> str:
        return str(self.definition["ticker"])

    @property
    def event_ticker(self) -> str:
        return str(self.event["event_ticker"])

    @property
    def takes_no_orders(self) -> bool:
        """Whether trading pauses for a while."""
        return self.status is MarketStatus.INACTIVE or self.is_blind

    @property
    def series_ticker(self) -> str:
        return str(self.series["ticker"])

    @property
    def exchange_index(self) -> int:
        """The shard that this market trades on."""
        return int(self.definition.get("exchange_index", 0))

    @property
    def collection(self) -> str:
        """The multivariate collection that a combo stems from, or nothing."""
        return str(self.definition.get("mve_collection_ticker") or "")

    @property
    def settlement_due(self) -> datetime:
        """When a market that no world settles is settled by the engine: the timer runs from the close, and anew from
        each determination."""
        timer = timedelta(seconds=int(self.definition["settlement_timer_seconds"]))
        if self.determined_ms is None:
            return self.closes_at + timer
        return max(self.closes_at, from_ms(self.determined_ms)) + timer

    def define(self, definition: Payload) -> None:
        """Take a definition and everything that is read from it. Raises ValueError when it cannot be read."""
        grid = PriceGrid.from_ranges(definition["price_ranges"])
        opens, closes = time_of(definition, "open_time"), time_of(definition, "close_time")
        self.definition, self.grid, self.opens_at, self.closes_at = definition, grid, opens, closes
        self.fees = fee_schedule(self.series, self.event)
        self.market_id = market_id(definition)

    def rebase(self, fields: Payload) -> None:
        """Take replayed live figures as the base to which our own trades are added."""
        self.volume = to_lots(fields.get("volume_fp", count_fp(self.volume)))
        self.open_interest = to_lots(fields.get("open_interest_fp", count_fp(self.open_interest)))
        if "last_price_dollars" in fields:
            self.last_ticks = to_ticks(fields["last_price_dollars"]) or None

    def on_grid(self, price_ticks: Ticks) -> bool:
        return _holds(self.grid, price_ticks)

    def best(self) -> tuple[Ticks | None, Lots, Ticks | None, Lots]:
        """Best bid with its lots and best ask with its lots."""
        bid, ask = self.book.best(BookSide.BID), self.book.best(BookSide.ASK)
        return (*(bid or (None, 0)), *(ask or (None, 0)))

    def note_trade(self, trade: TradePrint) -> None:
        """Count a public trade."""
        bid, _, ask, _ = self.best()
        self.previous = (bid, ask, self.last_ticks)
        self.last_ticks, self.last_lots = trade.price_ticks, trade.lots
        self.volume += trade.lots
        self.trades.append(trade)
        self.candles.add_trade(trade.at_ms, trade.price_ticks, trade.lots, self.open_interest)

    def note_holdings(self, buyer: str, seller: str, lots: Lots) -> None:
        """Follow the open interest: what is held long. Recorded owners' holdings are not known, so theirs
        count for nothing."""
        if RECORDED in {buyer, seller}:
            return
        for owner, change in ((buyer, lots), (seller, -lots)):
            before = self.holdings.get(owner, 0)
            self.holdings[owner] = before + change
            self.open_interest += max(0, before + change) - max(0, before)

    def volume_24h(self, now_ms: int) -> Lots:
        """Lots traded within the last day, to the minute: the candles' own sums."""
        return self.candles.day_volume(now_ms)

    def payload(self, now_ms: int) -> Payload:
        """The wire's Market with every required field (API.md 9)."""
        return {**self.definition, **self._quotes(), **self._figures(now_ms), **self._outcome()}

    def _quotes(self) -> Payload:
        bid, bid_lots, ask, ask_lots = self.best()
        bid_ticks, ask_ticks = bid or 0, TICKS_PER_DOLLAR if ask is None else ask
        before_bid, before_ask, before_last = self.previous
        return {
            "yes_bid_dollars": dollars(bid_ticks),
            "yes_bid_size_fp": count_fp(bid_lots),
            "yes_ask_dollars": dollars(ask_ticks),
            "yes_ask_size_fp": count_fp(ask_lots),
            "no_bid_dollars": dollars(TICKS_PER_DOLLAR - ask_ticks),
            "no_ask_dollars": dollars(TICKS_PER_DOLLAR - bid_ticks),
            "last_price_dollars": dollars(self.last_ticks or 0),
            "previous_yes_bid_dollars": dollars(before_bid or 0),
            "previous_yes_ask_dollars": dollars(TICKS_PER_DOLLAR if before_ask is None else before_ask),
            "previous_price_dollars": dollars(before_last or 0),
        }

    def _figures(self, now_ms: int) -> Payload:
        return {
            "status": self.status.value,
            "updated_time": rfc3339_ms(self.updated_ms or now_ms),
            "volume_fp": count_fp(self.volume),
            "volume_24h_fp": count_fp(self.volume_24h(now_ms)),
            "open_interest_fp": count_fp(self.open_interest),
        }

    def _outcome(self) -> Payload:
        shown: Payload = {"result": self.result}
        if self.value_ticks is not None:
            shown["settlement_value_dollars"] = dollars(self.value_ticks)
        if self.settled_ms is not None:
            shown["settlement_ts"] = rfc3339_ms(self.settled_ms)
        return shown

    def ticker_message(self, now_ms: int) -> Payload:
        """The body of the `ticker` channel (API.md 14)."""
        bid, bid_lots, ask, ask_lots = self.best()
        return {
            "market_ticker": self.ticker,
            "market_id": self.market_id,
            "price_dollars": dollars(self.last_ticks or 0),
            "yes_bid_dollars": dollars(bid or 0),
            "yes_ask_dollars": dollars(TICKS_PER_DOLLAR if ask is None else ask),
            "yes_bid_size_fp": count_fp(bid_lots),
            "yes_ask_size_fp": count_fp(ask_lots),
            "last_trade_size_fp": count_fp(self.last_lots),
            "volume_fp": count_fp(self.volume),
            "open_interest_fp": count_fp(self.open_interest),
            "dollar_volume": self.volume // 100,
            "dollar_open_interest": self.open_interest // 100,
            "ts": now_ms // 1000,
            "ts_ms": now_ms,
            "time": rfc3339_ms(now_ms),
        }


def holder(account_id: str, subaccount: int) -> str:
    """Who holds a position: two subaccounts of one account do not net."""
    return f"{account_id}/{subaccount}"


@lru_cache(65_536)
def _holds(grid: PriceGrid, price_ticks: Ticks) -> bool:
    return grid.holds(ticks_decimal(price_ticks))


def trade_message(trade: TradePrint) -> Payload:
    """The body of the `trade` channel."""
    return {
        "trade_id": trade.trade_id,
        "market_ticker": trade.ticker,
        "yes_price_dollars": dollars(trade.price_ticks),
        "no_price_dollars": dollars(TICKS_PER_DOLLAR - trade.price_ticks),
        "count_fp": count_fp(trade.lots),
        "taker_side": outcome_side(trade.taker_side),
        **{f"taker_{key}": value for key, value in direction(trade.taker_side).items()},
        "is_block_trade": False,
        "ts": trade.at_ms // 1000,
        "ts_ms": trade.at_ms,
    }
