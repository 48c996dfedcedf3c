"""The exact bytes of order writes: store them and their hash before sending them.

Everything that the exchange would refuse by form is a ValueError here, before anything is claimed or stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from trading.domain.orders import BookSide, TimeInForce
from trading.domain.prices import COUNT_STEP, PRICE_STEP
from trading.exchange import order_messages as messages

STOP_AT_OWN_ORDER: Final = "taker_at_cross"
CLEAR_EXPIRY: Final = 0
LARGEST_GROUP_LIMIT: Final = Decimal(1_000_000)  # contracts in 15 s (API.md 11)


def create_body(
    *,
    ticker: str,
    client_order_id: str,
    book_side: BookSide,
    quantity: Decimal,
    yes_price: Decimal,
    time_in_force: TimeInForce,
    expires_at: datetime | None = None,
    post_only: bool = False,
    reduce_only: bool = False,
    cancel_on_pause: bool = True,
    exchange_index: int | None = None,
    order_group_id: str | None = None,
    subaccount: int | None = None,
) -> bytes:
    """The body of a create.

    Raises ValueError for what the exchange would refuse by form: a price outside (0, 1) or finer than $0.0001, a
    quantity not above 0 or finer than 0.01, an expiry without good-till-canceled, reduce-only without
    immediate-or-cancel. Also without a client order id.
    """
    if not client_order_id:
        raise ValueError(
            "a create needs a client order id: without it an unknown outcome could not be resolved"
        )
    if expires_at is not None and time_in_force is not TimeInForce.GTC:
        raise ValueError("an expiry goes only with good_till_canceled")
    if reduce_only and time_in_force is not TimeInForce.IOC:
        raise ValueError("reduce_only goes only with immediate_or_cancel")
    order = messages.NewOrder(
        ticker=ticker,
        client_order_id=client_order_id,
        side=book_side.value,
        count=_count(quantity),
        price=_price(yes_price),
        time_in_force=time_in_force.value,
        self_trade_prevention_type=STOP_AT_OWN_ORDER,
        expiration_time=None if expires_at is None else int(expires_at.timestamp()),
        post_only=post_only,
        reduce_only=reduce_only,
        cancel_order_on_pause=cancel_on_pause,
        exchange_index=exchange_index,
        order_group_id=order_group_id,
        subaccount=subaccount,
    )
    return msgspec.json.encode(order)


def batch_body(bodies: Sequence[bytes]) -> bytes:
    """Several creates as one, each with its own bytes. Raises ValueError without any, or when two share an id."""
    ids = [msgspec.json.decode(body, type=messages.NewOrder).client_order_id for body in bodies]
    if not ids:
        raise ValueError("a batch needs at least one order")
    if len(set(ids)) < len(ids):
        raise ValueError("two orders of the batch have the same client order id")
    return b'{"orders":[' + b",".join(bodies) + b"]}"


def amend_body(
    *,
    ticker: str,
    book_side: BookSide,
    yes_price: Decimal,
    quantity: Decimal,
    client_order_id: str | None = None,
    updated_client_order_id: str | None = None,
    expires_at: datetime | None = None,
    clear_expiry: bool = False,
    exchange_index: int | None = None,
) -> bytes:
    """The body of an amend. `quantity` is what is filled already plus what shall rest; an expiry left out is kept.

    Raises ValueError as `create_body` does, and when an expiry is both given and cleared.
    """
    if clear_expiry and expires_at is not None:
        raise ValueError("an expiry is either given or cleared")
    expiry = None if expires_at is None else int(expires_at.timestamp())
    terms = messages.AmendedTerms(
        ticker=ticker,
        side=book_side.value,
        price=_price(yes_price),
        count=_count(quantity),
        client_order_id=client_order_id,
        updated_client_order_id=updated_client_order_id,
        expiration_time=CLEAR_EXPIRY if clear_expiry else expiry,
        exchange_index=exchange_index,
    )
    return msgspec.json.encode(terms)


def decrease_body(
    *,
    reduce_by: Decimal | None,
    reduce_to: Decimal | None,
    market_ticker: str,
    exchange_index: int | None,
) -> bytes:
    """The body of a decrease. Raises ValueError unless exactly one of the two counts is given."""
    if (reduce_by is None) == (reduce_to is None):
        raise ValueError("a decrease needs exactly one of reduce_by and reduce_to")
    body = messages.Decrease(
        reduce_by=None if reduce_by is None else _count(reduce_by),
        reduce_to=None if reduce_to is None else _count(reduce_to, least=Decimal(0)),
        market_ticker=market_ticker,
        exchange_index=exchange_index,
    )
    return msgspec.json.encode(body)


def group_limit(contracts: Decimal) -> str:
    """An order group's limit of contracts in 15 seconds, 1 to 1,000,000. Raises ValueError outside."""
    if not 1 <= contracts <= LARGEST_GROUP_LIMIT:
        raise ValueError(f"a group limit of {contracts} is outside 1 to {LARGEST_GROUP_LIMIT}")
    return _exact(contracts, COUNT_STEP)


def _price(yes_price: Decimal) -> str:
    if not 0 < yes_price < 1:
        raise ValueError(f"a price of {yes_price} is outside 0 to 1")
    return _exact(yes_price, PRICE_STEP)


def _count(quantity: Decimal, *, least: Decimal = COUNT_STEP) -> str:
    if quantity < least:
        raise ValueError(f"a quantity of {quantity} is below {least}")
    return _exact(quantity, COUNT_STEP)


def _exact(value: Decimal, step: Decimal) -> str:
    """The value with the wire's decimals. Raises ValueError when it is finer than the step."""
    rounded = value.quantize(step)
    if rounded != value:
        raise ValueError(f"{value} is finer than {step}")
    return f"{rounded:f}"
