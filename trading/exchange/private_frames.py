"""The wire's words of the private channels (API.md 14): our fills, orders, positions, order groups, and quotes.

Fills, orders and positions have no sequence and no replay: whoever follows them reconciles by REST.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trading.exchange.public_frames import Frame


class FillBody(msgspec.Struct):
    trade_id: str
    order_id: str
    market_ticker: str
    is_taker: bool
    outcome_side: str
    book_side: str
    yes_price_dollars: str
    count_fp: str
    fee_cost: str
    post_position_fp: str
    ts_ms: int
    client_order_id: str = ""
    exchange_index: int = 0
    subaccount: int | None = None


class Fill(Frame, tag="fill"):
    sid: int
    msg: FillBody
    sending_ts_ms: int = 0


class UserOrderBody(msgspec.Struct):
    order_id: str
    client_order_id: str
    ticker: str
    status: str
    outcome_side: str
    book_side: str
    yes_price_dollars: str
    initial_count_fp: str
    remaining_count_fp: str
    fill_count_fp: str
    taker_fill_cost_dollars: str
    maker_fill_cost_dollars: str
    taker_fees_dollars: str
    maker_fees_dollars: str
    created_ts_ms: int | None = None
    last_updated_ts_ms: int | None = None
    expiration_ts_ms: int | None = None
    last_update_reason: str = ""
    exchange_index: int = 0
    order_group_id: str | None = None
    subaccount_number: int | None = None


class UserOrder(Frame, tag="user_order"):
    sid: int
    msg: UserOrderBody
    sending_ts_ms: int = 0


class MarketPositionBody(msgspec.Struct):
    market_ticker: str
    position_fp: str
    position_cost_dollars: str
    realized_pnl_dollars: str
    fees_paid_dollars: str
    subaccount: int | None = None


class MarketPosition(Frame, tag="market_position"):
    sid: int
    msg: MarketPositionBody
    sending_ts_ms: int = 0


class OrderGroupBody(msgspec.Struct):
    """`contracts_limit_fp` comes with `created` and `limit_updated` only."""

    event_type: str
    order_group_id: str
    ts_ms: int
    contracts_limit_fp: str | None = None


class OrderGroupUpdate(Frame, tag="order_group_updates"):
    sid: int
    msg: OrderGroupBody
    seq: int = 0
    sending_ts_ms: int = 0


class Communication(Frame):
    """A message about requests for quotes. Nothing of ours depends on what it says: its content stays as it came."""

    sid: int
    msg: dict[str, Any]
    seq: int = 0
    sending_ts_ms: int = 0

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)


COMMUNICATIONS: Final = tuple(
    msgspec.defstruct(kind, [], bases=(Communication,), tag=kind)
    for kind in (
        "rfq_created",
        "rfq_deleted",
        "quote_created",
        "quote_accepted",
        "quote_executed",
        "rfq_batch_created",
        "rfq_batch_deleted",
        "batch_quote_created",
        "rfq_batch_best_quotes",
        "batch_quote_accepted",
        "rfq_batch_executed",
        "batch_quote_executed",
    )
)
