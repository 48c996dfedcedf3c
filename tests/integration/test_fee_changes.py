"""Fees that change at a moment: announced, in force at once for every check, asked for later; observed ones too."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from portfolio import risk
from tests import factories
from trading.domain.fees import FeeSchedule, FeeType, UnknownFee
from trading.exchange.errors import Unreachable
from trading.exchange.reports import EventDefinition, SeriesDefinition
from trading.exchange.reports import FeeChange as Told
from trading.market_data import fees
from trading.market_data.fees import FeeWatch, observe, put_into_force, write_announced
from trading.models import FeeChange, Market
from trading.models.fee_change import FeeBook

pytestmark = pytest.mark.django_db
D = Decimal
SERIES = "SIMTEST"
HOUR = timedelta(hours=1)


def told(at: datetime, multiplier: str, event: str = "", kind: FeeType | None = FeeType.QUADRATIC) -> Told:
    return Told(f"change-{at:%H%M%S%f}", SERIES, event, kind, D(multiplier), at)


def series(multiplier: str = "1", kind: FeeType = FeeType.QUADRATIC) -> SeriesDefinition:
    return SeriesDefinition(SERIES, "Sim", "Test", "daily", FeeSchedule(kind, D(multiplier)))


def event(ticker: str, multiplier: str | None) -> EventDefinition:
    override = None if multiplier is None else D(multiplier)
    return EventDefinition(ticker, SERIES, "An event", "", "", True, "MECNET", None, override, 0)


@pytest.fixture
def market() -> Market:
    return factories.quoted_market()


def test_an_announced_change_holds_for_the_rules_from_its_moment_on_without_a_restart(market: Market) -> None:
    now = timezone.now()
    write_announced([told(now - HOUR, "1"), told(now + HOUR, "0.5")])
    assert risk.facts_of(market.ticker).fees == FeeSchedule(FeeType.QUADRATIC, D(1))
    FeeChange.objects.filter(at__gt=now).update(at=now)  # its time has come; nothing else happened
    assert risk.facts_of(market.ticker).fees == FeeSchedule(FeeType.QUADRATIC, D("0.5"))


def test_two_announcements_for_the_same_moment_are_one_step_and_the_later_one_counts() -> None:
    """Naive: PostgreSQL refuses the whole list, and no announced fee is known any more."""
    at = timezone.now() + HOUR
    write_announced([told(at, "1"), told(at, "0.5")])
    assert [row.multiplier for row in FeeChange.objects.all()] == ["0.5"]


def test_an_event_overrides_its_series_and_only_its_own_markets(market: Market) -> None:
    other = factories.quoted_market(ticker="OTHER-1", event_ticker="OTHER")
    now = timezone.now()
    write_announced([told(now - HOUR, "1"), told(now - HOUR, "0", event=market.event_ticker)])
    found = risk.market_facts([market.ticker, other.ticker])
    assert (found[market.ticker].fees.multiplier, found[other.ticker].fees.multiplier) == (D(0), D(1))


def test_the_fee_of_a_past_moment_can_be_asked(market: Market) -> None:
    now = timezone.now()
    write_announced([told(now - 3 * HOUR, "2"), told(now - HOUR, "1")])
    book = FeeBook.of([SERIES], [market.event_ticker])
    assert book.at(SERIES, market.event_ticker, now - 2 * HOUR).multiplier == D(2)
    assert book.at(SERIES, market.event_ticker, now).multiplier == D(1)
    with pytest.raises(UnknownFee):
        book.at(SERIES, market.event_ticker, now - 4 * HOUR)


def test_a_change_taken_back_before_its_time_goes_and_a_past_one_stays() -> None:
    now = timezone.now()
    write_announced([told(now - HOUR, "1"), told(now + HOUR, "0.5")])
    write_announced([])
    assert [row.multiplier for row in FeeChange.objects.all()] == ["1"]


def test_a_fee_that_nobody_announced_is_noted_when_it_is_seen(market: Market) -> None:
    now = timezone.now()
    observe([series("1")], [event(market.event_ticker, None)], now - HOUR)
    observe([series("1")], [event(market.event_ticker, None)], now - HOUR / 2)
    assert FeeChange.objects.count() == 1
    observe([series("0.5")], [event(market.event_ticker, "0.25")], now - HOUR / 4)
    book = FeeBook.of([SERIES], [market.event_ticker])
    assert book.at(SERIES, "", now).multiplier == D("0.5")
    assert book.at(SERIES, market.event_ticker, now).multiplier == D("0.25")
    observe([series("0.5")], [event(market.event_ticker, None)], now)
    cleared = FeeBook.of([SERIES], [market.event_ticker])
    assert cleared.at(SERIES, market.event_ticker, now).multiplier == D("0.5")


def test_an_answer_that_lags_behind_an_announced_step_does_not_undo_it() -> None:
    now = timezone.now()
    write_announced([told(now - HOUR, "1"), told(now - timedelta(seconds=1), "0.5")])
    observe([series("1")], [], now)
    assert FeeBook.of([SERIES], []).at(SERIES, "", now).multiplier == D("0.5")
    observe([series("1")], [], now + fees.LAG)  # still told long after: then it is true
    assert FeeBook.of([SERIES], []).at(SERIES, "", now + fees.LAG).multiplier == D(1)


def test_nor_does_one_undo_the_first_step_of_an_event(market: Market) -> None:
    now, ticker = timezone.now(), market.event_ticker
    write_announced([told(now - HOUR, "1"), told(now - timedelta(seconds=1), "0.5", event=ticker)])
    observe([], [event(ticker, None)], now)
    assert FeeBook.of([SERIES], [ticker]).at(SERIES, ticker, now).multiplier == D("0.5")
    observe([], [event(ticker, None)], now + fees.LAG)
    assert FeeBook.of([SERIES], [ticker]).at(SERIES, ticker, now + fees.LAG).multiplier == D(1)


def test_rows_follow_when_a_step_begins(market: Market) -> None:
    now = timezone.now()
    write_announced([told(now - timedelta(seconds=1), "0.5")])
    assert put_into_force(now - HOUR, now) == 1
    assert Market.objects.get(pk=market.pk).fees == FeeSchedule(FeeType.QUADRATIC, D("0.5"))
    assert put_into_force(now, now + HOUR) == 0


def test_a_type_that_we_do_not_know_fails_closed(market: Market) -> None:
    write_announced([told(timezone.now() - HOUR, "1", kind=FeeType.FLAT)])
    terms = factories.ProposalFactory.build(market=market).terms
    with pytest.raises(UnknownFee):
        risk.check_order(venue=factories.VENUE, terms=terms)


def test_without_any_history_the_row_itself_counts(market: Market) -> None:
    assert risk.facts_of(market.ticker).fees == market.fees


class Away:
    """An exchange out of reach."""

    def series_fee_changes(self, **_: object) -> list[Told]:
        raise Unreachable("no connection")

    event_fee_changes = series_fee_changes


def test_an_exchange_out_of_reach_takes_no_announcement_away() -> None:
    write_announced([told(timezone.now() + HOUR, "0.5")])
    FeeWatch(Away()).look()  # type: ignore[arg-type]
    assert FeeChange.objects.count() == 1
