"""Which of an account's records a query asks for: the same filters for the live tier and the historical one (API.md 11,
12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from trading.paper.accounts import ApiKey
from trading.paper.auth import require_subaccount
from trading.paper.paging import listed, whole, within, word
from trading.paper.positions import Position
from trading.paper.records import FillRecord, OrderRecord, SettlementRecord
from trading.paper.refusals import bare

ORDER_STATUSES = ("resting", "canceled", "executed")
COUNT_FILTERS = frozenset({"position", "total_traded"})

Query = Mapping[str, str]


class Placed(Protocol):
    """Whatever belongs to one subaccount on one shard."""

    @property
    def subaccount(self) -> int: ...

    @property
    def exchange_index(self) -> int: ...


def orders_asked(query: Query, key: ApiKey) -> Callable[[OrderRecord], bool]:
    """By market, event, state, time of creation and place. Raises Refused."""
    status, ticker = word(query, "status", ORDER_STATUSES), query.get("ticker")
    events = listed(query, "event_ticker")
    fits, is_here = within(query, "min_ts", "max_ts"), place(query, key)
    return lambda order: (
        (status is None or order.status == status)
        and (not ticker or order.ticker == ticker)
        and (events is None or order.event_ticker in events)
        and fits(order.created_ms // 1000)
        and is_here(order)
    )


def fills_asked(query: Query, key: ApiKey) -> Callable[[FillRecord], bool]:
    """By markets, order, time and place. Raises Refused."""
    tickers, order_id = listed(query, "ticker"), query.get("order_id")
    fits, is_here = within(query, "min_ts", "max_ts"), place(query, key)
    return lambda fill: (
        (tickers is None or fill.ticker in tickers)
        and (not order_id or fill.order_id == order_id)
        and fits(fill.at_ms // 1000)
        and is_here(fill)
    )


def settlements_asked(query: Query, key: ApiKey) -> Callable[[SettlementRecord], bool]:
    """By market, event, time and place. Raises Refused."""
    ticker, event = query.get("ticker"), query.get("event_ticker")
    fits, is_here = within(query, "min_ts", "max_ts"), place(query, key)
    return lambda item: (
        (not ticker or item.ticker == ticker)
        and (not event or item.event_ticker == event)
        and fits(item.at_ms // 1000)
        and is_here(item)
    )


def positions_asked(query: Query, key: ApiKey) -> Callable[[Position], bool]:
    """By market, event, what of them is not zero, and place. Raises Refused."""
    ticker, event = query.get("ticker"), query.get("event_ticker")
    counts, is_here = listed(query, "count_filter") or frozenset(), place(query, key, usual=0)
    if not counts <= COUNT_FILTERS:
        raise bare("count_filter takes position and total_traded")
    return lambda position: (
        (not ticker or position.ticker == ticker)
        and (not event or position.event_ticker == event)
        and (
            not counts
            or ("position" in counts and position.lots != 0)
            or ("total_traded" in counts and position.traded != 0)
        )
        and is_here(position)
    )


def place(query: Query, key: ApiKey, *, usual: int | None = None) -> Callable[[Placed], bool]:
    """A test whether a record belongs to the subaccount and shard that are asked for. An omitted shard means all; an
    omitted subaccount means all for orders, fills and settlements, but the primary one (`usual`) for positions. Raises
    Refused."""
    subaccount = require_subaccount(key, whole(query, "subaccount"))
    shard = whole(query, "exchange_index")
    wanted = usual if subaccount is None else subaccount
    return lambda record: (
        (wanted is None or record.subaccount == wanted) and (shard is None or record.exchange_index == shard)
    )
