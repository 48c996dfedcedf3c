"""What the engine tells the streams: one small value per thing that happened. Prices YES scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide
from trading.paper.listing import TradePrint
from trading.paper.records import FillRecord, GroupRecord, OrderRecord


@dataclass(frozen=True, slots=True)
class LevelChanged:
    """One level of a book grew or shrank. `order` is the account order that caused it, if one did."""

    ticker: str
    side: BookSide
    price_ticks: Ticks
    delta_lots: Lots
    at_ms: int
    order: OrderRecord | None = None


@dataclass(frozen=True, slots=True)
class TickerChanged:
    """Some figure of the `ticker` channel changed."""

    ticker: str


@dataclass(frozen=True, slots=True)
class Traded:
    """A public trade."""

    trade: TradePrint


@dataclass(frozen=True, slots=True)
class OrderChanged:
    """An account's order was created, filled, canceled or otherwise updated."""

    order: OrderRecord


@dataclass(frozen=True, slots=True)
class Filled:
    """An account's order was executed."""

    fill: FillRecord


@dataclass(frozen=True, slots=True)
class PositionChanged:
    """An account's position changed; the body as it stood then."""

    account_id: str
    ticker: str
    body: dict[str, Any]
    subaccount: int = 0


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """An order group was created, triggered, reset, deleted or given another limit (the words of API.md 14)."""

    kind: str
    group: GroupRecord
    at_ms: int


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A market or an event began a new part of its life; `kind` is the message type of channel
    market_lifecycle_v2. A `combo` has a channel of its own."""

    kind: str
    body: dict[str, Any]
    combo: bool = False


Event = (
    LevelChanged | TickerChanged | Traded | OrderChanged | Filled | PositionChanged | GroupChanged | Lifecycle
)
