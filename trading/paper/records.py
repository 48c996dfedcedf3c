"""What the exchange remembers about accounts: immutable records, as they stand in the journal and in memory.

Counts in lots, prices in ticks on the YES scale, money in Decimal dollars, times in Unix milliseconds.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide, TimeInForce

ZERO = Decimal(0)


class AccountOpened(msgspec.Struct, frozen=True, tag="account"):
    """An account with its first deposit."""

    account_id: str
    name: str
    balance: Decimal


class MarketKept(msgspec.Struct, frozen=True, tag="market"):
    """A market that some account has touched: enough to show and settle it when its world is gone."""

    ticker: str
    series: dict[str, Any]
    event: dict[str, Any]
    market: dict[str, Any]
    status: str
    last_ticks: Ticks | None = None
    result: str = ""
    value_ticks: Ticks | None = None
    settled_ms: int | None = None


class OrderRecord(msgspec.Struct, frozen=True, tag="order"):
    """An account's order as it stands now."""

    order_id: str
    account_id: str
    client_order_id: str
    ticker: str
    event_ticker: str
    side: BookSide
    price_ticks: Ticks
    initial_lots: Lots
    remaining_lots: Lots
    filled_lots: Lots
    status: str  # resting, executed, canceled
    tif: TimeInForce
    self_trade: str
    created_ms: int
    updated_ms: int
    sequence: int  # order of entry, for time priority after a restart
    expires_ms: int | None = None
    cancel_on_pause: bool = False
    taker_cost: Decimal = ZERO
    maker_cost: Decimal = ZERO
    taker_fees: Decimal = ZERO
    maker_fees: Decimal = ZERO
    accumulator: Decimal = ZERO  # rounding fees gathered and not yet paid back (API.md 13)
    reason: str | None = None  # last_update_reason

    @property
    def is_open(self) -> bool:
        return self.status == "resting"


class FillRecord(msgspec.Struct, frozen=True, tag="fill"):
    """One execution of an account's order. `change` is what it did to the balance."""

    trade_id: str
    order_id: str
    client_order_id: str
    account_id: str
    ticker: str
    event_ticker: str
    side: BookSide
    price_ticks: Ticks
    lots: Lots
    is_taker: bool
    fee: Decimal
    change: Decimal
    post_position_lots: Lots
    at_ms: int


class SettlementRecord(msgspec.Struct, frozen=True, tag="settlement"):
    """The payment of one account's net position in one market."""

    account_id: str
    ticker: str
    event_ticker: str
    result: str
    value_ticks: Ticks
    yes_lots: Lots
    yes_cost: Decimal
    no_lots: Lots
    no_cost: Decimal
    revenue: Decimal
    fees: Decimal
    at_ms: int


class SpentId(msgspec.Struct, frozen=True, tag="spent"):
    """A client order id that was used by an order that never came to be (a killed fill-or-kill)."""

    account_id: str
    client_order_id: str


Record = AccountOpened | MarketKept | OrderRecord | FillRecord | SettlementRecord | SpentId


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal: everything one step of the exchange changed, all or nothing."""

    sequence: int
    at_ms: int
    records: list[Record]
