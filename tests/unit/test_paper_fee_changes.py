"""Fee changes that are scheduled: applied at their time, told, kept over restarts; resting orders stay funded."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.paper_floor import ASK, BID, START, TICKER, Floor
from trading.paper.events import Event, Lifecycle

D = Decimal
SOON = START + timedelta(minutes=1)


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path / "journal.jsonl").list_market()


def told(floor: Floor) -> list[Event]:
    """What the streams hear from now on."""
    heard: list[Event] = []
    floor.exchange.publish = lambda _sequence, events: heard.extend(events)
    return heard


def multiplier(floor: Floor) -> Decimal:
    return floor.exchange.listing(TICKER).fees.multiplier


def pass_minutes(floor: Floor, minutes: float) -> None:
    floor.clock.pass_by(minutes=minutes)
    floor.exchange.pass_time()


def test_a_series_takes_its_new_fees_at_the_time_and_not_before(floor: Floor) -> None:
    floor.exchange.change_series_fee("TEST", "quadratic_with_maker_fees", D("0.5"), SOON)
    pass_minutes(floor, 0.9)
    assert multiplier(floor) == 1
    pass_minutes(floor, 0.2)
    assert multiplier(floor) == D("0.5")
    assert floor.exchange.catalog.series["TEST"]["fee_multiplier"] == 0.5
    floor.send("bob", ASK, "0.50", "100")
    order = floor.send("alice", BID, "0.50", "100")
    assert order.taker_fees == D("0.875")


def test_an_event_is_overridden_and_cleared_and_the_streams_are_told(floor: Floor) -> None:
    heard = told(floor)
    floor.exchange.change_event_fee("TEST-1", "quadratic", D(2), SOON)
    floor.exchange.change_event_fee("TEST-1", None, None, SOON + timedelta(minutes=1))
    pass_minutes(floor, 1)
    assert multiplier(floor) == 2
    pass_minutes(floor, 1)
    assert multiplier(floor) == 1
    updates = [e.body for e in heard if isinstance(e, Lifecycle) and e.kind == "event_fee_update"]
    assert updates == [
        {"event_ticker": "TEST-1", "fee_type_override": "quadratic", "fee_multiplier_override": 2},
        {"event_ticker": "TEST-1", "fee_type_override": None, "fee_multiplier_override": None},
    ]


def test_a_restart_forgets_neither_what_is_to_come_nor_what_came(floor: Floor) -> None:
    floor.exchange.change_series_fee("TEST", "quadratic", D(3), SOON)
    floor.exchange.change_series_fee("TEST", "quadratic", D(4), SOON + timedelta(minutes=5))
    pass_minutes(floor, 2)
    again = floor.reopen().list_market()
    assert multiplier(again) == 3, "the world lists the old fees anew"
    pass_minutes(again, 5)
    assert multiplier(again) == 4


def test_higher_fees_cancel_what_can_no_longer_be_funded(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl", deposit="51.8").list_market()
    order = floor.send("alice", BID, "0.50", "100")
    floor.exchange.change_series_fee("TEST", "quadratic", D(2), SOON)
    pass_minutes(floor, 1)
    account = floor.exchange.ledger.accounts["alice"]
    assert account.orders[order.order_id].reason == "MarginCancel"
    assert account.purse().available >= 0


@pytest.mark.parametrize(("kind", "times"), [("free", "1"), ("quadratic", "-1"), (None, "1")])
def test_fees_that_cannot_be_are_refused(floor: Floor, kind: str | None, times: str) -> None:
    with pytest.raises(ValueError, match="no fees"):
        floor.exchange.change_series_fee("TEST", kind, D(times), SOON)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        floor.exchange.change_series_fee("NOBODY", "quadratic", D(1), SOON)
