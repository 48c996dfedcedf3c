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
    at_ms: int = 0


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
    determined_ms: int | None = None

    @property
    def exchange_index(self) -> int:
        return int(self.market.get("exchange_index", 0))

    @property
    def is_mecnet(self) -> bool:
        """Whether its event is mutually exclusive with collateral return."""
        return bool(self.event.get("collateral_return_type") == "MECNET")


class OrderRecord(msgspec.Struct, frozen=True, gc=False, tag="order"):
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
    subaccount: int = 0
    exchange_index: int = 0  # the shard of its market
    order_group_id: str | None = None
    post_only: bool = False
    reduce_only: bool = False

    @property
    def is_open(self) -> bool:
        return self.status == "resting"


class FillRecord(msgspec.Struct, frozen=True, gc=False, tag="fill"):
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
    subaccount: int = 0
    exchange_index: int = 0
    order_group_id: str | None = None


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
    subaccount: int = 0
    exchange_index: int = 0
    rounding: Decimal = ZERO  # what a payout finer than the balance grid leaves behind; contained in `fees`


class SpentId(msgspec.Struct, frozen=True, tag="spent"):
    """A client order id that was used by an order that never came to be (a killed fill-or-kill)."""

    account_id: str
    client_order_id: str


class SubaccountOpened(msgspec.Struct, frozen=True, tag="subaccount"):
    """A further subaccount (1 to 63) of an account, on one shard."""

    account_id: str
    subaccount: int
    exchange_index: int
    at_ms: int


class LevelGranted(msgspec.Struct, frozen=True, tag="level"):
    """An account was lifted to a usage level (API.md 7), for good."""

    account_id: str
    level: str


class TransferRecord(msgspec.Struct, frozen=True, tag="transfer"):
    """Money on its way from one purse of an account to another. It leaves at once and arrives when `status` is
    complete; in between it belongs to neither."""

    transfer_id: str
    client_transfer_id: str
    account_id: str
    from_subaccount: int
    to_subaccount: int
    from_shard: int
    to_shard: int
    amount: Decimal
    status: str  # pending, complete
    created_ms: int
    at_ms: int

    @property
    def within_shard(self) -> bool:
        """Whether it is a transfer between subaccounts on one shard, not one between shards."""
        return self.from_shard == self.to_shard


class NettingSet(msgspec.Struct, frozen=True, tag="netting"):
    """Collateral return switched on or off for one subaccount (API.md 12)."""

    account_id: str
    subaccount: int
    enabled: bool
    at_ms: int


class AllocationSet(msgspec.Struct, frozen=True, tag="allocation"):
    """How an account's cash is to be spread over the shards: percent by shard, empty for not at all."""

    account_id: str
    percents: dict[int, int]
    reservation: str  # none, max, sum
    at_ms: int


class GroupRecord(msgspec.Struct, frozen=True, tag="group"):
    """An order group as it stands now. What it has matched follows from the fills of its orders."""

    group_id: str
    account_id: str
    subaccount: int
    exchange_index: int
    limit_lots: Lots  # the most that may be matched within the rolling window
    created_ms: int
    updated_ms: int
    counted_from_ms: int = 0  # fills up to here (the last reset) no longer count
    is_triggered: bool = False  # its orders are canceled and new ones refused until it is reset
    is_deleted: bool = False


class FeeChange(msgspec.Struct, frozen=True, tag="fee_change"):
    """New fees of a series, or (with `event_ticker`) an event's override, None for a cleared one."""

    change_id: str
    series_ticker: str
    event_ticker: str
    fee_type: str | None
    multiplier: Decimal | None
    scheduled_ms: int
    applied: bool = False


Record = (
    AccountOpened
    | MarketKept
    | OrderRecord
    | FillRecord
    | SettlementRecord
    | SpentId
    | SubaccountOpened
    | LevelGranted
    | TransferRecord
    | NettingSet
    | AllocationSet
    | GroupRecord
    | FeeChange
)


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal: everything one step of the exchange changed, all or nothing."""

    sequence: int
    at_ms: int
    records: list[Record]
