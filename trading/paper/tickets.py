"""The create request (API.md 11): its JSON body read strictly, with the refusals of the real exchange."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from trading.domain.matching import LOTS_PER_CONTRACT, Lots, SelfTrade, Ticks, to_lots, to_ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.refusals import Refused, bad_request, flat, invalid_order, nested

PRICE_TEXT = re.compile(r"\d{1,3}\.\d{2,4}|\d{1,3}(\.\d)?")
COUNT_TEXT = re.compile(r"\d{1,9}(\.\d{1,2})?")
LARGEST_LOTS = 1_000_000_000 * LOTS_PER_CONTRACT
ClientOrderId = Annotated[str, msgspec.Meta(max_length=64)]


class Ticket(msgspec.Struct, frozen=True):
    """The body of `POST /portfolio/events/orders`. Unknown fields are ignored, JSON numbers for prices are not."""

    ticker: str
    side: BookSide
    count: str
    price: str
    time_in_force: TimeInForce
    self_trade_prevention_type: Literal["taker_at_cross", "maker"]
    client_order_id: ClientOrderId = ""
    expiration_time: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    cancel_order_on_pause: bool = False
    subaccount: int = 0
    order_group_id: str | None = None
    exchange_index: int | None = None

    @property
    def self_trade(self) -> SelfTrade:
        return SelfTrade(self.self_trade_prevention_type)

    @property
    def price_ticks(self) -> Ticks:
        """Raises Refused (`invalid_price`)."""
        if not PRICE_TEXT.fullmatch(self.price):
            raise nested(400, "invalid_price", "invalid price", f"{self.price!r} is no price")
        return to_ticks(self.price)

    @property
    def count_lots(self) -> Lots:
        """Raises Refused (`invalid_order_size`)."""
        lots = to_lots(self.count) if COUNT_TEXT.fullmatch(self.count) else 0
        if not 0 < lots <= LARGEST_LOTS:
            raise nested(400, "invalid_order_size", "invalid order size", f"{self.count!r} is no order size")
        return lots


_decoder = msgspec.json.Decoder(Ticket)


def read_ticket(body: bytes) -> Ticket:
    """Decode a create body. Raises Refused: flat for what is no JSON, `bad_request` for wrong types."""
    try:
        ticket = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise bad_request(str(error)) from error
    except msgspec.DecodeError as error:
        raise flat(400, "invalid_json", "the body is not valid JSON", str(error)) from error
    if not ticket.ticker:
        raise bad_request("ticker is required")
    refusal = _unoffered(ticket)
    if refusal is not None:
        raise refusal
    return ticket


def require_combination(ticket: Ticket, now_ms: int) -> None:
    """Refuse fields that do not go together. Raises Refused (`invalid_order`)."""
    good_till_canceled = ticket.time_in_force is TimeInForce.GTC
    if ticket.expiration_time is not None:
        if not good_till_canceled:
            raise invalid_order("expiration_time needs good_till_canceled")
        if ticket.expiration_time * 1000 <= now_ms:
            raise invalid_order("expiration_time is in the past")
    if ticket.post_only and not good_till_canceled:
        raise invalid_order("post_only needs good_till_canceled")
    if ticket.reduce_only and ticket.time_in_force is not TimeInForce.IOC:
        raise invalid_order("reduce_only needs immediate_or_cancel")


def _unoffered(ticket: Ticket) -> Refused | None:
    """The paper exchange has one subaccount, one shard and no order groups."""
    if ticket.subaccount != 0:
        return bad_request("this exchange has the primary subaccount only")
    if ticket.exchange_index not in {None, -1, 0}:
        return bad_request("this exchange has shard 0 only")
    if ticket.order_group_id:
        return nested(404, "not_found", "order group not found")
    return None
