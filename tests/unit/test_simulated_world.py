"""The simulated world: what it lists at any instant, that seed and clock alone decide it, and how its people behave."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from statistics import mean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.venues import HouseVenue
from trading.domain.markets import MarketStatus
from trading.domain.orders import BookSide
from trading.domain.prices import PriceGrid
from trading.paper.definitions import fee_schedule
from trading.paper.simulate import SimulatedWorld
from trading.paper.simulate.listings import Calendar, ListedEvent, Listing
from trading.paper.simulate.makers import allowed_prices
from trading.paper.simulate.plans import LINEAR_CENT, PLANS, TAPERED_DECI_CENT
from trading.paper.simulate.wiener import Wiener

pytestmark = pytest.mark.slow

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC).timestamp()
INSTANTS = st.integers(0, 10 * 365 * 86_400 * 4).map(
    lambda n: datetime(2025, 1, 1, tzinfo=UTC).timestamp() + n / 4
)
SEEDS = st.integers(0, 2**31)
READINGS = st.decimals("300", "30000", places=2)


def open_events(seed: int, now: float) -> list[ListedEvent]:
    return [e for e in Calendar(seed).events_at(now) if e.markets[0].opens_at <= now]


def running_world(seed: int = 7, at: float = START) -> tuple[SimulatedWorld, HouseVenue]:
    venue, world = HouseVenue(at), SimulatedWorld(seed)
    world.begin(venue)
    return world, venue


def run_for(world: SimulatedWorld, venue: HouseVenue, seconds: float) -> None:
    for _ in range(int(seconds * 4)):
        venue.pass_time(0.25)
        world.step(venue)


# The calendar --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, now=INSTANTS)
def test_at_every_instant_at_least_24_markets_of_several_series_are_open(seed: int, now: float) -> None:
    events = open_events(seed, now)
    markets = [market for event in events for market in event.markets]
    assert len({market.ticker for market in markets}) == len(markets) >= 24
    assert len({market.plan.ticker for market in markets}) >= 5
    assert all(market.ticker.startswith("SIM") for market in markets)
    assert all(market.opens_at <= now < market.closes_at for market in markets)
    assert all(0 < market.chance(now) < 1 for market in markets)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, now=INSTANTS)
def test_a_restart_finds_the_same_markets_and_outcomes(seed: int, now: float) -> None:
    first = [m for e in Calendar(seed).events_at(now) for m in e.markets]
    late = Calendar(seed)
    late.events_at(now + 90_000)  # another history of questions must not matter
    again = [m for e in late.events_at(now) for m in e.markets]
    assert [m.definition for m in again] == [m.definition for m in first]

    def told(market: Listing) -> tuple[object, ...]:
        return (
            market.reading(),
            market.outcome(),
            market.chance(max(now, market.opens_at)),
        )  # listed a while before

    assert [told(market) for market in again] == [told(market) for market in first]
    market = first[0]
    assert late.find(market.ticker, market.plan.ticker, market.opens_at) == again[0]


def test_another_seed_is_another_world() -> None:
    assert Calendar(1).events_at(START)[0].markets[0].reading() != (
        Calendar(2).events_at(START)[0].markets[0].reading()
    )


@given(reading=READINGS)
def test_exclusive_ranges_partition_the_line(reading: Decimal) -> None:
    plan = next(plan for plan in PLANS if plan.exclusive)
    strikes = plan.strikes(reading)
    assert strikes[0].floor is None
    assert strikes[-1].below is None
    assert all(low.below == high.floor for low, high in pairwise(strikes))
    step = plan.measure.step
    edges = [strike.floor for strike in strikes[1:] if strike.floor is not None]
    for probe in (reading, *edges, *(edge - step for edge in edges)):
        assert sum(strike.holds(probe) for strike in strikes) == 1


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, now=INSTANTS)
def test_exclusive_events_are_marked_and_one_market_of_them_comes_true(seed: int, now: float) -> None:
    for event in Calendar(seed).events_at(now):
        exclusive = event.markets[0].plan.exclusive
        assert event.definition["mutually_exclusive"] is exclusive
        assert event.definition["collateral_return_type"] == ("MECNET" if exclusive else "")
        if exclusive:
            assert [market.outcome() for market in event.markets].count("yes") == 1
            assert sum(market.chance(now) for market in event.markets) == pytest.approx(1, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, now=INSTANTS)
def test_higher_thresholds_are_never_likelier(seed: int, now: float) -> None:
    for event in open_events(seed, now):
        if not event.markets[0].plan.exclusive:
            chances = [market.chance(now) for market in event.markets]
            assert chances == sorted(chances, reverse=True)


def test_outcomes_come_true_as_often_as_their_chances_said() -> None:
    """Over 600 events, markets that stood at 0.2 to 0.4 five minutes before the close end yes about that often."""
    calendar = Calendar(11)
    plan = next(plan for plan in PLANS if plan.ticker == "SIMIDX15")
    said, came = [], []
    for number in range(600):
        for market in calendar.event(plan, int(START) + number * plan.period).markets:
            chance = market.chance(market.closes_at - 300)
            if 0.2 <= chance <= 0.4:
                said.append(chance)
                came.append(market.outcome() == "yes")
    assert len(said) > 150
    assert mean(came) == pytest.approx(mean(said), abs=0.1)


def test_a_path_varies_as_a_brownian_motion_does() -> None:
    path = Wiener(3, "x", 32)
    steps = [path.at(2e8 + 900 * (n + 1)) - path.at(2e8 + 900 * n) for n in range(2_000)]
    assert pstdev(steps) == pytest.approx(30, rel=0.06)
    assert mean(steps) == pytest.approx(0, abs=3)


def test_a_path_ends_somewhere() -> None:
    with pytest.raises(ValueError, match="outside the path"):
        Wiener(3, "x", 4).at(5)


def test_the_series_have_the_fees_and_grids_of_real_ones() -> None:
    assert {plan.fee_type.value for plan in PLANS} == {"quadratic", "quadratic_with_maker_fees"}
    assert {plan.fee_multiplier for plan in PLANS} == {Decimal(1), Decimal("0.5")}
    assert {plan.grid.label for plan in PLANS} == {"linear_cent", "tapered_deci_cent"}
    for series in Calendar(1).series():
        assert fee_schedule(series, {}).trade_fee(Decimal("0.5"), Decimal(1), is_taker=True) > 0


@pytest.mark.parametrize("grid", [LINEAR_CENT, TAPERED_DECI_CENT], ids=lambda grid: grid.label)
def test_the_makers_know_every_price_of_a_grid(grid: object) -> None:
    ranges = (LINEAR_CENT if grid is LINEAR_CENT else TAPERED_DECI_CENT).ranges
    allowed = PriceGrid.from_ranges(ranges)
    assert allowed_prices(ranges) == [t for t in range(1, 10_000) if allowed.holds(Decimal(t) / 10_000)]


def test_a_market_tells_its_question_and_rules_in_words() -> None:
    for event in Calendar(7).events_at(START):
        for market in event.markets:
            definition = market.definition
            assert definition["title"].startswith("Will ")
            assert definition["title"].endswith(" UTC?")
            assert "resolves to Yes" in definition["rules_primary"]
            assert str(market.plan.settlement_timer) in definition["rules_secondary"]
            assert definition["strike_type"] in {"less", "between", "greater_or_equal"}


# The people ----------------------------------------------------------------------------------------------------


def test_every_market_is_quoted_from_the_first_moment() -> None:
    _, venue = running_world()
    assert len(venue.open_tickers()) >= 24
    for ticker in venue.open_tickers():
        touch = venue.touch(ticker)
        assert (touch.bid_ticks or 0) < (touch.ask_ticks or 10_000)
        assert touch.bid_lots + touch.ask_lots > 0


def test_all_orders_stand_on_their_markets_grids() -> None:
    world, venue = running_world()
    run_for(world, venue, 60)
    for ticker in venue.open_tickers():
        grid = PriceGrid.from_ranges(venue.markets[ticker]["price_ranges"])
        for side in BookSide:
            assert all(grid.holds(Decimal(tick) / 10_000) for tick, _ in venue.books[ticker].levels(side))


def test_prices_follow_the_true_chance_but_not_too_closely() -> None:
    world, venue = running_world()
    run_for(world, venue, 60)
    gaps = []
    calendar = world.calendar
    for _ in range(70):
        run_for(world, venue, 1)
        truths = {m.ticker: m.chance(venue.at) for e in calendar.events_at(venue.at) for m in e.markets}
        for ticker in venue.open_tickers():
            touch = venue.touch(ticker)
            if touch.bid_ticks is not None and touch.ask_ticks is not None:
                gaps.append(abs((touch.bid_ticks + touch.ask_ticks) / 20_000 - truths[ticker]))
    assert mean(gaps) < 0.03
    assert 0.03 < sum(gap > 0.03 for gap in gaps) / len(gaps) < 0.35


def test_the_house_keeps_to_its_budget_of_actions() -> None:
    world, venue = running_world()
    before = venue.calls
    run_for(world, venue, 90)
    assert 5 < (venue.calls - before) / 90 < 60
    assert venue.traded > 0


def test_markets_open_close_and_settle_by_nature_while_one_watches() -> None:
    world, venue = running_world(at=START + 250)
    ending = [t for t in venue.open_tickers() if t.startswith("SIMIDX5-")]
    listed = {m.ticker: m for e in world.calendar.events_at(venue.at) for m in e.markets}
    run_for(world, venue, 75)
    assert [venue.statuses[t] for t in ending] == [MarketStatus.FINALIZED] * 3
    assert {t: venue.results[t] for t in ending} == {t: listed[t].outcome() for t in ending}
    fresh = [t for t in venue.open_tickers() if t.startswith("SIMIDX5-")]
    assert len(fresh) == 3
    assert not set(fresh) & set(ending)
    assert len(venue.open_tickers()) >= 24


def test_nobody_trades_in_a_paused_market() -> None:
    world, venue = running_world()
    ticker = next(t for t in venue.open_tickers() if t.startswith("SIMRAIN"))
    venue.pause_market(ticker)
    run_for(world, venue, 10)  # an order there would raise
    assert venue.statuses[ticker] is MarketStatus.INACTIVE


def test_after_a_restart_markets_of_the_time_between_settle_by_the_same_nature() -> None:
    old = [m for e in Calendar(7).events_at(START) for m in e.markets]
    venue = HouseVenue(START + 3_700)
    venue.earlier = {m.ticker: m.definition for m in old} | {
        "KXOTHER-1": {**old[0].definition, "event_ticker": "KXOTHER"}
    }
    SimulatedWorld(7).begin(venue)
    ended = [m for m in old if m.closes_at < START + 3_600]
    assert {m.plan.ticker for m in ended} == {"SIMIDX15", "SIMIDX5"}
    assert {m.ticker: venue.results[m.ticker] for m in ended} == {m.ticker: m.outcome() for m in ended}
    assert {venue.statuses[m.ticker] for m in ended} == {MarketStatus.FINALIZED}
    assert "KXOTHER-1" not in venue.markets


def test_the_same_seed_and_clock_give_the_same_flow() -> None:
    books = []
    for _ in range(2):
        world, venue = running_world(seed=5)
        run_for(world, venue, 20)
        books.append({t: venue.books[t].levels(BookSide.BID) for t in venue.open_tickers()})
    assert books[0] == books[1]


def test_it_says_what_it_is() -> None:
    assert SimulatedWorld(7).describe() == "simulation, seed 7"
