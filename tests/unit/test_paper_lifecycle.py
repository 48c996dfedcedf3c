"""The life of orders and markets on the paper exchange: refusals, time, pauses, and what a restart brings back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.paper_floor import ASK, BID, START, TICKER, Floor, refusal
from trading.domain.orders import TimeInForce
from trading.paper import entry
from trading.paper.journal import JournalDamaged
from trading.paper.refusals import Refused
from trading.paper.tickets import read_ticket


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path / "journal.jsonl").list_market()


# Refusals


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"price": "0.405"}, (400, "invalid_price")),
        ({"price": "0"}, (400, "invalid_price")),
        ({"price": "1.00"}, (400, "invalid_price")),
        ({"price": "-0.40"}, (400, "invalid_price")),
        ({"count": "0"}, (400, "invalid_order_size")),
        ({"count": "1.001"}, (400, "invalid_order_size")),
        ({"count": "-1"}, (400, "invalid_order_size")),
        ({"expiration_time": 1}, (400, "invalid_order")),
        ({"reduce_only": True}, (400, "invalid_order")),
    ],
)
def test_an_illegal_order_is_refused_with_its_code(
    floor: Floor, fields: dict[str, Any], expected: tuple[int, str]
) -> None:
    whole = {"side": BID, "price": "0.40", "count": "1", **fields}
    assert refusal(lambda: floor.send("alice", **whole))[:2] == expected
    assert not floor.exchange.ledger.accounts["alice"].orders


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (b"{", "code"),
        (b"[]", "error"),
        (b'{"ticker":"A","side":"bid","count":1,"price":"0.40"}', "error"),
        (b'{"ticker":"A","side":"up","count":"1","price":"0.40"}', "error"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_bad_request(body: bytes, shape: str) -> None:
    with pytest.raises(Refused) as caught:
        read_ticket(body)
    assert caught.value.status == 400
    assert shape in caught.value.body


def test_a_client_order_id_is_spent_for_good(floor: Floor) -> None:
    first = floor.send("alice", BID, "0.40", "1", client_order_id="once")
    floor.cancel("alice", first.order_id)
    for again in (floor, floor.reopen()):
        twice = refusal(lambda venue=again: venue.send("alice", BID, "0.40", "1", client_order_id="once"))  # type: ignore[misc]
        assert twice[:2] == (409, "order_already_exists")
    assert floor.send("bob", BID, "0.40", "1", client_order_id="once").status == "resting"


def test_a_killed_fill_or_kill_has_spent_its_id_too(floor: Floor) -> None:
    killed = refusal(lambda: floor.send("alice", BID, "0.40", "1", client_order_id="k", tif=TimeInForce.FOK))
    assert killed[:2] == (409, "fill_or_kill_insufficient_resting_volume")
    again = floor.reopen()
    assert (
        refusal(lambda: again.send("alice", BID, "0.40", "1", client_order_id="k"))[1]
        == "order_already_exists"
    )


def test_a_canceled_order_cannot_be_canceled_again(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "2")
    canceled, reduced = floor.cancel("alice", order.order_id)
    assert (canceled.status, canceled.remaining_lots, reduced) == ("canceled", 0, 200)
    assert refusal(lambda: floor.cancel("alice", order.order_id))[:2] == (404, "not_found")
    assert refusal(lambda: floor.cancel("bob", order.order_id))[:2] == (404, "not_found")


# Time and life of a market


def test_an_order_expires_at_its_time(floor: Floor) -> None:
    expires = int((START + timedelta(seconds=30)).timestamp())
    order = floor.send("alice", BID, "0.40", "1", expiration_time=expires)
    floor.clock.pass_by(seconds=29)
    floor.exchange.pass_time()
    assert floor.exchange.ledger.order(order.order_id) is not None
    floor.clock.pass_by(seconds=1)
    floor.exchange.pass_time()
    expired = floor.exchange.ledger.accounts["alice"].orders[order.order_id]
    assert (expired.status, expired.reason) == ("canceled", "ExpiryCancel")


def test_at_the_close_resting_orders_are_canceled_and_nothing_more_is_taken(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "1")
    floor.clock.pass_by(minutes=15)
    assert refusal(lambda: floor.send("alice", BID, "0.40", "1"))[1] == "market_inactive"
    floor.exchange.pass_time()
    assert floor.exchange.status(TICKER) == "closed"
    assert floor.exchange.ledger.accounts["alice"].orders[order.order_id].reason == "CloseCancel"
    assert refusal(lambda: floor.cancel("alice", order.order_id))[1] == "market_inactive"


def test_a_pause_refuses_orders_allows_cancels_and_empties_the_book_when_it_ends(floor: Floor) -> None:
    stays = floor.send("alice", BID, "0.40", "1")
    goes = floor.send("alice", BID, "0.41", "1", cancel_order_on_pause=True)
    floor.exchange.pause_market(TICKER)
    orders = floor.exchange.ledger.accounts["alice"].orders
    assert (orders[stays.order_id].status, orders[goes.order_id].status) == ("resting", "canceled")
    assert refusal(lambda: floor.send("alice", BID, "0.40", "1"))[:2] == (409, "trading_is_paused")
    floor.exchange.open_market(TICKER)
    assert orders[stays.order_id].status == "canceled"


# Restart


def test_a_restart_brings_back_orders_places_and_the_market(floor: Floor) -> None:
    first = floor.send("alice", BID, "0.40", "5")
    second = floor.send("bob", BID, "0.40", "5")
    again = floor.reopen()
    assert again.exchange.status(TICKER) == "active"
    assert again.position(second.order_id) == 500
    again.exchange.house_submit("taker", TICKER, ASK, 4000, 700)
    orders = again.exchange.ledger.accounts
    assert orders["alice"].orders[first.order_id].filled_lots == 500
    assert orders["bob"].orders[second.order_id].filled_lots == 200


def test_a_market_that_no_world_adopts_is_ended_at_the_last_traded_price(floor: Floor) -> None:
    floor.send("bob", ASK, "0.30", "10")
    floor.send("alice", BID, "0.30", "10")
    resting = floor.send("alice", BID, "0.20", "10")
    again = floor.reopen()
    assert list(again.exchange.restored()) == [TICKER]
    again.clock.pass_by(minutes=16)
    again.exchange.pass_time()
    alice = again.exchange.ledger.accounts["alice"]
    assert alice.orders[resting.order_id].status == "canceled"
    (settled,) = alice.settlements
    assert (settled.result, settled.revenue) == ("scalar", Decimal("3.0"))
    assert again.exchange.status(TICKER) == "finalized"


def test_a_market_that_a_world_adopts_is_left_to_it(floor: Floor) -> None:
    floor.send("bob", ASK, "0.30", "10")
    floor.send("alice", BID, "0.30", "10")
    again = floor.reopen().list_market()
    again.clock.pass_by(minutes=20)
    again.exchange.pass_time()
    assert again.exchange.status(TICKER) == "closed"
    assert again.lots("alice") == 1000
    again.exchange.determine(TICKER, "yes")
    again.exchange.settle(TICKER)
    assert again.exchange.ledger.accounts["alice"].settlements[0].revenue == Decimal(10)


def test_a_torn_last_line_is_cut_off_and_what_was_whole_stays(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    floor.reopen()
    whole = floor.path.read_bytes()
    floor.path.write_bytes(whole + whole.splitlines()[-1][:40])
    again = Floor(floor.path, floor.clock)
    assert again.exchange.ledger.order(order.order_id) is not None
    assert floor.path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_stops_the_start(floor: Floor) -> None:
    floor.send("alice", BID, "0.40", "5")
    floor.reopen()
    lines = floor.path.read_bytes().splitlines(keepends=True)
    floor.path.write_bytes(b"".join([lines[0], b"?" + lines[1], *lines[2:]]))
    with pytest.raises(JournalDamaged, match="line 2"):
        Floor(floor.path, floor.clock)


def test_a_compacted_journal_tells_the_same_story(floor: Floor) -> None:
    floor.send("bob", ASK, "0.30", "10")
    floor.send("alice", BID, "0.30", "7")
    floor.exchange.determine(TICKER, "yes")
    floor.exchange.settle(TICKER)
    before = floor.exchange.ledger
    fresh = type(before)()
    for record in before.records():
        fresh.apply(record)
    for name, account in before.accounts.items():
        assert fresh.accounts[name].balance == account.balance
        assert fresh.accounts[name].fills == account.fills
        assert fresh.accounts[name].settlements == account.settlements
        assert fresh.accounts[name].orders == account.orders
        assert fresh.accounts[name].spent_ids == account.spent_ids
    assert list(fresh.records()) == list(before.records())


# Pauses of the exchange


@pytest.mark.parametrize("flag", ["trading_active", "exchange_active"])
def test_a_pause_of_the_exchange_cancels_what_asked_for_it_and_leaves_the_rest(
    floor: Floor, flag: str
) -> None:
    stays = floor.send("alice", BID, "0.40", "1")
    goes = floor.send("alice", BID, "0.41", "1", cancel_order_on_pause=True)
    setattr(floor.exchange, flag, False)
    assert floor.order("alice", goes.order_id).reason == "HaltCancel"
    assert floor.order("alice", stays.order_id).is_open
    assert refusal(lambda: floor.send("alice", BID, "0.40", "1"))[:2] == (409, "trading_is_paused")
    house = floor.exchange.house_submit("taker", TICKER, ASK, 4000, 100)
    assert (house.filled_lots, house.remaining_lots) == (0, 0), "nothing trades in a pause"
    setattr(floor.exchange, flag, True)
    assert floor.exchange.house_submit("taker", TICKER, ASK, 4000, 100).filled_lots == 100


def test_a_trading_pause_allows_cancels_and_an_exchange_pause_does_not(floor: Floor) -> None:
    order = floor.send("alice", BID, "0.40", "5")
    floor.exchange.trading_active = False
    assert floor.decrease("alice", order.order_id, by=100).remaining_lots == 400
    floor.exchange.exchange_active = False
    paused = (409, "trading_is_paused")
    assert refusal(lambda: floor.cancel("alice", order.order_id))[:2] == paused
    assert refusal(lambda: floor.decrease("alice", order.order_id, by=100))[:2] == paused
    assert refusal(lambda: entry.cancel_all(floor.exchange, "alice"))[:2] == paused
    floor.exchange.exchange_active = True
    assert floor.cancel("alice", order.order_id)[1] == 400


def test_a_pause_of_one_shard_leaves_the_others_alone(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "two", shards=2).list_market()
    order = floor.send("alice", BID, "0.40", "1", cancel_order_on_pause=True)
    floor.exchange.set_active(trading=False, shard=1)
    assert floor.order("alice", order.order_id).is_open
    floor.exchange.set_active(trading=False, shard=0)
    assert floor.order("alice", order.order_id).reason == "HaltCancel"


# Every word for a last update that the exchange has and that can happen here


def test_self_trade_prevention_has_its_word_on_either_side(floor: Floor) -> None:
    resting = floor.send("alice", ASK, "0.45", "2")
    stopped = floor.send("alice", BID, "0.45", "2")
    assert (stopped.status, stopped.reason) == ("canceled", "SelfTradeCancel")
    assert floor.order("alice", resting.order_id).is_open
    going_on = floor.send("alice", BID, "0.45", "2", self_trade="maker")
    assert (going_on.status, going_on.reason) == ("resting", None)
    assert floor.order("alice", resting.order_id).reason == "SelfTradeCancel"


def test_a_reduce_only_order_that_was_capped_says_so(floor: Floor) -> None:
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    floor.send("bob", BID, "0.40", "30")
    capped = floor.send("alice", ASK, "0.40", "30", tif=TimeInForce.IOC, reduce_only=True)
    assert (capped.filled_lots, capped.reason) == (1000, "ReduceOnlyCancel")


def test_no_more_orders_may_rest_than_the_exchange_allows(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "MOST_OPEN_ORDERS", 2)
    orders = [floor.send("alice", BID, "0.40", "1") for _ in range(2)]
    assert refusal(lambda: floor.send("alice", BID, "0.40", "1"))[:2] == (400, "invalid_order")
    assert floor.send("bob", BID, "0.40", "1").status == "resting", "each member has its own"
    floor.cancel("alice", orders[0].order_id)
    assert floor.send("alice", BID, "0.40", "1").status == "resting"
