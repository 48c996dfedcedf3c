"""The wire's own words over the websocket (API.md 14): frames in, commands out.

One tagged union on `type`. Book and trade frames come by the thousand, so they are kept out of the garbage collector;
prices and counts stay strings until `events` are made of them.
"""

from __future__ import annotations

from typing import Any, Final, get_args

import msgspec

from trading.exchange.messages import PriceRange, WireLevel


class Frame(msgspec.Struct, tag_field="type"):
    """Base of all frames. `sid` names the subscription, `seq` counts all frames of it, replies to commands included."""


class SubscribedBody(msgspec.Struct):
    channel: str
    sid: int


class Subscribed(Frame, tag="subscribed"):
    msg: SubscribedBody
    id: int = 0


class Unsubscribed(Frame, tag="unsubscribed"):
    sid: int
    seq: int = 0
    id: int = 0


class Ok(Frame, tag="ok"):
    """The reply to an update; the reply to `list_subscriptions` carries a list and no `sid`."""

    sid: int = 0
    seq: int = 0
    id: int = 0
    msg: Any = None


class ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


class Error(Frame, tag="error"):
    msg: ErrorBody
    sid: int = 0
    seq: int = 0
    id: int = 0


class SnapshotBody(msgspec.Struct):
    """A side without orders has no key."""

    market_ticker: str
    yes_dollars_fp: list[WireLevel] = []
    no_dollars_fp: list[WireLevel] = []


class Snapshot(Frame, tag="orderbook_snapshot"):
    sid: int
    seq: int
    msg: SnapshotBody
    sending_ts_ms: int = 0


class DeltaBody(msgspec.Struct, gc=False):
    market_ticker: str
    price_dollars: str
    delta_fp: str
    side: str
    ts_ms: int = 0


class Delta(Frame, tag="orderbook_delta", gc=False):
    sid: int
    seq: int
    msg: DeltaBody
    sending_ts_ms: int = 0


class TickerBody(msgspec.Struct, gc=False):
    market_ticker: str
    price_dollars: str
    yes_bid_dollars: str
    yes_ask_dollars: str
    yes_bid_size_fp: str
    yes_ask_size_fp: str
    volume_fp: str
    open_interest_fp: str
    ts_ms: int


class Ticker(Frame, tag="ticker", gc=False):
    sid: int
    msg: TickerBody
    sending_ts_ms: int = 0


class TradeBody(msgspec.Struct, gc=False):
    trade_id: str
    market_ticker: str
    yes_price_dollars: str
    count_fp: str
    taker_outcome_side: str
    ts_ms: int
    is_block_trade: bool = False


class Trade(Frame, tag="trade", gc=False):
    sid: int
    msg: TradeBody
    seq: int = 0
    sending_ts_ms: int = 0


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


class MarketPosition(Frame, tag="market_position"):
    sid: int
    msg: MarketPositionBody
    sending_ts_ms: int = 0


class LifecycleBody(msgspec.Struct):
    """Which fields come depends on `event_type` (API.md 14). `settlement_value` is dollars per YES contract."""

    event_type: str
    market_ticker: str
    open_ts: int | None = None
    close_ts: int | None = None
    determination_ts: int | None = None
    settled_ts: int | None = None
    result: str | None = None
    settlement_value: str | None = None
    is_deactivated: bool | None = None
    price_ranges: list[PriceRange] | None = None


class Lifecycle(Frame, tag="market_lifecycle_v2"):
    sid: int
    msg: LifecycleBody
    seq: int = 0
    sending_ts_ms: int = 0


class EventLifecycleBody(msgspec.Struct):
    event_ticker: str
    series_ticker: str
    title: str = ""


class EventLifecycle(Frame, tag="event_lifecycle"):
    sid: int
    msg: EventLifecycleBody
    seq: int = 0
    sending_ts_ms: int = 0


class EventFeeBody(msgspec.Struct):
    event_ticker: str


class EventFee(Frame, tag="event_fee_update"):
    """The new fees are read again by REST, so that there is one way by which fees enter."""

    sid: int
    msg: EventFeeBody
    seq: int = 0
    sending_ts_ms: int = 0


class Envelope(msgspec.Struct):
    """What every frame has, for frames whose content we cannot read."""

    type: str
    sid: int = 0
    seq: int = 0


AnyFrame = (
    Subscribed
    | Unsubscribed
    | Ok
    | Error
    | Snapshot
    | Delta
    | Ticker
    | Trade
    | Fill
    | UserOrder
    | MarketPosition
    | Lifecycle
    | EventLifecycle
    | EventFee
)
KNOWN_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyFrame))
decode: Final = msgspec.json.Decoder(AnyFrame).decode
decode_envelope: Final = msgspec.json.Decoder(Envelope).decode


class Command(msgspec.Struct):
    """A command; `id` is unique in its session and at least 1."""

    id: int
    cmd: str
    params: dict[str, Any]
