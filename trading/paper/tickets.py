"""The create request (API.md 11): its JSON body read strictly, with the refusals of the real exchange."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from trading.domain.matching import LOTS_PER_CONTRACT, Lots, SelfTrade, Ticks, to_lots, to_ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.refusals import bad_request, flat, invalid_order, nested

PRICE_TEXT = re.compile(r"\d{1,3}\.\d{2,4}|\d{1,3}(\.\d)?", re.ASCII)
COUNT_TEXT = re.compile(r"\d{1,9}(\.\d{1,2})?", re.ASCII)
LARGEST_LOTS = 1_000_000_000 * LOTS_PER_CONTRACT
Subaccount = Annotated[int, msgspec.Meta(ge=0, le=63)]
Shard = Annotated[int, msgspec.Meta(ge=-1)]
LATEST_SECOND = 253_402_300_799  # the end of the year 9999: no later time can be written in an answer
Expiry = Annotated[int, msgspec.Meta(le=LATEST_SECOND)]  # Unix seconds
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
    expiration_time: Expiry | None = None
    post_only: bool = False
    reduce_only: bool = False
    cancel_order_on_pause: bool = False
    subaccount: Subaccount | None = None  # None: the primary one
    order_group_id: str | None = None
    exchange_index: Shard | None = None  # -1 or None: by ticker

    @property
    def self_trade(self) -> SelfTrade:
        return SelfTrade(self.self_trade_prevention_type)

    @property
    def price_ticks(self) -> Ticks:
        """Raises Refused (`invalid_price`)."""
        return ticks_of(self.price)

    @property
    def count_lots(self) -> Lots:
        """Raises Refused (`invalid_order_size`)."""
        return lots_of(self.count)


@lru_cache(4096)  # there are few prices, and each comes again and again
def ticks_of(price: str) -> Ticks:
    """A price of a request, on the YES scale. Raises Refused (`invalid_price`)."""
    if not PRICE_TEXT.fullmatch(price):
        raise nested(400, "invalid_price", "invalid price", f"{price!r} is no price")
    return to_ticks(price)


def lots_of(count: str, *, least: Lots = 1) -> Lots:
    """A count of a request. Raises Refused (`invalid_order_size`)."""
    lots = to_lots(count) if COUNT_TEXT.fullmatch(count) else -1
    if not least <= lots <= LARGEST_LOTS:
        raise nested(400, "invalid_order_size", "invalid order size", f"{count!r} is no order size")
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
