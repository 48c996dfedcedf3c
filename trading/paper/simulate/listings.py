"""The calendar: which events stand at an instant, their markets, and the payloads for them (API.md 9).

Everything follows from (seed, series, slot), a slot being one period on the clock: a restart lists the same
tickers with the same strikes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import exp
from typing import Any

from trading.paper.simulate.gauges import Gauge, Strike
from trading.paper.simulate.plans import PLANS, Measure, SeriesPlan
from trading.paper.simulate.wiener import Wiener, normal

LEAD = 20  # seconds between listing and opening; the strikes are set around the reading at listing
EPOCH = datetime(2020, 1, 1, tzinfo=UTC).timestamp()  # the shared paths begin here and last 34 years
_SHARED_DOUBLINGS, _EVENT_DOUBLINGS = 32, 19  # 34 years, 36 hours


@dataclass(frozen=True, slots=True)
class Listing:
    """One market of the simulated world. Times are Unix seconds."""

    ticker: str
    plan: SeriesPlan
    strike: Strike
    gauge: Gauge
    opens_at: float
    closes_at: float
    definition: Mapping[str, Any]

    def chance(self, now: float) -> float:
        """The true probability of YES, strictly between 0 and 1."""
        return self.strike.chance(self.gauge, now, self.closes_at)

    def reading(self) -> Decimal:
        """What the gauge shows at the close: the expiration value."""
        return self.gauge.level(self.closes_at)

    def outcome(self) -> str:
        """`yes` or `no`, as the reading at the close decides."""
        return "yes" if self.strike.holds(self.reading()) else "no"


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event with its markets."""

    definition: Mapping[str, Any]
    markets: tuple[Listing, ...]


class Calendar:
    """The listings of one seed."""

    def __init__(self, seed: int, plans: tuple[SeriesPlan, ...] = PLANS) -> None:
        self.seed, self.plans = seed, plans
        self._standing: dict[tuple[str, int], ListedEvent] = {}
        self._shared = {p.measure.name: self._shared_gauge(p.measure) for p in plans if p.measure.shared}

    def series(self) -> list[dict[str, Any]]:
        """The definitions of all series."""
        return [_series(plan) for plan in self.plans]

    def events_at(self, now: float) -> list[ListedEvent]:
        """Every event that is open at the instant, and those listed because they open within LEAD."""
        slots = [(plan, slot) for plan in self.plans for slot in _slots(plan, now)]
        # Asked four times a second, and the answer changes a few times an hour.
        self._standing = {
            (plan.ticker, slot): self._standing.get((plan.ticker, slot)) or self.event(plan, slot)
            for plan, slot in slots
        }
        return list(self._standing.values())

    def event(self, plan: SeriesPlan, opens_at: int) -> ListedEvent:
        """The event of one slot."""
        closes_at = opens_at + plan.period
        ticker = f"{plan.ticker}-{_stamp(closes_at)}"
        gauge = self._gauge(plan.measure, ticker, opens_at)
        shown = gauge.level(opens_at - LEAD if plan.measure.shared else opens_at)
        definition = _event(plan, ticker, closes_at)
        listed = [
            Listing(
                f"{ticker}-{_suffix(strike)}",
                plan,
                strike,
                gauge,
                opens_at,
                closes_at,
                _market(plan, ticker, strike, opens_at),
            )
            for strike in plan.strikes(shown)
        ]
        return ListedEvent(definition, tuple(listed))

    def find(self, ticker: str, series_ticker: str, opens_at: float) -> Listing | None:
        """The listing of a market of an earlier run, or None when this seed never listed it."""
        for plan in self.plans:
            if plan.ticker == series_ticker and (int(opens_at) - plan.offset) % plan.period == 0:
                markets = self.event(plan, int(opens_at)).markets
                return next((market for market in markets if market.ticker == ticker), None)
        return None

    def _gauge(self, measure: Measure, event_ticker: str, opens_at: int) -> Gauge:
        if measure.shared:
            return self._shared[measure.name]
        scatter = measure.start_spread * normal(self.seed, f"{event_ticker}/start")
        return Gauge(
            path=Wiener(self.seed, event_ticker, _EVENT_DOUBLINGS),
            starts_at=opens_at,
            start=measure.start * exp(scatter) if measure.geometric else measure.start + scatter,
            volatility=measure.swing / measure.swing_over**0.5,
            step=measure.step,
            geometric=measure.geometric,
        )

    def _shared_gauge(self, measure: Measure) -> Gauge:
        path = Wiener(self.seed, measure.name, _SHARED_DOUBLINGS)
        volatility = measure.swing / measure.swing_over**0.5
        return Gauge(path, EPOCH, measure.start, volatility, measure.step, measure.geometric)


