"""Recorded time on the wall clock: t' = wall + (t - recorded) / speed, for instants and for whole definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trading.paper.wire import rfc3339
from trading.recordings.definitions import RecordedMarket

_MARKET_TIMES = (
    *("created_time", "open_time", "close_time", "expected_expiration_time", "latest_expiration_time"),
    *("expiration_time", "occurrence_datetime"),
)


@dataclass(frozen=True, slots=True)
class Redating:
    """One market's map from recorded time to the wall clock. Both are Unix seconds; `speed` is above zero."""

    recorded: float
    wall: float
    speed: float

    def to_wall(self, recorded: float) -> float:
        return self.wall + (recorded - self.recorded) / self.speed

    def moment(self, recorded: datetime) -> datetime:
        """The same for datetimes, to the microsecond."""
        return datetime.fromtimestamp(self.wall, UTC) + timedelta(
            seconds=(recorded.timestamp() - self.recorded) / self.speed
        )

    def later(self, seconds: float) -> Redating:
        """The same map, moved on the wall clock."""
        return replace(self, wall=self.wall + seconds)


def redating_of(market: RecordedMarket, definition: Mapping[str, Any]) -> Redating:
    """The map that once gave this definition: how a replay goes on after a restart."""
    opens, closes = (datetime.fromisoformat(definition[key]) for key in ("open_time", "close_time"))
    speed = (market.close_at - market.open_at) / (closes - opens)
    return Redating(market.close_at.timestamp(), closes.timestamp(), speed)


def redated_market(market: RecordedMarket, redating: Redating) -> dict[str, Any]:
    """The market's payload on the wall clock, and a word about the dates that its rules speak of."""
    definition = {**market.market, **_redated(market.market, _MARKET_TIMES, redating)}
    note = (
        f"Replay of a recording of {market.open_at:%Y-%m-%d}: the dates in these rules are the recorded ones."
    )
    definition["rules_secondary"] = f"{definition.get('rules_secondary', '')} {note}".lstrip()
    return definition


def redated_event(market: RecordedMarket, redating: Redating) -> dict[str, Any]:
    """The event's payload on the wall clock."""
    return {**market.event, **_redated(market.event, ("strike_date",), redating)}


def series_of(market: RecordedMarket) -> dict[str, Any]:
    """A series for the event. Recordings hold none: its fees are taken to be the usual ones (quadratic, 1)."""
    event = market.event
    return {
        "ticker": event["series_ticker"],
        "title": event["series_ticker"],
        "category": event.get("category", ""),
        "frequency": (event.get("product_metadata") or {}).get("cadence", "custom"),
        "settlement_sources": event.get("settlement_sources") or [],
        "fee_type": "quadratic",
        "fee_multiplier": 1,
    }


def _redated(payload: Mapping[str, Any], keys: tuple[str, ...], redating: Redating) -> dict[str, str]:
    moments = {key: datetime.fromisoformat(payload[key]) for key in keys if payload.get(key)}
    return {key: rfc3339(redating.moment(moment)) for key, moment in moments.items()}
