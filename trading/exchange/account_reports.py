"""What the exchange tells us of one account beside orders, fills and positions, in our own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class EventPositionReport:
    """What is held in one event over all its markets, in dollars; `quantity` counts contracts paid for."""

    event_ticker: str
    total_cost: Decimal
    quantity: Decimal
    exposure: Decimal
    realized_pnl: Decimal
    fees_paid: Decimal


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Contracts that stand before this order at its price (price-time priority)."""

    order_id: str
    ticker: str
    contracts_ahead: Decimal


@dataclass(frozen=True, slots=True)
class OrderGroupReport:
    """A group of orders with one limit of contracts matched in 15 seconds.

    `limit` is None where it is not told, `order_ids` in lists, which do not tell them.
    """

    order_group_id: str
    is_auto_cancel_enabled: bool
    limit: Decimal | None
    exchange_index: int
    order_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PaymentReport:
    """A deposit or a withdrawal in dollars. `status`: pending, applied, failed or returned."""

    payment_id: str
    status: str
    kind: str
    amount: Decimal
    fee: Decimal
    created_at: datetime
    finalized_at: datetime | None


@dataclass(frozen=True, slots=True)
class EndpointCost:
    """Tokens that one call costs where it is not the default."""

    method: str
    path: str
    cost: int


@dataclass(frozen=True, slots=True)
class EndpointCosts:
    default: int
    exceptions: tuple[EndpointCost, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyReport:
    """A key of the account. `subaccount` is set when it is locked to one."""

    key_id: str
    name: str
    scopes: frozenset[str]
    subaccount: int | None


@dataclass(frozen=True, slots=True)
class SubaccountBalance:
    """Dollars of one subaccount on one shard; 0 is the primary one."""

    subaccount: int
    exchange_index: int
    cash: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SubaccountTransfer:
    """Cash that moved between two subaccounts on one shard, in dollars."""

    transfer_id: str
    from_subaccount: int
    to_subaccount: int
    amount: Decimal
    exchange_index: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ShardTransfer:
    """Cash that moves between two shards, in dollars; it has arrived once it `is_complete`."""

    transfer_id: str
    client_transfer_id: str
    source_shard: int
    destination_shard: int
    amount: Decimal
    is_complete: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Netting:
    """Whether collateral of mutually exclusive markets is given back in this subaccount (API.md 12)."""

    subaccount: int
    enabled: bool
    exchange_index: int


@dataclass(frozen=True, slots=True)
class TargetAllocation:
    """How the exchange shall spread free cash over the shards: (shard, percent), in all 100, or none at all.

    `reservation` says what stays for resting orders: none, max (the largest) or sum (all of them).
    """

    shares: tuple[tuple[int, int], ...]
    reservation: str
