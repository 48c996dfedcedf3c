"""From frames to events. Raises UnreadableAnswer (E606) on whatever cannot be a true value."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from trading.domain.markets import TopOfBook
from trading.domain.orders import Side
from trading.exchange import events, reports, values
from trading.exchange import private_frames as private
from trading.exchange import public_frames as public
from trading.exchange.errors import UnreadableAnswer


def snapshot(told: public.Snapshot, *, use_yes_price: bool) -> events.BookSnapshot:
    body = told.msg
    return events.BookSnapshot(
        body.market_ticker,
        values.levels(body.yes_dollars_fp, Side.YES),
        values.levels(body.no_dollars_fp, Side.NO, use_yes_price=use_yes_price),
        told.sending_ts_ms or None,
        body.clock,
    )


def ticker(told: public.Ticker) -> events.TickerUpdate:
    body = told.msg
    bid, ask = values.quoted(body.yes_bid_dollars), values.quoted(body.yes_ask_dollars)
    return events.TickerUpdate(
        ticker=body.market_ticker,
        quote=TopOfBook(
            yes_bid=bid,
            yes_ask=ask,
            yes_bid_quantity=Decimal(0) if bid is None else values.count(body.yes_bid_size_fp),
            yes_ask_quantity=Decimal(0) if ask is None else values.count(body.yes_ask_size_fp),
            as_of=values.from_millis(body.ts_ms),
        ),
        last_price=values.quoted(body.price_dollars),
        volume=values.count(body.volume_fp),
        open_interest=values.count(body.open_interest_fp),
        at_ms=body.ts_ms,
    )


def trade(told: public.Trade) -> events.TradePrint:
    body = told.msg
    report = reports.PublicTrade(
        trade_id=body.trade_id,
        ticker=body.market_ticker,
        price=values.price(body.yes_price_dollars),
        quantity=values.count(body.count_fp),
        taker_side=values.word(Side, body.taker_outcome_side),
        at=values.from_millis(body.ts_ms),
        is_block_trade=body.is_block_trade,
    )
    return events.TradePrint(report, body.ts_ms)


def fill(told: private.Fill) -> events.OwnFill:
    body = told.msg
    report = reports.FillReport(
        trade_id=body.trade_id,
        order_id=body.order_id,
        ticker=body.market_ticker,
        book_side=values.direction(body.book_side, body.outcome_side),
        price=values.price(body.yes_price_dollars),
        quantity=values.count(body.count_fp),
        fee=values.number(body.fee_cost),
        is_taker=body.is_taker,
        at=values.from_millis(body.ts_ms),
        exchange_index=body.exchange_index,
        subaccount=body.subaccount,
        client_order_id=body.client_order_id,
        position_after=values.number(body.post_position_fp),
    )
    return events.OwnFill(report, body.ts_ms)


def user_order(told: private.UserOrder) -> events.OwnOrder:
    body = told.msg
    filled, initial = values.count(body.fill_count_fp), values.count(body.initial_count_fp)
    updated = body.last_updated_ts_ms or told.sending_ts_ms or None
    report = reports.OrderReport(
        order_id=body.order_id,
        client_order_id=body.client_order_id,
        ticker=body.ticker,
        book_side=values.direction(body.book_side, body.outcome_side),
        state=values.order_state(body.status, filled, initial),
        price=values.price(body.yes_price_dollars),
        initial_quantity=initial,
        filled_quantity=filled,
        remaining_quantity=values.count(body.remaining_count_fp),
        fill_cost=values.number(body.taker_fill_cost_dollars) + values.number(body.maker_fill_cost_dollars),
        fees=values.number(body.taker_fees_dollars) + values.number(body.maker_fees_dollars),
        created_at=None if body.created_ts_ms is None else values.from_millis(body.created_ts_ms),
        updated_at=None if updated is None else values.from_millis(updated),
        expires_at=None if not body.expiration_ts_ms else values.from_millis(body.expiration_ts_ms),
        exchange_index=body.exchange_index,
        reason=body.last_update_reason,
    )
    return events.OwnOrder(report, updated)


def position(told: private.MarketPosition) -> events.OwnPosition:
    body = told.msg
    return events.OwnPosition(
        ticker=body.market_ticker,
        quantity=values.number(body.position_fp),
        cost=values.number(body.position_cost_dollars),
        realized_pnl=values.number(body.realized_pnl_dollars),
        fees_paid=values.number(body.fees_paid_dollars),
        at_ms=told.sending_ts_ms or None,
    )


def order_group(told: private.OrderGroupUpdate) -> events.OrderGroupChange:
    body = told.msg
    limit = body.contracts_limit_fp
    return events.OrderGroupChange(
        body.event_type, body.order_group_id, None if limit is None else values.count(limit), body.ts_ms
    )


def quote_talk(told: private.Communication) -> events.QuoteTalk:
    return events.QuoteTalk(told.kind, told.msg)


def lifecycle(told: public.Lifecycle | public.MultivariateLifecycle) -> events.LifecycleChange:
    body = told.msg
    ranges = body.price_ranges
    return events.LifecycleChange(
        kind=body.event_type,
        ticker=body.market_ticker,
        open_at=None if not body.open_ts else values.from_seconds(body.open_ts),
        close_at=None if not body.close_ts else values.from_seconds(body.close_ts),
        result=values.result(body.result) if body.result else None,
        settlement_value=values.optional_price(body.settlement_value),
        price_ranges=None
        if ranges is None
        else tuple({"start": r.start, "end": r.end, "step": r.step} for r in ranges),
        at_ms=told.sending_ts_ms or None,
        is_combo=isinstance(told, public.MultivariateLifecycle),
    )


def event_opened(told: public.EventLifecycle) -> events.EventOpened:
    return events.EventOpened(told.msg.event_ticker, told.msg.series_ticker)


def fees_changed(told: public.EventFee) -> events.FeesChanged:
    return events.FeesChanged(told.msg.event_ticker)


class _Benchmark(msgspec.Struct):
    """CF Benchmarks' own frame, which the slow channel passes on as text."""

    value: str
    time: int


