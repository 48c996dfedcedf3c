"""The simulated series: what is measured, how often an event begins, its strikes, its fees and its grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from math import floor, log10

from trading.domain.fees import FeeType
from trading.paper.simulate.gauges import Strike

MINUTE, HOUR = 60, 3600
StrikeRule = Callable[[Decimal], tuple[Strike, ...]]


@dataclass(frozen=True, slots=True)
class Grid:
    """A price grid as the exchange publishes it (API.md 9): its label and its bands."""

    label: str
    bands: tuple[tuple[str, str, str], ...]

    @property
    def ranges(self) -> list[dict[str, str]]:
        return [{"start": start, "end": end, "step": step} for start, end, step in self.bands]


LINEAR_CENT = Grid("linear_cent", (("0.0000", "1.0000", "0.0100"),))
TAPERED_DECI_CENT = Grid(
    "tapered_deci_cent",
    (("0.0000", "0.1000", "0.0010"), ("0.1000", "0.9000", "0.0100"), ("0.9000", "1.0000", "0.0010")),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity. `shared` ones are one path for all times and events; the others begin anew with each event.

    `start` and `start_spread`: mean and standard deviation of the first reading (the latter relative to the
    former when geometric). `swing`: standard deviation over `swing_over` seconds, of the logarithm when
    geometric.
    """

    name: str
    unit: str
    step: Decimal
    start: float
    swing: float
    swing_over: float
    start_spread: float = 0.0
    geometric: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """One series. `period`: seconds from open to close; `offset` of the slots from midnight UTC. `pace`: how busy
    its traders are, 1 is usual.
    """

    ticker: str
    title: str
    category: str
    frequency: str
    tags: tuple[str, ...]
    measure: Measure
    source: str
    subject: str
    period: int
    strikes: StrikeRule
    settlement_timer: int
    offset: int = 0  # the slow series close at different hours, so that some are always far from their end
    fee_type: FeeType = FeeType.QUADRATIC
    fee_multiplier: Decimal = Decimal(1)
    grid: Grid = LINEAR_CENT
    exclusive: bool = False
    pace: float = 1.0
    shard: int = 0  # where the exchange has it (`--shards`)


def round_step(size: Decimal) -> Decimal:
    """The roundest number (1, 2, 2.5 or 5 times a power of ten) that is not above `size`."""
    power = Decimal(10) ** floor(log10(size))
    return max(power * factor for factor in map(Decimal, ("1", "2", "2.5", "5")) if power * factor <= size)


def nearest(value: Decimal, step: Decimal) -> Decimal:
    """The multiple of `step` nearest to `value`."""
    return (value / step).to_integral_value(ROUND_HALF_UP) * step


