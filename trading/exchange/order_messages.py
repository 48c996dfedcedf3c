"""The wire's own words of order writes and order groups (API.md 11); see `messages` for the rules.

Counts and prices of requests are strings: a JSON number would be refused (API.md 4).
"""

from __future__ import annotations

import msgspec

from trading.exchange.messages import Payload


class NewOrder(Payload, omit_defaults=True):
    """The body of a create."""

    ticker: str
    client_order_id: str
    side: str
    count: str
    price: str
    time_in_force: str
    self_trade_prevention_type: str
    expiration_time: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    cancel_order_on_pause: bool = False
    order_group_id: str | None = None
    exchange_index: int | None = None
    subaccount: int | None = None


class CreatedOrder(Payload):
    """There is no status in it, only counts (API.md 11)."""

    order_id: str
    fill_count: str
    remaining_count: str
    ts_ms: int
    client_order_id: str = ""
    average_fill_price: str | None = None
    average_fee_paid: str | None = None


class ItemError(Payload):
    code: str = ""
    message: str = ""
    details: str = ""


class CreatedItem(Payload):
    """One order of a batch of creates: the fields of a created order, or an error."""

    order_id: str = ""
    client_order_id: str | None = None
    fill_count: str | None = None
    remaining_count: str | None = None
    average_fill_price: str | None = None
    average_fee_paid: str | None = None
    ts_ms: int | None = None
    error: ItemError | None = None


class CreatedItems(Payload):
    orders: list[CreatedItem]


class AmendedTerms(Payload, omit_defaults=True):
    """The body of an amend. `count` is what is filled already plus what shall rest."""

    ticker: str
    side: str
    price: str
    count: str
    client_order_id: str | None = None
    updated_client_order_id: str | None = None
    expiration_time: int | None = None
    exchange_index: int | None = None


class AmendedOrder(Payload):
    """Counts come only when the amend filled something or changed the resting size."""

    order_id: str
    ts_ms: int
    client_order_id: str = ""
    remaining_count: str | None = None
    fill_count: str | None = None
    average_fill_price: str | None = None
    average_fee_paid: str | None = None


class Decrease(Payload, omit_defaults=True):
    """The body of a decrease: one of the two counts."""

    reduce_by: str | None = None
    reduce_to: str | None = None
    exchange_index: int | None = None
    market_ticker: str | None = None


class DecreasedOrder(Payload):
    order_id: str
    remaining_count: str
    ts_ms: int
    client_order_id: str = ""


class CanceledOrder(Payload):
    order_id: str
    reduced_by: str
    ts_ms: int
    client_order_id: str = ""


class CancelItem(Payload, omit_defaults=True):
    """One order of a batch of cancels."""

    order_id: str
    market_ticker: str | None = None
    exchange_index: int | None = None
    subaccount: int | None = None


class CancelItems(Payload):
    orders: list[CancelItem]


class CanceledItem(Payload):
    """`reduced_by` is "0.00" beside an error."""

    order_id: str
    reduced_by: str
    client_order_id: str | None = None
    ts_ms: int | None = None
    error: ItemError | None = None


class CanceledItems(Payload):
    orders: list[CanceledItem]


class NewGroup(Payload, omit_defaults=True):
    """The body of a new order group: the most contracts that it may match in 15 s."""

    contracts_limit_fp: str
    subaccount: int | None = None
    exchange_index: int | None = None


class CreatedGroup(Payload):
    order_group_id: str
    subaccount: int
    exchange_index: int = 0


class GroupLimit(Payload):
    contracts_limit_fp: str


class Group(Payload):
    id: str
    is_auto_cancel_enabled: bool
    contracts_limit_fp: str | None = None
    exchange_index: int = 0


class GroupsAnswer(Payload):
    order_groups: list[Group] = msgspec.field(default_factory=list)


class GroupAnswer(Payload):
    is_auto_cancel_enabled: bool
    orders: list[str]
    contracts_limit_fp: str | None = None
    exchange_index: int = 0
