"""Quotes out: rows once a second, ticks to the pages up to four times a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from kalshi_site import prepared
from trading.domain.prices import complement
from trading.market_data.hub import Activity, Touch
from trading.models import Market, Quote

_WRITTEN = [
    "yes_bid",
    "yes_ask",
    "yes_bid_quantity",
    "yes_ask_quantity",
    "levels",
    "trusted",
    "as_of",
    "verified_at",
]


def write_quotes(touches: Iterable[Touch], proven_at: datetime | None) -> None:
    """Write changed quotes and, in the same transaction, prove all trusted ones current up to `proven_at`.

    An untrusted quote has no prices and no proof. Without a connection (`proven_at` None) nothing is proven.
    """
    # Made before the transaction begins: SQLite lets nobody else write while it lasts, and claims must not wait.
    rows = [_row(touch, proven_at) for touch in touches]
    known = Market.objects.filter(ticker__in=[row.market_id for row in rows])
    tickers = set(known.values_list("ticker", flat=True))
    writable = [row for row in rows if row.market_id in tickers]
    with transaction.atomic():
        Quote.objects.bulk_create(
            writable, update_conflicts=True, unique_fields=["market"], update_fields=_WRITTEN
        )
        if proven_at is not None:
            Quote.objects.filter(trusted=True).update(verified_at=proven_at)


def distrust_all() -> None:
    """No quote left by an earlier feed may look fresh: its books are gone."""
    Quote.objects.filter(trusted=True).update(trusted=False)


def write_activity(activity: Mapping[str, Activity]) -> None:
    """Write last price, volume and open interest of the markets that traded."""
    with transaction.atomic():
        for ticker, told in activity.items():
            prepared.update(Market, where={"ticker": ticker}, changes=asdict(told))


def tick_batch(touches: Iterable[Touch], now_ms: int) -> dict[str, Any]:
    """One message for the topic `quotes`: per market the four best prices as text, None where a side is empty."""
    return {"quotes": [_tick(touch, now_ms) for touch in touches]}


def _tick(touch: Touch, now_ms: int) -> dict[str, Any]:
    bid, ask = touch.top.yes_bid, touch.top.yes_ask
    return {
        "ticker": touch.ticker,
        "yes_bid": _text(bid),
        "yes_ask": _text(ask),
        "no_bid": None if ask is None else _text(complement(ask)),
        "no_ask": None if bid is None else _text(complement(bid)),
        "ts": now_ms,
    }


def _text(price: Decimal | None) -> str | None:
    return None if price is None else f"{price:.4f}"


def _row(touch: Touch, proven_at: datetime | None) -> Quote:
    return Quote(
        market_id=touch.ticker,
        yes_bid=touch.top.yes_bid,
        yes_ask=touch.top.yes_ask,
        yes_bid_quantity=touch.top.yes_bid_quantity,
        yes_ask_quantity=touch.top.yes_ask_quantity,
        levels={"bids": [list(level) for level in touch.bids], "asks": [list(level) for level in touch.asks]},
        trusted=touch.is_trusted,
        as_of=(touch.top.as_of or proven_at) if touch.is_trusted else None,
        verified_at=proven_at if touch.is_trusted else None,
    )