def thresholds(count: int, spacing: Callable[[Decimal], Decimal]) -> StrikeRule:
    """`count` questions "at least X", evenly spaced around the reading."""

    def rule(reading: Decimal) -> tuple[Strike, ...]:
        step = spacing(reading)
        lowest = nearest(reading, step) - step * (count // 2)
        return tuple(Strike(floor=lowest + step * number) for number in range(count))

    return rule


def ranges(count: int, spacing: Callable[[Decimal], Decimal]) -> StrikeRule:
    """`count` ranges of which exactly one comes true: two open ends, equal steps between them."""

    def rule(reading: Decimal) -> tuple[Strike, ...]:
        step = spacing(reading)
        lowest = nearest(reading - step * (count - 2) / 2, step)
        edges = [lowest + step * number for number in range(count - 1)]
        inner = [Strike(floor=low, below=high) for low, high in pairwise(edges)]
        return (Strike(below=edges[0]), *inner, Strike(floor=edges[-1]))

    return rule


def multiples(factors: tuple[str, ...], step: str) -> StrikeRule:
    """Questions "at least X" at multiples of the reading, rounded to `step`."""

    def rule(reading: Decimal) -> tuple[Strike, ...]:
        floors = [nearest(reading * Decimal(factor), Decimal(step)) for factor in factors]
        return tuple(Strike(floor=level) for level in sorted(set(floors)))

    return rule


def share_of_level(share: str) -> Callable[[Decimal], Decimal]:
    return lambda reading: round_step(reading * Decimal(share))


def always(step: str) -> Callable[[Decimal], Decimal]:
    return lambda _: Decimal(step)


MERIDIAN = Measure(
    "Meridian 100",
    "",
    Decimal("0.01"),
    start=4_600,
    swing=0.0018,
    swing_over=900,
    geometric=True,
    shared=True,
)
GASOLINE = Measure(
    "gasoline",
    "$",
    Decimal("0.001"),
    start=3.3,
    swing=0.006,
    swing_over=12 * HOUR,
    geometric=True,
    shared=True,
)
AIR = Measure("temperature", "°F", Decimal("0.1"), start=66, start_spread=9, swing=2.6, swing_over=6 * HOUR)
RAIN = Measure(
    "rainfall",
    "mm",
    Decimal("0.1"),
    start=7,
    start_spread=0.25,
    swing=0.5,
    swing_over=8 * HOUR,
    geometric=True,
)
LAKE = Measure(
    "water level", "cm", Decimal("0.1"), start=240, start_spread=15, swing=2.4, swing_over=12 * HOUR
)
APPROVAL = Measure("approval", "%", Decimal("0.1"), start=47, start_spread=4, swing=0.7, swing_over=24 * HOUR)

_INDEX_SOURCE = "Meridian simulated index"
_STATION = "Port Meridian simulated weather station"
PLANS: tuple[SeriesPlan, ...] = (
    SeriesPlan(
        ticker="SIMIDX15",
        title="Meridian 100 (15 minutes)",
        category="Financials",
        frequency="fifteen_min",
        tags=("Indices",),
        measure=MERIDIAN,
        source=_INDEX_SOURCE,
        shard=1,
        subject="the Meridian 100",
        period=15 * MINUTE,
        strikes=thresholds(5, share_of_level("0.0011")),
        settlement_timer=8,
        fee_multiplier=Decimal("0.5"),
    ),
    SeriesPlan(
        ticker="SIMIDX5",
        title="Meridian 100 (5 minutes)",
        category="Financials",
        frequency="five_min",
        tags=("Indices",),
        measure=MERIDIAN,
        source=_INDEX_SOURCE,
        shard=1,
        subject="the Meridian 100",
        period=5 * MINUTE,
        strikes=thresholds(3, share_of_level("0.0007")),
        settlement_timer=5,
        pace=1.3,
    ),
    SeriesPlan(
        ticker="SIMRANGE",
        title="Meridian 100 hourly range",
        category="Financials",
        frequency="hourly",
        tags=("Indices",),
        measure=MERIDIAN,
        source=_INDEX_SOURCE,
        shard=1,
        subject="the Meridian 100",
        period=HOUR,
        strikes=ranges(7, share_of_level("0.0028")),
        settlement_timer=10,
        fee_type=FeeType.QUADRATIC_WITH_MAKER,
        fee_multiplier=Decimal("0.5"),
        exclusive=True,
        pace=0.8,
    ),
    SeriesPlan(
        ticker="SIMTEMP",
        title="Temperature at Port Meridian",
        category="Climate and Weather",
        frequency="six_hours",
        tags=("Temperature",),
        measure=AIR,
        source=_STATION,
        subject="the air temperature at Port Meridian",
        period=6 * HOUR,
        strikes=thresholds(5, always("2")),
        offset=2 * HOUR,
        settlement_timer=10,
        fee_type=FeeType.QUADRATIC_WITH_MAKER,
        pace=1.2,
    ),
    SeriesPlan(
        ticker="SIMRAIN",
        title="Rain at Port Meridian",
        category="Climate and Weather",
        frequency="eight_hours",
        tags=("Rain",),
        measure=RAIN,
        source=_STATION,
        subject="the rainfall total at Port Meridian",
        period=8 * HOUR,
        strikes=multiples(("0.6", "0.85", "1.15", "1.6"), "0.5"),
        offset=1 * HOUR,
        settlement_timer=10,
        pace=1.2,
    ),
    SeriesPlan(
        ticker="SIMGAS",
        title="Gasoline price",
        category="Economics",
        frequency="twelve_hours",
        tags=("Gas prices",),
        measure=GASOLINE,
        source="Meridian simulated fuel survey",
        subject="the average price of a gallon of gasoline",
        period=12 * HOUR,
        strikes=thresholds(5, always("0.010")),
        offset=5 * HOUR,
        settlement_timer=10,
        fee_type=FeeType.QUADRATIC_WITH_MAKER,
        fee_multiplier=Decimal("0.5"),
        grid=TAPERED_DECI_CENT,
        pace=1.2,
    ),
    SeriesPlan(
        ticker="SIMLAKE",
        title="Water level of Lake Meridian",
        category="Climate and Weather",
        frequency="twelve_hours",
        tags=("Water",),
        measure=LAKE,
        source=_STATION,
        subject="the water level of Lake Meridian",
        period=12 * HOUR,
        strikes=thresholds(5, always("2")),
        offset=9 * HOUR,
        settlement_timer=10,
        fee_multiplier=Decimal("0.5"),
        pace=1.2,
    ),
    SeriesPlan(
        ticker="SIMPOLL",
        title="Approval of the mayor of Port Meridian",
        category="Politics",
        frequency="daily",
        tags=("Approval",),
        measure=APPROVAL,
        source="Meridian simulated polling average",
        subject="the approval of the mayor of Port Meridian",
        period=24 * HOUR,
        strikes=thresholds(5, always("0.5")),
        offset=15 * HOUR,
        settlement_timer=10,
        pace=1.2,
    ),
)