def index_value(told: public.IndexValue) -> events.IndexValue:
    body = told.msg
    try:
        own = msgspec.json.decode(body.data, type=_Benchmark)
    except msgspec.DecodeError as error:
        raise UnreadableAnswer(f"unreadable value of {body.index_id}: {error}") from error
    average, closing = body.avg_60s_data, body.last_60s_windowed_average_15min
    return events.IndexValue(
        "cfbenchmarks_value",
        body.index_id,
        values.reading(own.value),
        own.time,
        None if average is None else values.reading(average.value),
        None if closing is None else values.reading(closing.value),
    )


def quick_index_value(told: public.QuickIndexValue) -> events.IndexValue:
    body = told.msg
    return events.IndexValue(
        "cfbenchmarks_value_5hz", body.index_id, values.reading(body.value_usd), body.source_ts_ms
    )


def pyth_value(told: public.PythValue) -> events.IndexValue:
    body = told.msg
    return events.IndexValue(
        "pyth_value", body.underlying_ticker, values.reading(body.value_usd), body.source_ts_ms
    )


def index_names(told: public.IndexList | public.QuickIndexList) -> events.IndexNames:
    channel = str(told.__struct_config__.tag).removesuffix("_indexlist")
    return events.IndexNames(channel, tuple(told.msg.index_ids))


def underlyings(told: public.UnderlyingList) -> events.IndexNames:
    return events.IndexNames("pyth_value", tuple(told.msg.underlying_tickers))


# The frames that become one event each and need nothing but themselves.
PLAIN: Final[dict[type, Callable[[Any], events.StreamEvent]]] = {
    public.Ticker: ticker,
    public.Trade: trade,
    public.Lifecycle: lifecycle,
    public.MultivariateLifecycle: lifecycle,
    public.EventLifecycle: event_opened,
    public.EventFee: fees_changed,
    public.IndexValue: index_value,
    public.QuickIndexValue: quick_index_value,
    public.PythValue: pyth_value,
    public.IndexList: index_names,
    public.QuickIndexList: index_names,
    public.UnderlyingList: underlyings,
    private.Fill: fill,
    private.UserOrder: user_order,
    private.MarketPosition: position,
    private.OrderGroupUpdate: order_group,
    **dict.fromkeys(private.COMMUNICATIONS, quote_talk),
}
