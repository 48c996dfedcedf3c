"""Money between the purses of an account: subaccounts, shards, rebalancing; nothing is made or lost on the way."""

from __future__ import annotations

import uuid
from decimal import Decimal
from pathlib import Path

import pytest

from tests.paper_floor import ASK, BID, TICKER, Floor, refusal
from trading.paper.records import AccountOpened
from trading.paper.treasury import moves, targets

D = Decimal


def two_shards(path: Path) -> Floor:
    """Alice has an account on two shards; the market stands on shard 1."""
    floor = Floor(path / "journal.jsonl", shards=2)
    return floor.list_market(exchange_index=1)


def cash(floor: Floor, subaccount: int = 0, shard: int = 0, account: str = "alice") -> Decimal:
    return floor.exchange.ledger.accounts[account].purse(subaccount, shard).balance


def total(floor: Floor) -> Decimal:
    """All money: in purses and on its way."""
    ledger = floor.exchange.ledger
    held = sum((account.balance for account in ledger.accounts.values()), D(0))
    return held + sum((t.amount for t in ledger.pending_transfers.values()), D(0))


def test_an_order_needs_its_collateral_on_its_markets_shard(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    assert refusal(lambda: floor.send("alice", BID, "0.50", "10"))[1] == "insufficient_balance"
    floor.exchange.treasury.transfer("alice", (0, 0), (0, 1), D(100))
    floor.exchange.pass_time()
    order = floor.send("alice", BID, "0.50", "10")
    assert (order.exchange_index, order.status) == (1, "resting")


def test_money_between_shards_arrives_a_moment_later_and_survives_a_crash_on_the_way(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    made = floor.exchange.treasury.transfer("alice", (0, 0), (0, 1), D("250.25"))
    assert (made.status, cash(floor), cash(floor, shard=1)) == ("pending", D("749.75"), D(0))
    again = floor.reopen()
    assert (cash(again), cash(again, shard=1)) == (D("749.75"), D(0))
    again.exchange.pass_time()
    assert (cash(again), cash(again, shard=1)) == (D("749.75"), D("250.25"))
    third = again.reopen()
    third.exchange.pass_time()
    assert cash(third, shard=1) == D("250.25"), "it arrives once"


def test_a_transfer_id_is_good_once_per_shard(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    name = str(uuid.uuid4())
    floor.exchange.treasury.transfer("alice", (0, 0), (0, 1), D(10), name)
    again = floor.reopen()
    assert refusal(lambda: again.exchange.treasury.transfer("alice", (0, 0), (0, 1), D(10), name))[0] == 409
    again.exchange.pass_time()
    again.exchange.treasury.transfer("alice", (0, 1), (0, 0), D(10), name)


def test_subaccounts_hold_their_own_money_orders_and_positions(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl").list_market()
    number = floor.exchange.treasury.open_subaccount("alice", 0)
    assert number == 1
    assert refusal(lambda: floor.send("alice", BID, "0.40", "1", subaccount=1))[1] == "insufficient_balance"
    assert refusal(lambda: floor.send("alice", BID, "0.40", "1", subaccount=2))[0] == 404
    floor.exchange.treasury.transfer("alice", (0, 0), (1, 0), D(50))
    floor.send("bob", ASK, "0.40", "20")
    floor.send("alice", BID, "0.40", "10", subaccount=1)
    floor.send("alice", BID, "0.40", "10")
    account = floor.exchange.ledger.accounts["alice"]
    assert (account.position_lots(TICKER, 0), account.position_lots(TICKER, 1)) == (1000, 1000)
    floor.send("bob", BID, "0.40", "5")
    floor.send("alice", ASK, "0.40", "5", subaccount=1)
    assert (account.position_lots(TICKER, 0), account.position_lots(TICKER, 1)) == (1000, 500)
    again = floor.reopen()
    assert again.exchange.ledger.accounts["alice"].purses == account.purses
    again.exchange.determine(TICKER, "yes")
    again.exchange.settle(TICKER)
    assert sorted(s.subaccount for s in again.exchange.ledger.accounts["alice"].settlements) == [0, 1]


def test_opposite_positions_of_two_subaccounts_stay_apart(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl").list_market()
    floor.exchange.treasury.open_subaccount("alice", 0)
    floor.exchange.treasury.transfer("alice", (0, 0), (1, 0), D(100))
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    floor.send("bob", BID, "0.40", "10")
    floor.send("alice", ASK, "0.40", "10", subaccount=1)
    account = floor.exchange.ledger.accounts["alice"]
    assert (account.position_lots(TICKER, 0), account.position_lots(TICKER, 1)) == (1000, -1000)
    assert floor.exchange.listing(TICKER).open_interest == 1000, "two subaccounts do not net"


def test_what_a_transfer_leaves_unfunded_is_canceled_for_margin(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl").list_market()
    floor.exchange.treasury.open_subaccount("alice", 0)
    first = floor.send("alice", BID, "0.50", "100")
    second = floor.send("alice", BID, "0.50", "1000")
    floor.exchange.treasury.transfer("alice", (0, 0), (1, 0), D(900))
    orders = floor.exchange.ledger.accounts["alice"].orders
    assert orders[first.order_id].status == "resting"
    assert (orders[second.order_id].status, orders[second.order_id].reason) == ("canceled", "MarginCancel")


def test_more_than_the_balance_never_moves(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    for amount, code in (
        ("1000.01", "insufficient_balance"),
        ("0", "invalid_parameters"),
        ("-5", "invalid_parameters"),
    ):
        call = floor.exchange.treasury.transfer
        assert refusal(lambda a=amount, c=call: c("alice", (0, 0), (0, 1), D(a)))[1] == code
    assert total(floor) == D(2000)


def test_an_account_has_at_most_63_subaccounts(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl")
    assert [floor.exchange.treasury.open_subaccount("alice", 0) for _ in range(63)] == list(range(1, 64))
    assert refusal(lambda: floor.exchange.treasury.open_subaccount("alice", 0))[0] == 400


def test_cash_is_spread_by_percent_every_ten_seconds_and_leaves_what_rests_its_margin(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    floor.exchange.treasury.set_allocation("alice", {0: 25, 1: 75}, "sum")
    floor.exchange.pass_time()
    assert cash(floor) == D(1000), "not before the cycle"
    floor.clock.pass_by(seconds=10)
    floor.exchange.pass_time()
    assert (cash(floor), cash(floor, shard=1)) == (D(250), D(750))
    order = floor.send("alice", BID, "0.50", "1000")
    floor.exchange.treasury.set_allocation("alice", {0: 100}, "sum")
    floor.clock.pass_by(seconds=10)
    floor.exchange.pass_time()
    kept = floor.exchange.ledger.accounts["alice"].purse(0, 1)
    assert kept.balance == kept.reserved[TICKER]
    assert floor.exchange.ledger.accounts["alice"].orders[order.order_id].status == "resting"
    floor.exchange.treasury.set_allocation("alice", {0: 100}, "none")
    floor.clock.pass_by(seconds=10)
    floor.exchange.pass_time()
    assert cash(floor, shard=1) == 0
    assert floor.exchange.ledger.accounts["alice"].orders[order.order_id].reason == "MarginCancel"
    assert total(floor) == D(2000)
    assert floor.reopen().exchange.ledger.accounts["alice"].purses == kept_purses(floor)


def kept_purses(floor: Floor) -> object:
    return floor.exchange.ledger.accounts["alice"].purses


def test_an_allocation_must_be_whole_and_an_empty_one_ends_it(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    treasury = floor.exchange.treasury
    assert refusal(lambda: treasury.set_allocation("alice", {0: 50, 1: 49}, "sum"))[0] == 400
    assert refusal(lambda: treasury.set_allocation("alice", {0: 50, 7: 50}, "sum"))[0] == 400
    treasury.set_allocation("alice", {1: 100}, "sum")
    treasury.set_allocation("alice", {}, "sum")
    floor.clock.pass_by(seconds=11)
    floor.exchange.pass_time()
    assert cash(floor) == D(1000)


def test_shares_and_moves_lose_nothing() -> None:
    assert targets(D("100.0001"), {0: 33, 1: 33, 2: 34}) == {
        0: D("33.0001"),
        1: D("33.0000"),
        2: D("34.0000"),
    }
    assert moves({0: D(5), 1: D(3)}, {2: D(6), 3: D(2)}) == [(0, 2, D(5)), (1, 2, D(1)), (1, 3, D(2))]


@pytest.mark.parametrize("index", [0, 1])
def test_a_shard_is_paused_alone(tmp_path: Path, index: int) -> None:
    floor = two_shards(tmp_path)
    floor.exchange.treasury.transfer("alice", (0, 0), (0, 1), D(100))
    floor.exchange.pass_time()
    order = floor.send("alice", BID, "0.10", "1")
    floor.exchange.shards.trading_active[index] = False
    if index == 1:
        assert refusal(lambda: floor.send("alice", BID, "0.10", "1"))[1] == "trading_is_paused"
    else:
        floor.send("alice", BID, "0.10", "1")
    assert floor.exchange.ledger.accounts["alice"].orders[order.order_id].status == "resting"


def test_a_market_of_a_shard_that_is_not_there_stands_on_shard_0(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl").list_market(exchange_index=3)
    assert floor.exchange.listing(TICKER).exchange_index == 0
    assert floor.exchange.catalog.events["TEST-1"]["exchange_index"] == 0


def test_markets_of_the_journal_keep_their_shard_when_the_exchange_starts_with_fewer(tmp_path: Path) -> None:
    floor = two_shards(tmp_path)
    floor.exchange.treasury.transfer("alice", (0, 0), (0, 1), D(100))
    floor.exchange.pass_time()
    order = floor.send("alice", BID, "0.10", "1")
    floor.shards = 1
    again = floor.reopen()
    assert len(again.exchange.shards) == 2
    assert again.exchange.ledger.order(order.order_id) is not None


def test_money_of_a_shard_is_seen_when_the_exchange_starts_with_fewer(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl", shards=3)
    floor.exchange.treasury.transfer("alice", (0, 0), (0, 2), D(100))
    floor.shards = 1
    again = floor.reopen()
    assert len(again.exchange.shards) == 3
    again.exchange.pass_time()
    assert cash(again, shard=2) == D(100)


def test_a_deposit_is_journaled_once(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "journal.jsonl")
    floor.exchange.open_account(AccountOpened("alice", "alice", D(5)))
    assert cash(floor) == D(1000)
