"""The wire's words of the public channels (API.md 14): books, prices, trades, the life of markets, indices.

Book and trade frames come by the thousand, so they are kept out of the garbage collector; prices and counts stay
strings until `stream_parsing` reads them.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from trading.exchange.messages import PriceRange, WireLevel


class Frame(msgspec.Struct, tag_field="type"):
    """Base of all frames. `sid` names the subscription, `seq` counts all frames of it, replies to commands included."""


class SnapshotBody(msgspec.Struct):
    """A side without orders has no key. It includes every change with a `clock` at or below its own, and none above."""

    market_ticker: str
    clock: int = 0
    yes_dollars_fp: list[WireLevel] = []
    no_dollars_fp: list[WireLevel] = []


class Snapshot(Frame, tag="orderbook_snapshot"):
    sid: int
    seq: int
    msg: SnapshotBody
    sending_ts_ms: int = 0


class DeltaBody(msgspec.Struct, gc=False):
    """Its times are read by `stamp_of`, of the last of many."""

    market_ticker: str
    price_dollars: str
    delta_fp: str
    side: Literal["yes", "no"]


class Delta(Frame, tag="orderbook_delta", gc=False):
    """Its `sending_ts_ms` is read by `frames.sent_ms`, of the last of many."""

    sid: int
    seq: int
    msg: DeltaBody


class _Stamp(msgspec.Struct):
    ts_ms: int = 0
    clock: int = 0


class _Stamped(msgspec.Struct):
    msg: _Stamp


_decode_stamped: Final = msgspec.json.Decoder(_Stamped).decode


def stamp_of(text: str | bytes) -> tuple[int | None, int]:
    """The exchange's time (Unix ms) and clock of a change; None and 0 where it does not say them in numbers."""
    try:
        stamp = _decode_stamped(text).msg
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, 0
    return stamp.ts_ms or None, stamp.clock


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


class LifecycleBody(msgspec.Struct):
    """Which fields come depends on `event_type` (API.md 14). `settlement_value` is dollars per YES contract."""

    event_type: str
    market_ticker: str
    exchange_index: int | None = None
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


class MultivariateLifecycle(Frame, tag="multivariate_market_lifecycle"):
    """The same of combos."""

    sid: int
    msg: LifecycleBody
    seq: int = 0
    sending_ts_ms: int = 0


class EventLifecycleBody(msgspec.Struct):
    event_ticker: str
    series_ticker: str
    title: str = ""
    collateral_return_type: str = ""
    exchange_index: int = 0


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


class AverageBody(msgspec.Struct):
    value: str
    window_size: int


class IndexValueBody(msgspec.Struct):
    """One value of a CF Benchmarks index: `data` is the benchmark's own frame, as text."""

    index_id: str
    received_at: int
    data: str
    avg_60s_data: AverageBody | None = None
    last_60s_windowed_average_15min: AverageBody | None = None


class IndexValue(Frame, tag="cfbenchmarks_value"):
    sid: int
    msg: IndexValueBody
    seq: int = 0
    sending_ts_ms: int = 0


class QuickIndexValueBody(msgspec.Struct):
    index_id: str
    value_usd: str
    source_ts_ms: int


class QuickIndexValue(Frame, tag="cfbenchmarks_value_5hz"):
    sid: int
    msg: QuickIndexValueBody
    seq: int = 0
    sending_ts_ms: int = 0


class IndexListBody(msgspec.Struct):
    index_ids: list[str]


class IndexList(Frame, tag="cfbenchmarks_value_indexlist"):
    sid: int
    msg: IndexListBody
    seq: int = 0
    id: int = 0
    sending_ts_ms: int = 0


class QuickIndexList(Frame, tag="cfbenchmarks_value_5hz_indexlist"):
    sid: int
    msg: IndexListBody
    seq: int = 0
    id: int = 0
    sending_ts_ms: int = 0


class PythValueBody(msgspec.Struct):
    """`value_usd` is in the underlying's own units: of a Treasury yield it is percent."""

    underlying_ticker: str
    value_usd: str
    source_ts_ms: int
    received_at: int


class PythValue(Frame, tag="pyth_value"):
    sid: int
    msg: PythValueBody
    seq: int = 0
    sending_ts_ms: int = 0


class UnderlyingListBody(msgspec.Struct):
    underlying_tickers: list[str]


class UnderlyingList(Frame, tag="pyth_value_underlying_list"):
    sid: int
    msg: UnderlyingListBody
    seq: int = 0
    id: int = 0
    sending_ts_ms: int = 0
