"""Judging what the exchange answers to an order write: a success counts only when it fits what was sent.

Functions here raise UnreadableAnswer (or msgspec's DecodeError) for a success that proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from trading.exchange import order_messages as messages
from trading.exchange import values
from trading.exchange.errors import ErrorAnswer, UnreadableAnswer, item_proves_refusal
from trading.exchange.outcomes import (
    Accepted,
    Amended,
    Canceled,
    CancelOutcome,
    Decreased,
    NotOpen,
    Refused,
    SubmitOutcome,
    Unknown,
)
from trading.exchange.transport import Answer

_NOT_OPEN = ("not_found", "order_not_found")


def accepted(sent: messages.NewOrder, answer: Answer) -> Accepted:
    """A create whose answer has an order id, our own id, and counts within what was sent."""
    told = msgspec.json.decode(answer.body, type=messages.CreatedOrder)
    return _accepted(sent, told)


def amended(order_id: str, sent: messages.AmendedTerms, answer: Answer) -> Amended:
    """An amend whose answer names the order, the id that it shall have now, and counts within the new total."""
    told = msgspec.json.decode(answer.body, type=messages.AmendedOrder)
    _require_same("order", order_id, told.order_id)
    wanted = sent.updated_client_order_id or sent.client_order_id
    if wanted and told.client_order_id:
        _require_same("client order", wanted, told.client_order_id)
    filled, remaining = _optional_count(told.fill_count), _optional_count(told.remaining_count)
    _require_within(sent.count, filled or Decimal(0), remaining or Decimal(0))
    return Amended(
        order_id=told.order_id,
        client_order_id=told.client_order_id,
        filled_quantity=filled,
        remaining_quantity=remaining,
        average_fill_price=values.optional_price(told.average_fill_price),
        average_fee=None if not told.average_fee_paid else values.number(told.average_fee_paid),
        at=values.from_millis(told.ts_ms),
    )


def decreased(order_id: str, reduce_to: Decimal | None, answer: Answer) -> Decreased:
    """A decrease whose answer names the order and leaves no more than was wanted."""
    told = msgspec.json.decode(answer.body, type=messages.DecreasedOrder)
    _require_same("order", order_id, told.order_id)
    remaining = values.count(told.remaining_count)
    if reduce_to is not None and remaining > reduce_to:
        raise UnreadableAnswer(f"{remaining} contracts remain where {reduce_to} were wanted")
    return Decreased(told.order_id, remaining, values.from_millis(told.ts_ms))


def canceled(order_id: str, answer: Answer) -> Canceled:
    told = msgspec.json.decode(answer.body, type=messages.CanceledOrder)
    _require_same("order", order_id, told.order_id)
    return Canceled(told.order_id, values.count(told.reduced_by), values.from_millis(told.ts_ms))


def accepted_items(sent: Sequence[messages.NewOrder], answer: Answer) -> tuple[SubmitOutcome, ...]:
    """One outcome for each order of a batch, in the order sent; what the answer does not account for is unknown."""
    told = msgspec.json.decode(answer.body, type=messages.CreatedItems).orders
    named = _by_name(told)
    # An item with an error may come without our id. Then its place tells which it is, if the places can be trusted.
    in_place = len(told) == len(sent) and all(
        not item.client_order_id or item.client_order_id == order.client_order_id
        for order, item in zip(sent, told, strict=True)
    )
    return tuple(
        _created_item(order, told[place] if in_place else named.get(order.client_order_id), answer.status)
        for place, order in enumerate(sent)
    )


def canceled_items(order_ids: Sequence[str], answer: Answer) -> tuple[CancelOutcome, ...]:
    """One outcome for each cancel of a batch, in the order sent; an order that the answer leaves out is unknown."""
    told = msgspec.json.decode(answer.body, type=messages.CanceledItems).orders
    named: dict[str, messages.CanceledItem] = {}
    twice = set()
    for item in told:
        twice |= {item.order_id} & named.keys()
        named[item.order_id] = item
    return tuple(
        _canceled_item(order_id, None if order_id in twice else named.get(order_id), answer.status)
        for order_id in order_ids
    )


def _accepted(sent: messages.NewOrder, told: messages.CreatedOrder) -> Accepted:
    if not told.order_id:
        raise UnreadableAnswer("it names no order")
    _require_same("client order", sent.client_order_id, told.client_order_id)
    filled, remaining = values.count(told.fill_count), values.count(told.remaining_count)
    _require_within(sent.count, filled, remaining)
    return Accepted(
        order_id=told.order_id,
        client_order_id=told.client_order_id,
        filled_quantity=filled,
        remaining_quantity=remaining,
        average_fill_price=values.optional_price(told.average_fill_price),
        average_fee=None if not told.average_fee_paid else values.number(told.average_fee_paid),
        at=values.from_millis(told.ts_ms),
    )


def _by_name(told: Sequence[messages.CreatedItem]) -> dict[str, messages.CreatedItem]:
    """The items by our id; an id that comes twice proves nothing and is left out."""
    named: dict[str, messages.CreatedItem] = {}
    twice = set()
    for item in told:
        if item.client_order_id:
            twice |= {item.client_order_id} & named.keys()
            named[item.client_order_id] = item
    return {name: item for name, item in named.items() if name not in twice}


def _created_item(sent: messages.NewOrder, item: messages.CreatedItem | None, status: int) -> SubmitOutcome:
    if item is None:
        return Unknown("the answer does not account for this order", status)
    if item.error is not None:
        # An order id beside an error: one of the two is wrong, and we do not know which.
        return _failed_item(item.error, status) if not item.order_id else _contradiction(item.error, status)
    try:
        # Through the strict type: a missing count is a missing count here too.
        return _accepted(sent, msgspec.convert(msgspec.to_builtins(item), messages.CreatedOrder))
    except (msgspec.ValidationError, UnreadableAnswer) as error:
        return Unknown(f"the success cannot be believed: {error}", status)


def _canceled_item(order_id: str, item: messages.CanceledItem | None, status: int) -> CancelOutcome:
    if item is None:
        return Unknown("the answer does not account for this order", status)
    if item.error is not None:
        if item.error.code.lower().startswith(_NOT_OPEN):
            return NotOpen(order_id)
        return _failed_item(item.error, status)
    try:
        at = None if item.ts_ms is None else values.from_millis(item.ts_ms)
        return Canceled(order_id, values.count(item.reduced_by), at)
    except UnreadableAnswer as error:
        return Unknown(f"the success cannot be believed: {error}", status)


def _failed_item(error: messages.ItemError, status: int) -> Refused | Unknown:
    told = ErrorAnswer(status, error.code, error.message, error.details)
    if item_proves_refusal(told):
        return Refused(status, error.code, error.message or error.details)
    return Unknown(str(told), status, error.code)


def _contradiction(error: messages.ItemError, status: int) -> Unknown:
    return Unknown(f"the answer names an order and an error: {error.code}", status, error.code)


def _optional_count(text: str | None) -> Decimal | None:
    return None if not text else values.count(text)


def _require_same(what: str, wanted: str, told: str) -> None:
    if told != wanted:
        raise UnreadableAnswer(f"it names another {what}: {told[:80]!r}")


def _require_within(sent: str, filled: Decimal, remaining: Decimal) -> None:
    if filled + remaining > Decimal(sent):
        raise UnreadableAnswer("it counts more contracts than were sent")
