"""Changing a resting order: which changes keep its place, which trade at once, which are refused."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.paper_floor import ASK, BID, START, TICKER, Floor, refusal
from trading.domain.matching import SelfTrade
from trading.domain.orders import TimeInForce


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path / "journal.jsonl").list_market()


LATER = int((START + timedelta(minutes=5)).timestamp()) * 1000


# Decrease


@pytest.mark.parametrize("lots", [{"by": 300}, {"to": 200}])
def test_a_decrease_takes_lots_off_and_keeps_the_place(floor: Floor, lots: dict[str, int]) -> None:
    first = floor.send("alice", BID, "0.40", "5")
    second = floor.send("bob", BID, "0.40", "5")
    changed = floor.decrease("alice", first.order_id, **lots)
    assert (changed.status, changed.remaining_lots, changed.reason) == ("resting", 200, "Decrease")
    assert (floor.position(first.order_id), floor.position(second.order_id)) == (0, 200)
    assert floor.exchange.listing(TICKER).book.levels(BID) == [(4000, 700)]


def test_a_decrease_to_nothing_cancels(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    gone = floor.decrease("alice", order.order_id, to=0)
    assert (gone.status, gone.remaining_lots, gone.reason) == ("canceled", 0, "Decrease")
    assert floor.exchange.listing(TICKER).book.levels(BID) == []
    assert refusal(lambda: floor.decrease("alice", order.order_id, by=1))[:2] == (404, "not_found")


def test_a_decrease_frees_the_money_that_was_bound(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.50", "1900")
    assert refusal(lambda: floor.send("alice", BID, "0.10", "1000"))[1] == "insufficient_balance"
    floor.decrease("alice", order.order_id, to=100_000)
    assert floor.send("alice", BID, "0.10", "1000").status == "resting"


@pytest.mark.parametrize("lots", [{"by": 501}, {"to": 501}])
def test_more_than_rests_cannot_be_taken_off(floor: Floor, lots: dict[str, int]) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    assert refusal(lambda: floor.decrease("alice", order.order_id, **lots))[:2] == (400, "invalid_order_size")
    assert floor.order("alice", order.order_id) == order


def test_a_decrease_to_what_rests_changes_nothing(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    assert floor.decrease("alice", order.order_id, to=500) == order


# Amend: place


def test_a_smaller_size_and_another_expiry_keep_the_place(floor: Floor) -> None:
    first = floor.send("alice", BID, "0.40", "5")
    floor.send("bob", BID, "0.40", "5")
    changed = floor.amend("alice", first.order_id, total_lots=300, expires_ms=LATER)
    assert (changed.remaining_lots, changed.expires_ms, changed.reason) == (300, LATER, "Amend")
    assert floor.position(first.order_id) == 0


@pytest.mark.parametrize("change", [{"total_lots": 501}, {"price_ticks": 4000, "total_lots": 900}])
def test_a_larger_size_goes_to_the_back(floor: Floor, change: dict[str, int]) -> None:
    first = floor.send("alice", BID, "0.40", "5")
    second = floor.send("bob", BID, "0.40", "5")
    changed = floor.amend("alice", first.order_id, **change)
    assert changed.remaining_lots == change["total_lots"]
    assert (floor.position(second.order_id), floor.position(first.order_id)) == (0, 500)


def test_another_price_goes_to_the_back_of_its_level_and_there_and_back_loses_the_place(floor: Floor) -> None:
    first = floor.send("alice", BID, "0.40", "5")
    second = floor.send("bob", BID, "0.40", "5")
    floor.amend("alice", first.order_id, price_ticks=3900)
    assert floor.position(first.order_id) == 500
    floor.amend("alice", first.order_id, price_ticks=4000)
    assert (floor.position(second.order_id), floor.position(first.order_id)) == (0, 500)
    again = floor.reopen()
    assert (again.position(second.order_id), again.position(first.order_id)) == (0, 500)


def test_the_count_of_an_amend_includes_what_is_filled(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    floor.send("bob", ASK, "0.40", "2")
    changed = floor.amend("alice", order.order_id, total_lots=400)
    assert (changed.filled_lots, changed.remaining_lots) == (200, 200)


# Amend: expiry and ids


def test_an_expiry_can_be_moved_kept_and_cleared(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5", expiration_time=LATER // 1000)
    kept = floor.amend("alice", order.order_id, total_lots=400)
    assert kept.expires_ms == LATER
    floor.amend("alice", order.order_id, expires_ms=LATER + 60_000)
    floor.clock.pass_by(minutes=5)
    floor.exchange.pass_time()
    assert floor.order("alice", order.order_id).is_open, "the earlier expiry is forgotten"
    floor.amend("alice", order.order_id, expires_ms=None)
    floor.clock.pass_by(minutes=5)
    floor.exchange.pass_time()
    assert floor.order("alice", order.order_id).is_open


def test_an_order_never_trades_after_its_expiry(floor: Floor) -> None:
    """The engine looks at expiries ten times a second: between two looks an order must not meet a dead one."""
    order = floor.send("alice", BID, "0.40", "5", expiration_time=LATER // 1000)
    floor.clock.pass_by(minutes=5)
    taker = floor.send("bob", ASK, "0.40", "5")
    assert taker.filled_lots == 0
    assert floor.order("alice", order.order_id).reason == "ExpiryCancel"


def test_a_new_client_order_id_replaces_the_old_one_and_both_are_spent(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5", client_order_id="old")
    changed = floor.amend("alice", order.order_id, client_order_id="old", updated_client_order_id="new")
    assert changed.client_order_id == "new"
    for venue in (floor, floor.reopen()):
        for name in ("old", "new"):
            spent = refusal(lambda n=name, v=venue: v.send("alice", BID, "0.40", "1", client_order_id=n))  # type: ignore[misc]
            assert spent[:2] == (409, "order_already_exists")


# Amend: trading


def test_a_crossing_amend_trades_at_once_and_the_rest_stands_at_the_new_price(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    floor.send("bob", ASK, "0.45", "2")
    changed = floor.amend("alice", order.order_id, price_ticks=4500)
    assert (changed.filled_lots, changed.remaining_lots, changed.reason) == (200, 300, "Trade")
    assert floor.exchange.listing(TICKER).book.levels(BID) == [(4500, 300)]
    (fill,) = floor.exchange.ledger.accounts["alice"].fills
    assert (fill.is_taker, fill.price_ticks, fill.order_id) == (True, 4500, order.order_id)


def test_one_accumulator_runs_over_an_orders_fills_as_maker_and_as_taker(tmp_path: Path) -> None:
    """API.md 13: rounding is gathered per order over taker and maker fills alike, also when an amend came between."""
    floor = Floor(tmp_path / "j", fee_type="quadratic_with_maker_fees").list_market()
    order = floor.send("alice", BID, "0.52", "9")
    floor.send("bob", ASK, "0.52", "0.33")  # model 0.0014415 -> 0.001442; rounding 0.000058
    half = floor.order("alice", order.order_id)
    assert (half.maker_fees, half.accumulator) == (Decimal("0.0015"), Decimal("0.000058"))
    floor.send("bob", ASK, "0.53", "0.33")  # model 0.0057541 -> 0.005755; rounding 0.000045: a step is full
    changed = floor.amend("alice", order.order_id, price_ticks=5300)
    assert changed.taker_fees == Decimal("0.0057")
    assert changed.accumulator == Decimal("0.000003")


def test_a_post_only_order_that_an_amend_would_let_cross_is_canceled(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5", post_only=True)
    floor.send("bob", ASK, "0.45", "2")
    gone = floor.amend("alice", order.order_id, price_ticks=4500)
    assert (gone.status, gone.filled_lots, gone.reason) == ("canceled", 0, "PostOnlyCrossCancel")
    assert floor.exchange.listing(TICKER).book.levels(BID) == []


def test_an_amend_that_would_meet_an_own_order_is_refused_or_cancels_that(floor: Floor) -> None:
    stops = floor.send("alice", BID, "0.40", "5")
    goes_on = floor.send("alice", BID, "0.41", "5", self_trade=SelfTrade.MAKER.value)
    own = floor.send("alice", ASK, "0.45", "2")
    crossing = refusal(lambda: floor.amend("alice", stops.order_id, price_ticks=4500))
    assert crossing[:2] == (400, "self_cross_attempt")
    assert floor.order("alice", stops.order_id) == stops
    moved = floor.amend("alice", goes_on.order_id, price_ticks=4500)
    assert (moved.status, moved.remaining_lots) == ("resting", 500)
    assert floor.order("alice", own.order_id).reason == "SelfTradeCancel"


def test_an_own_order_behind_enough_others_is_no_obstacle(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "2")
    floor.send("bob", ASK, "0.44", "2")
    floor.send("alice", ASK, "0.45", "2")
    assert floor.amend("alice", order.order_id, price_ticks=4500).status == "executed"


# Amend: refusals


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"side": ASK}, (400, "order_side_mismatch")),
        ({"client_order_id": "other"}, (400, "order_id_and_client_order_id_mismatch")),
        ({"price_ticks": 4050}, (400, "invalid_price")),
        ({"total_lots": 200}, (400, "invalid_amend_qty_for_order")),
        ({"expires_ms": 1}, (400, "invalid_order")),
        ({"price_ticks": 9900, "total_lots": 200_000}, (400, "insufficient_balance")),
        ({"updated_client_order_id": "spent"}, (409, "order_already_exists")),
    ],
)
def test_a_refused_amend_leaves_the_order_as_it_was(
    floor: Floor, change: dict[str, Any], expected: tuple[int, str]
) -> None:
    floor.send("alice", BID, "0.10", "1", client_order_id="spent")
    order = floor.send("alice", BID, "0.40", "5")
    floor.send("bob", ASK, "0.40", "2")
    order = floor.order("alice", order.order_id)
    assert refusal(lambda: floor.amend("alice", order.order_id, **change))[:2] == expected
    assert floor.order("alice", order.order_id) == order
    assert floor.position(order.order_id) == 0


def test_an_ended_order_cannot_be_amended(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    floor.send("bob", ASK, "0.40", "5")
    assert refusal(lambda: floor.amend("alice", order.order_id, price_ticks=4100))[:2] == (404, "not_found")


def test_the_money_of_the_order_itself_counts_for_its_amend(floor: Floor) -> None:
    """With 1000 dollars and 950 of them bound by the order, it may still move to where it needs 990."""
    order = floor.send("alice", BID, "0.95", "1000")
    assert floor.amend("alice", order.order_id, price_ticks=9900).status == "resting"
    grown = refusal(lambda: floor.amend("alice", order.order_id, total_lots=110_000))
    assert grown[:2] == (400, "insufficient_balance")


# Pauses


def test_in_a_pause_an_order_may_be_made_smaller_but_not_amended(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    floor.exchange.pause_market(TICKER)
    paused = refusal(lambda: floor.amend("alice", order.order_id, total_lots=400))
    assert paused[:2] == (409, "trading_is_paused")
    assert floor.decrease("alice", order.order_id, to=400).remaining_lots == 400


# The sweep stops where the money ends


@pytest.fixture
def poor(tmp_path: Path) -> Floor:
    """A thousand offers of a hundredth each at 0.011, and members who have what ten contracts of it cost as one fill.

    Each of the small fills rounds up by most of a grid step, and from so small a fee no rebate can be paid.
    """
    ranges = [{"start": "0.0000", "end": "1.0000", "step": "0.0010"}]
    floor = Floor(tmp_path / "poor", deposit="0.1180").list_market(price_ranges=ranges)
    for _ in range(1_000):
        floor.exchange.house_submit("maker", TICKER, ASK, 110, 1)
    return floor


def test_a_taker_is_stopped_before_its_fills_cost_more_than_it_has(poor: Floor) -> None:
    taken = poor.send("alice", BID, "0.0110", "10")
    assert (taken.status, taken.reason) == ("canceled", "MarginCancel")
    assert 0 < taken.filled_lots < 1_000
    assert poor.balance("alice") >= 0


def test_a_fill_or_kill_that_could_not_pay_for_all_its_fills_is_refused(poor: Floor) -> None:
    refused = refusal(lambda: poor.send("alice", BID, "0.0110", "10", tif=TimeInForce.FOK))
    assert refused[:2] == (400, "insufficient_balance")
    assert poor.balance("alice") == Decimal("0.1180")
