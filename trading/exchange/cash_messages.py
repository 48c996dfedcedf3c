"""The wire's own words of subaccounts and of cash that moves between shards (API.md 12); see `messages` for the rules.

Three units meet here: whole cents (`amount_cents`), centi-cents of $0.0001 (`amount` of a shard transfer's request) and
dollars as text (everything else).
"""

from __future__ import annotations

from trading.exchange.messages import Payload


class SubaccountBalance(Payload):
    subaccount_number: int
    exchange_index: int
    balance: str
    updated_ts: int


class SubaccountBalancesAnswer(Payload):
    subaccount_balances: list[SubaccountBalance]


class SubaccountTransfer(Payload):
    transfer_id: str
    from_subaccount: int
    to_subaccount: int
    amount_cents: int
    created_ts: int
    exchange_index: int


class SubaccountTransfersAnswer(Payload):
    transfers: list[SubaccountTransfer]
    cursor: str = ""


class Netting(Payload):
    subaccount_number: int
    enabled: bool
    exchange_index: int


class NettingAnswer(Payload):
    netting_configs: list[Netting]


class ShardTransfer(Payload):
    """`amount` is dollars here, and centi-cents in the request."""

    transfer_id: str
    source: str
    destination: str
    source_exchange_shard: int
    destination_exchange_shard: int
    amount: str
    status: str
    created_ts: int
    client_transfer_id: str = ""


class ShardTransfersAnswer(Payload):
    transfers: list[ShardTransfer]
    cursor: str = ""


class ShardTransferAnswer(Payload):
    transfer: ShardTransfer


class Allocation(Payload):
    exchange_index: int
    percent: int


class AllocationsAnswer(Payload):
    allocations: list[Allocation]
    resting_margin_reservation: str


class NewSubaccount(Payload, omit_defaults=True):
    exchange_index: int | None = None


class CreatedSubaccount(Payload):
    subaccount_number: int


class NewSubaccountTransfer(Payload, omit_defaults=True):
    client_transfer_id: str
    from_subaccount: int
    to_subaccount: int
    amount_cents: int
    exchange_index: int | None = None


class NettingChange(Payload):
    subaccount_number: int
    enabled: bool


class NewShardTransfer(Payload, omit_defaults=True):
    source: str
    destination: str
    amount: int
    source_exchange_shard: int | None = None
    destination_exchange_shard: int | None = None
    source_subaccount: int | None = None
    destination_subaccount: int | None = None
    client_transfer_id: str | None = None


class CreatedShardTransfer(Payload):
    transfer_id: str


class NewAllocations(Payload):
    allocations: list[Allocation]
    resting_margin_reservation: str
