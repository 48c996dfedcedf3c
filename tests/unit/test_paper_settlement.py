"""How a market ends: scalar values to the last unit, void markets, disputed outcomes, the timer; over restarts too."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paper_floor import ASK, BID, TICKER, Floor
from trading.domain.markets import MarketStatus

D = Decimal


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    """Alice holds 10 YES of bob's at 0.40; the timer runs for a minute."""
    floor = Floor(tmp_path / "journal.jsonl").list_market(settlement_timer_seconds=60)
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    return floor


def total(floor: Floor) -> Decimal:
    accounts = floor.exchange.ledger.accounts.values()
    fees = sum((fill.fee for account in accounts for fill in account.fills), D(0))
    rounding = sum((item.rounding for account in accounts for item in account.settlements), D(0))
    return sum((account.balance for account in accounts), D(0)) + fees + rounding


@settings(max_examples=60, deadline=None)
@given(lots=st.integers(1, 100_000), value=st.integers(0, 10_000))
def test_a_scalar_value_pays_to_the_balance_grid_and_the_rest_is_a_fee(lots: int, value: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        floor = Floor(Path(folder) / "journal.jsonl").list_market(fee_multiplier=0)
        count = f"{D(lots) / 100:.2f}"
        floor.send("bob", ASK, "0.40", count)
        floor.send("alice", BID, "0.40", count)
        floor.exchange.determine(TICKER, "scalar", value)
        floor.exchange.settle(TICKER)
        assert total(floor) == D(2000)
        for account in floor.exchange.ledger.accounts.values():
            (paid,) = account.settlements
            (position,) = account.settled_positions
            assert 0 <= paid.rounding < D("0.0001")
            assert paid.revenue == paid.revenue.quantize(D("0.0001"))
            assert paid.fees == position.fees >= paid.rounding
            assert position.realized - position.fees == account.balance - 1000


def test_a_void_market_pays_the_last_price(floor: Floor) -> None:
    floor.send("bob", ASK, "0.70", "1")
    floor.send("alice", BID, "0.70", "1")
    before = floor.balance("alice")
    floor.exchange.void(TICKER)
    listing = floor.exchange.listing(TICKER)
    assert (listing.result, listing.value_ticks, listing.status) == ("scalar", 7000, MarketStatus.DETERMINED)
    assert floor.balance("alice") == before
    floor.exchange.settle(TICKER)
    assert floor.balance("alice") == before + D("7.7")
    assert total(floor) == D(2000)


def test_a_void_market_that_never_traded_pays_the_middle(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl").list_market()
    floor.exchange.void(TICKER)
    assert floor.exchange.listing(TICKER).value_ticks == 5000


def test_a_disputed_outcome_is_not_paid_until_it_is_fixed_anew(floor: Floor) -> None:
    with pytest.raises(ValueError, match="active"):
        floor.exchange.dispute(TICKER)
    floor.exchange.determine(TICKER, "yes")
    floor.exchange.dispute(TICKER)
    floor.exchange.settle(TICKER)
    again = floor.reopen()
    assert again.exchange.listing(TICKER).status is MarketStatus.DISPUTED
    before = again.balance("bob")
    again.exchange.determine(TICKER, "no")
    assert again.exchange.listing(TICKER).status is MarketStatus.AMENDED
    assert again.balance("bob") == before
    again.exchange.settle(TICKER)
    assert again.balance("bob") == before + 10
    assert total(again) == D(2000)


def test_an_amended_market_whose_world_believes_it_paid_is_paid_by_its_timer(floor: Floor) -> None:
    floor.exchange.determine(TICKER, "yes")
    floor.exchange.determine(TICKER, "no")
    assert floor.exchange.listing(TICKER).result == "yes", "an outcome that stands is not changed"
    floor.exchange.dispute(TICKER)
    floor.exchange.settle(TICKER)
    floor.exchange.determine(TICKER, "no")
    floor.clock.pass_by(minutes=15)
    floor.exchange.pass_time()
    assert floor.exchange.listing(TICKER).status is MarketStatus.AMENDED
    floor.clock.pass_by(minutes=1)
    floor.exchange.pass_time()
    assert floor.exchange.listing(TICKER).status is MarketStatus.FINALIZED
    assert total(floor) == D(2000)


def test_the_timer_of_an_orphaned_market_runs_anew_from_the_amendment(floor: Floor) -> None:
    floor.exchange.determine(TICKER, "yes")
    floor.clock.pass_by(minutes=20)
    again = floor.reopen()
    again.clock.pass_by(seconds=31)  # the world had its time to adopt the market
    again.exchange.dispute(TICKER)
    again.exchange.determine(TICKER, "no")
    again.exchange.pass_time()
    assert again.exchange.listing(TICKER).status is MarketStatus.AMENDED
    again.clock.pass_by(seconds=61)
    again.exchange.pass_time()
    assert again.exchange.listing(TICKER).status is MarketStatus.FINALIZED
    assert [item.result for item in again.exchange.ledger.accounts["bob"].settlements] == ["no"]