def _slots(plan: SeriesPlan, now: float) -> list[int]:
    current = int((now - plan.offset) // plan.period) * plan.period + plan.offset
    return [current] if now < current + plan.period - LEAD else [current, current + plan.period]


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%y%b%d%H%M").upper()


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _suffix(strike: Strike) -> str:
    if strike.floor is not None and strike.below is not None:
        return f"B{_plain((strike.floor + strike.below) / 2)}"
    edge = strike.floor if strike.floor is not None else strike.below
    return f"T{_plain(edge or Decimal(0))}"


def _shown(plan: SeriesPlan, number: Decimal) -> str:
    """A reading as people write it: `5,120`, `$3.310`, `74°F`."""
    unit = plan.measure.unit
    if unit == "$":
        return f"${number.quantize(plan.measure.step):,}"
    text = f"{number:,.2f}".rstrip("0").rstrip(".")
    return f"{text}{unit}" if unit in {"°F", "%"} else f"{text} {unit}".rstrip()


def _labels(plan: SeriesPlan, strike: Strike) -> tuple[str, str, str]:
    """The outcome, its opposite, and the outcome as a clause."""
    if strike.floor is not None and strike.below is not None:
        low, high = _shown(plan, strike.floor), _shown(plan, strike.below)
        return f"{low} to under {high}", f"Outside {low} to {high}", f"at least {low} and below {high}"
    if strike.floor is not None:
        low = _shown(plan, strike.floor)
        return f"{low} or higher", f"Below {low}", f"at least {low}"
    high = _shown(plan, strike.below or Decimal(0))
    return f"Below {high}", f"{high} or higher", f"below {high}"


def _series(plan: SeriesPlan) -> dict[str, Any]:
    return {
        "ticker": plan.ticker, "title": plan.title, "category": plan.category, "categories": [plan.category],
        "frequency": plan.frequency, "tags": list(plan.tags), "fee_type": plan.fee_type.value,
        "fee_multiplier": float(plan.fee_multiplier), "exchange_index": plan.shard,
        "settlement_sources": [{"name": plan.source, "url": ""}], "additional_prohibitions": [],
        "contract_url": "", "contract_terms_url": "",
    }  # fmt: skip


def _event(plan: SeriesPlan, ticker: str, closes_at: int) -> dict[str, Any]:
    close = datetime.fromtimestamp(closes_at, UTC)
    return {
        "event_ticker": ticker, "series_ticker": plan.ticker, "category": plan.category,
        "title": f"{plan.title} at {close:%H:%M} UTC",
        "sub_title": f"{close:%b} {close.day}, {close:%H:%M} UTC",
        "collateral_return_type": "MECNET" if plan.exclusive else "", "mutually_exclusive": plan.exclusive,
        "settlement_sources": [{"name": plan.source, "url": ""}], "strike_date": _iso(closes_at),
        "strike_period": plan.frequency, "exchange_index": plan.shard,
    }  # fmt: skip


def _market(plan: SeriesPlan, event_ticker: str, strike: Strike, opens_at: int) -> dict[str, Any]:
    closes_at = opens_at + plan.period
    yes, no, clause = _labels(plan, strike)
    settles = _iso(closes_at + plan.settlement_timer)
    return {
        "ticker": f"{event_ticker}-{_suffix(strike)}", "event_ticker": event_ticker, "market_type": "binary",
        "title": _question(plan, clause, closes_at), "yes_sub_title": yes, "no_sub_title": no,
        "created_time": _iso(opens_at - LEAD), "open_time": _iso(opens_at), "close_time": _iso(closes_at),
        "expected_expiration_time": settles, "latest_expiration_time": _iso(closes_at + 86_400),
        "settlement_timer_seconds": plan.settlement_timer, "can_close_early": False,
        "notional_value_dollars": "1.0000", "settlement_bounds_type": "default", "exchange_index": plan.shard,
        "price_level_structure": plan.grid.label, "price_ranges": plan.grid.ranges,
        **_strike_fields(plan, strike), **_rules(plan, clause, closes_at),
    }  # fmt: skip


def _question(plan: SeriesPlan, clause: str, closes_at: int) -> str:
    return f"Will {plan.subject} be {clause} at {datetime.fromtimestamp(closes_at, UTC):%H:%M} UTC?"


def _strike_fields(plan: SeriesPlan, strike: Strike) -> dict[str, Any]:
    """The exchange's bounds are inclusive, except for `less`."""
    fields: dict[str, Any] = {"strike_type": strike.kind}
    if strike.floor is not None:
        fields["floor_strike"] = float(strike.floor)
    if strike.below is not None:
        cap = strike.below if strike.floor is None else strike.below - plan.measure.step
        fields["cap_strike"] = float(cap)
    return fields


def _rules(plan: SeriesPlan, clause: str, closes_at: int) -> dict[str, str]:
    close = datetime.fromtimestamp(closes_at, UTC)
    moment = f"{close:%H:%M:%S} UTC on {close:%b} {close.day}, {close.year}"
    return {
        "rules_primary": f"If {plan.subject} at {moment} is {clause}, then the market resolves to Yes.",
        "rules_secondary": (
            f"The reading is taken from the {plan.source}, rounded to the nearest {plan.measure.step}. "
            f"The market closes at {close:%H:%M:%S} UTC and pays {plan.settlement_timer} seconds after its "
            "outcome is determined. This is a simulated market: neither the quantity nor the money is real."
        ),
    }
