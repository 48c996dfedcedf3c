"""The order endpoints (API.md 11), the only place from which an order can go out. Only `trading.execution` imports it.

Nothing here is ever repeated. A create has two steps, so that the bytes can be stored and hashed before the commit
that allows the send: `create_body`, then `send_create`, which returns what is proven (RELIABILITY.md 3.1, step 4):

    Accepted   201 with an order id, our own id echoed, counts within what was sent
    Refused    a 4xx whose code is on the allow-list of proven refusals (`errors.PROVEN_REFUSALS`)
    NotSent    no connection, or too late: no byte was written
    Unknown    everything else
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec

from trading.domain.orders import BookSide, TimeInForce
from trading.domain.prices import COUNT_STEP, PRICE_STEP
from trading.exchange import account_messages as messages
from trading.exchange import values
from trading.exchange.auth import Signer
from trading.exchange.errors import ExchangeError, Unreachable, UnreadableAnswer, proves_refusal, read_error
from trading.exchange.outcomes import (
    Accepted,
    AllCanceled,
    CancelAllOutcome,
    Canceled,
    CancelOutcome,
    NotOpen,
    NotSent,
    Refused,
    SubmitOutcome,
    Unknown,
)
from trading.exchange.transport import Answer, WriteLine, wall_clock_ms

ORDERS: Final = "/portfolio/events/orders"
STOP_AT_OWN_ORDER: Final = "taker_at_cross"
_SUCCESS: Final = (HTTPStatus.OK, HTTPStatus.CREATED)


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
) -> bytes:
    """The exact bytes of a create: store them and their hash before sending them.

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
    if not 0 < yes_price < 1:
        raise ValueError(f"a price of {yes_price} is outside 0 to 1")
    if quantity <= 0:
        raise ValueError(f"a quantity of {quantity} is not above zero")
    order = messages.NewOrder(
        ticker=ticker,
        client_order_id=client_order_id,
        side=book_side.value,
        count=_exact(quantity, COUNT_STEP),
        price=_exact(yes_price, PRICE_STEP),
        time_in_force=time_in_force.value,
        self_trade_prevention_type=STOP_AT_OWN_ORDER,
        expiration_time=None if expires_at is None else int(expires_at.timestamp()),
        post_only=post_only,
        reduce_only=reduce_only,
        cancel_order_on_pause=cancel_on_pause,
        exchange_index=exchange_index,
    )
    return msgspec.json.encode(order)


class Orders:
    """Creates and cancels, each kind on a connection of its own: a way out never waits behind a slow create."""

    def __init__(self, creates: WriteLine, cancels: WriteLine) -> None:
        self._creates = creates
        self._cancels = cancels

    def send_create(
        self, body: bytes, signed_ts_ms: int, *, send_before: float | None = None
    ) -> SubmitOutcome:
        """Send a body of `create_body` once. Never raises for what the exchange or the network does.

        `signed_ts_ms` was fixed at the claim: the exchange refuses a late one, so a frozen sender can do no harm.
        `send_before` (`time.monotonic()`) is our own limit for the first byte.
        """
        sent = msgspec.json.decode(body, type=messages.NewOrder)
        try:
            answer = self._creates.send(
                "POST", ORDERS, signed_ts_ms=signed_ts_ms, body=body, send_before=send_before
            )
        except Unreachable as error:
            return NotSent(str(error))
        except ExchangeError as error:
            return Unknown(str(error))
        if answer.status in _SUCCESS:
            return _accepted(sent, answer)
        return _failed(answer)

    def cancel(self, order_id: str, *, market_ticker: str, signed_ts_ms: int | None = None) -> CancelOutcome:
        """Cancel one order by the exchange's id; repeating it is safe. The ticker routes it to the market's shard."""
        resource = f"{ORDERS}/{quote(order_id, safe='')}"
        signed = wall_clock_ms() if signed_ts_ms is None else signed_ts_ms
        try:
            answer = self._cancels.send(
                "DELETE", resource, signed_ts_ms=signed, parameters={"market_ticker": market_ticker}
            )
        except Unreachable as error:
            return NotSent(str(error))
        except ExchangeError as error:
            return Unknown(str(error))
        if answer.status == HTTPStatus.OK:
            return _canceled(order_id, answer)
        if answer.status == HTTPStatus.NOT_FOUND and read_error(answer.status, answer.body).exchange_code:
            return NotOpen(order_id)
        return _failed(answer)

    def cancel_all(self, *, signed_ts_ms: int | None = None) -> CancelAllOutcome:
        """Cancel everything on all shards, the last resort: orders of the next minute may be canceled too."""
        signed = wall_clock_ms() if signed_ts_ms is None else signed_ts_ms
        try:
            answer = self._cancels.send("DELETE", ORDERS, signed_ts_ms=signed)
        except Unreachable as error:
            return NotSent(str(error))
        except ExchangeError as error:
            return Unknown(str(error))
        if answer.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            return AllCanceled()
        return _failed(answer)

    def warm(self) -> bool:
        """Make both connections beforehand. False when one cannot be made."""
        return all([self._creates.warm(), self._cancels.warm()])

    def close(self) -> None:
        """Close both connections."""
        self._creates.close()
        self._cancels.close()


def open_orders(rest_url: str, signer: Signer) -> Orders:
    """The order endpoints for a key with scope `write::trade`."""
    return Orders(WriteLine(rest_url, signer), WriteLine(rest_url, signer))


def _accepted(sent: messages.NewOrder, answer: Answer) -> SubmitOutcome:
    """Accepted when the echo fits what was sent; a success that does not fit proves nothing."""
    try:
        told = msgspec.json.decode(answer.body, type=messages.CreatedOrder)
        outcome = Accepted(
            order_id=told.order_id,
            client_order_id=told.client_order_id,
            filled_quantity=values.count(told.fill_count),
            remaining_quantity=values.count(told.remaining_count),
            average_fill_price=values.optional_price(told.average_fill_price),
            average_fee=None if not told.average_fee_paid else values.number(told.average_fee_paid),
            at=values.from_millis(told.ts_ms),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, UnreadableAnswer) as error:
        return Unknown(f"the success cannot be read: {error}", answer.status)
    if not told.order_id:
        return Unknown("the success names no order", answer.status)
    if told.client_order_id != sent.client_order_id:
        return Unknown(f"the success names another order: {told.client_order_id!r}", answer.status)
    if outcome.filled_quantity + outcome.remaining_quantity > Decimal(sent.count):
        return Unknown("the success counts more contracts than were sent", answer.status)
    return outcome


def _canceled(order_id: str, answer: Answer) -> CancelOutcome:
    try:
        told = msgspec.json.decode(answer.body, type=messages.CanceledOrder)
        outcome = Canceled(told.order_id, values.count(told.reduced_by), values.from_millis(told.ts_ms))
    except (msgspec.DecodeError, UnicodeDecodeError, UnreadableAnswer) as error:
        return Unknown(f"the success cannot be read: {error}", answer.status)
    if outcome.order_id != order_id:
        return Unknown(f"the success names another order: {outcome.order_id!r}", answer.status)
    return outcome


def _failed(answer: Answer) -> Refused | Unknown:
    error = read_error(answer.status, answer.body)
    if proves_refusal(error):
        return Refused(error.status, error.exchange_code, error.message or error.details)
    return Unknown(str(error), error.status, error.exchange_code)


def _exact(value: Decimal, step: Decimal) -> str:
    """The value with the wire's decimals. Raises ValueError when it is finer than the step."""
    rounded = value.quantize(step)
    if rounded != value:
        raise ValueError(f"{value} is finer than {step}")
    return f"{rounded:f}"
