"""Definitions of series, events and markets: what the exchange's payloads need and a world may leave out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from trading.domain.fees import FeeSchedule, FeeType
from trading.paper.wire import rfc3339

Definition = Mapping[str, Any]
Payload = dict[str, Any]

PRIMARY_SHARD = 0

_SERIES: Payload = {
    "frequency": "custom",
    "category": "",
    "tags": [],
    "settlement_sources": [],
    "contract_url": "",
    "contract_terms_url": "",
    "fee_type": FeeType.QUADRATIC.value,
    "fee_multiplier": 1,
    "additional_prohibitions": [],
}
_EVENT: Payload = {
    "sub_title": "",
    "collateral_return_type": "",
    "mutually_exclusive": False,
    "settlement_sources": [],
}
_MARKET: Payload = {
    "market_type": "binary",
    "yes_sub_title": "",
    "no_sub_title": "",
    "settlement_timer_seconds": 1,
    "can_close_early": True,
    "notional_value_dollars": "1.0000",
    "settlement_bounds_type": "default",
    "expiration_value": "",
    "rules_primary": "",
    "rules_secondary": "",
    "price_level_structure": "linear_cent",
    "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
}


# Fields of a market payload that the engine owns. A recorded definition carries the final ones: they must not leak.
LIVE_FIELDS = frozenset(
    """
    status result expiration_value settlement_value_dollars settlement_ts updated_time
    yes_bid_dollars yes_bid_size_fp yes_ask_dollars yes_ask_size_fp no_bid_dollars no_ask_dollars
    last_price_dollars previous_yes_bid_dollars previous_yes_ask_dollars previous_price_dollars
    volume_fp volume_24h_fp open_interest_fp liquidity_dollars
    """.split()
)


class IllegalDefinition(ValueError):
    """A definition lacks what cannot be invented (its ticker, its times, its parent) or contradicts itself."""


def whole_series(given: Definition, shard: int = PRIMARY_SHARD) -> Payload:
    """A series payload with every required field of the current contract."""
    ticker = _required(given, "ticker")
    series = {**_SERIES, "title": ticker, **given, "exchange_index": shard}
    series.setdefault("categories", [series["category"]] if series["category"] else [])
    return series


def whole_event(given: Definition, shard: int = PRIMARY_SHARD) -> Payload:
    """An event payload; nested markets are left out, they are listed on their own."""
    ticker = _required(given, "event_ticker")
    _required(given, "series_ticker")
    event = {**_EVENT, "title": ticker, **given, "exchange_index": shard}
    # At most one market of a MECNET event resolves YES, and of no other kind (openapi.yaml, EventData).
    event["collateral_return_type"] = given.get("collateral_return_type") or (
        "MECNET" if given.get("mutually_exclusive") else ""
    )
    event["mutually_exclusive"] = event["collateral_return_type"] == "MECNET"
    event.pop("markets", None)
    event.pop("available_on_brokers", None)  # recorded before it was removed (API.md 1, 2026-09-10)
    return event


def whole_market(given: Definition, now: datetime, shard: int = PRIMARY_SHARD) -> Payload:
    """A market payload's lasting part, on the shard of its event; live fields are added by the listing."""
    ticker = _required(given, "ticker")
    _required(given, "event_ticker")
    opens, closes = time_of(given, "open_time"), time_of(given, "close_time")
    if closes <= opens:
        raise IllegalDefinition(f"{ticker} closes before it opens")
    market = {
        **_MARKET,
        "created_time": rfc3339(min(now, opens)),
        "latest_expiration_time": rfc3339(closes + timedelta(days=7)),
    }
    lasting = {key: value for key, value in given.items() if key not in LIVE_FIELDS}
    return {**market, **lasting, "exchange_index": shard}


def time_of(definition: Definition, key: str) -> datetime:
    """An RFC 3339 time of a definition, in UTC. Raises IllegalDefinition."""
    text = _required(definition, key)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise IllegalDefinition(f"{key} is no time: {text!r}") from error


def fee_schedule(series: Definition, event: Definition) -> FeeSchedule:
    """The fee inputs of a market: its series', overridden by its event's (API.md 13).

    A type that we do not know is read as `flat`, whose fee cannot be computed: such a market takes no orders.
    """
    kind = event.get("fee_type_override") or series.get("fee_type") or FeeType.QUADRATIC.value
    multiplier = event.get("fee_multiplier_override")
    if multiplier is None:
        multiplier = series.get("fee_multiplier", 1)
    known = FeeType(kind) if kind in set(FeeType) else FeeType.FLAT
    return FeeSchedule(known, Decimal(str(multiplier)))


def market_id(definition: Definition) -> str:
    """The market's UUID: as recorded, else derived from the ticker, so that it stays the same over restarts."""
    return str(definition.get("market_id") or uuid5(NAMESPACE_URL, f"paper:{definition['ticker']}"))


def _required(definition: Definition, key: str) -> str:
    value = definition.get(key)
    if not isinstance(value, str) or not value:
        raise IllegalDefinition(f"a definition needs {key!r}")
    return value
