"""What the gateway may know of the portfolio: sums that the database makes are those of the rows, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from django.utils import timezone

from portfolio import risk
from portfolio.models import Position, Reservation
from tests import factories

D = Decimal
VENUE = factories.VENUE

pytestmark = pytest.mark.django_db


def reserved(chance: Random, number: int, ticker: str, event: str) -> Reservation:
    return Reservation.objects.create(
        venue=VENUE if number % 7 else "demo",
        key=f"prop_{number}",
        ticker=ticker,
        event_ticker=event,
        signed_quantity=D(chance.randrange(-99_999, 99_999)) / 100,
        unit_cost=D(chance.randrange(1, 999_999)) / 1_000_000,
        unit_fee=D(chance.randrange(0, 99_999)) / 1_000_000,
        released_at=None if number % 5 else timezone.now(),
    )


@pytest.mark.parametrize(("seed", "held"), [(0, "3.50"), (1, "-2.25"), (2, "0"), (3, None)])
def test_the_sums_are_those_of_the_standing_rows(seed: int, held: str | None) -> None:
    chance = Random(seed)
    market = factories.quoted_market()
    tickers = [(market.ticker, market.event_ticker), ("B", market.event_ticker), ("C", "ANOTHER")]
    rows = [reserved(chance, number, *chance.choice(tickers)) for number in range(60)]
    if held is not None:
        Position.objects.create(
            venue=VENUE,
            ticker=market.ticker,
            event_ticker=market.event_ticker,
            quantity=D(held),
            cost=D("1.5"),
        )
    own = next(row for row in rows if row.released_at is None and row.venue == VENUE)
    standing = [row for row in rows if row.venue == VENUE and row.released_at is None and row is not own]
    here = [row.signed_quantity for row in standing if row.ticker == market.ticker]
    in_event = [row for row in standing if row.event_ticker == market.event_ticker]
    cost = D("1.5") if held is not None else D(0)

    facts = risk.portfolio_facts(VENUE, risk.facts_of(market.ticker), excluding=own.key)
    assert facts.reserved_cash == sum(
        abs(row.signed_quantity) * (row.unit_cost + row.unit_fee) for row in standing
    )
    assert facts.total_exposure == cost + sum(abs(row.signed_quantity) * row.unit_cost for row in standing)
    assert facts.event_exposure == cost + sum(abs(row.signed_quantity) * row.unit_cost for row in in_event)
    assert facts.pending == sum(here)
    assert facts.held == D(held or 0)
    assert facts.leaving == sum(abs(count) for count in here if count * facts.held < 0)


def test_nothing_reserved_and_nothing_held_is_nothing() -> None:
    facts = risk.portfolio_facts(VENUE, risk.facts_of(factories.quoted_market().ticker))
    sums = (facts.reserved_cash, facts.total_exposure, facts.event_exposure, facts.pending, facts.leaving)
    assert sums == (D(0),) * 5
