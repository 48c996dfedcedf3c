"""What a stream delivers: typed, in our units, with the exchange's time in Unix ms (None where it gave none).

Connected      a new connection: nothing of the old one holds; reconcile orders, fills and positions by REST
Disconnected   no book is trusted until a new snapshot
Gap            frames were lost: the named markets are untrusted until their next BookSnapshot
Heartbeat      the exchange's ping: the connection is alive and nothing was lost up to now
Rejected       the exchange did not accept a command of ours
BookSnapshot, BookDelta, TickerUpdate, TradePrint                           public, per market
OwnFill, OwnOrder, OwnPosition                                              private; without sequence
LifecycleChange, EventOpened, FeesChanged                                   catalogue
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

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
    channel: str
    number: int
    message: str


class BookSnapshot(msgspec.Struct, frozen=True):
    """The whole book as (ticks, lots) on the YES scale, fit for `Book.apply_snapshot`."""

    ticker: str
    bids: tuple[RawLevel, ...]
    asks: tuple[RawLevel, ...]
    at_ms: int | None


class BookDelta(msgspec.Struct, frozen=True, gc=False):
    """A signed change of one level in lots, fit for `Book.apply_delta`."""

    ticker: str
    side: BookSide
    tick: int
    change: int
    at_ms: int | None


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


class LifecycleChange(msgspec.Struct, frozen=True):
    """A market was created, activated, deactivated, moved its close, was determined or settled, or changed its grid."""

    kind: str
    ticker: str
    open_at: datetime | None
    close_at: datetime | None
    result: Result | None
    settlement_value: Decimal | None
    price_ranges: tuple[dict[str, str], ...] | None
    at_ms: int | None


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
    | BookSnapshot
    | BookDelta
    | TickerUpdate
    | TradePrint
    | OwnFill
    | OwnOrder
    | OwnPosition
    | LifecycleChange
    | EventOpened
    | FeesChanged
)
