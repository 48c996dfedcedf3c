"""What a stream delivers: typed, in our units, with the exchange's time in Unix ms (None where it gave none).

Connected      a new connection: nothing of the old one holds; reconcile orders, fills and positions by REST
Disconnected   no book is trusted until a new snapshot
Gap            frames were lost: the named markets are untrusted until their next BookSnapshot
Heartbeat      the exchange's ping: the connection is alive and nothing was lost up to now
Rejected       the exchange did not accept a command of ours
Subscribed     what the exchange says that we have subscribed (the answer to `list_subscriptions`)
BookSnapshot, BookDelta, TickerUpdate, TradePrint                           public, per market
OwnFill, OwnOrder, OwnPosition                                              private; without sequence
OrderGroupChange, QuoteTalk                                                 private
LifecycleChange, EventOpened, FeesChanged                                   catalogue
IndexValue, IndexNames                                                      what some markets settle on
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from trading.domain.book import RawLevel
from trading.domain.markets import TopOfBook
from trading.domain.orders import BookSide
from trading.exchange.reports import FillReport, OrderReport, PublicTrade, Result


class Connected(msgspec.Struct, frozen=True):
    at_ms: int


class Disconnected(msgspec.Struct, frozen=True):
    """`retry_in` is the pause before the next try, in seconds."""

    reason: str
    retry_in: float


class Gap(msgspec.Struct, frozen=True):
    """`tickers` are the order-book markets of the subscription; a gap in another channel names none."""

    channel: str
    reason: str
    tickers: tuple[str, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True):
    """`at_ms` is our own clock: a ping carries no time."""

    at_ms: int


class Rejected(msgspec.Struct, frozen=True):
    """`keys` are the markets (or indices) that the command named: they are not followed."""

    channel: str
    number: int
    message: str
    keys: tuple[str, ...] = ()


class Subscribed(msgspec.Struct, frozen=True):
    """(channel, sid) of each subscription."""

    subscriptions: tuple[tuple[str, int], ...]


class BookSnapshot(msgspec.Struct, frozen=True):
    """The whole book as (ticks, lots) on the YES scale, fit for `Book.apply_snapshot`.

    It includes every change with a `clock` at or below its own (0: the exchange gave none).
    """

    ticker: str
    bids: tuple[RawLevel, ...]
    asks: tuple[RawLevel, ...]
    at_ms: int | None
    clock: int = 0


class BookDelta(msgspec.Struct, frozen=True, gc=False):
    """A signed change of one level in lots, fit for `Book.apply_delta`."""

    ticker: str
    side: BookSide
    tick: int
    change: int
    at_ms: int | None
    clock: int = 0


class TickerUpdate(msgspec.Struct, frozen=True):
    ticker: str
    quote: TopOfBook
    last_price: Decimal | None
    volume: Decimal
    open_interest: Decimal
    at_ms: int


class TradePrint(msgspec.Struct, frozen=True):
    trade: PublicTrade
    at_ms: int


class OwnFill(msgspec.Struct, frozen=True):
    fill: FillReport
    at_ms: int


class OwnOrder(msgspec.Struct, frozen=True):
    order: OrderReport
    at_ms: int | None


class OwnPosition(msgspec.Struct, frozen=True):
    """The position of one market after a change: `quantity` + for YES, - for NO."""

    ticker: str
    quantity: Decimal
    cost: Decimal
    realized_pnl: Decimal
    fees_paid: Decimal
    at_ms: int | None


class OrderGroupChange(msgspec.Struct, frozen=True):
    """An order group was created, triggered, reset, deleted or got another limit (contracts; None where not said)."""

    kind: str
    order_group_id: str
    contracts_limit: Decimal | None
    at_ms: int


class QuoteTalk(msgspec.Struct, frozen=True):
    """A message about requests for quotes, as it came."""

    kind: str
    payload: dict[str, Any]


class IndexValue(msgspec.Struct, frozen=True):
    """One value of an index, in its own units. `average_60s` and `closing_average` (of the last minute before a quarter
    of an hour) come from CF Benchmarks' slow feed alone."""

    channel: str
    index: str
    value: Decimal
    at_ms: int
    average_60s: Decimal | None = None
    closing_average: Decimal | None = None


class IndexNames(msgspec.Struct, frozen=True):
    """The indices that a channel offers."""

    channel: str
    names: tuple[str, ...]


class LifecycleChange(msgspec.Struct, frozen=True):
    """A market was created, activated, deactivated, moved its close, was determined or settled, or changed its grid or
    its words. `is_combo`: it belongs to a multivariate event."""

    kind: str
    ticker: str
    open_at: datetime | None
    close_at: datetime | None
    result: Result | None
    settlement_value: Decimal | None
    price_ranges: tuple[dict[str, str], ...] | None
    at_ms: int | None
    is_combo: bool = False


class EventOpened(msgspec.Struct, frozen=True):
    event_ticker: str
    series_ticker: str


class FeesChanged(msgspec.Struct, frozen=True):
    """Read the event again: its fee overrides have changed."""

    event_ticker: str


StreamEvent = (
    Connected
    | Disconnected
    | Gap
    | Heartbeat
    | Rejected
    | Subscribed
    | BookSnapshot
    | BookDelta
    | TickerUpdate
    | TradePrint
    | OwnFill
    | OwnOrder
    | OwnPosition
    | OrderGroupChange
    | QuoteTalk
    | IndexValue
    | IndexNames
    | LifecycleChange
    | EventOpened
    | FeesChanged
)
