"""Collateral return in mutually exclusive events: what is released, when it is taken back; money is conserved."""

from __future__ import annotations

import contextlib
import tempfile
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paper_floor import ASK, BID, Floor, refusal
from trading.domain.matching import TICKS_PER_DOLLAR
from trading.domain.orders import TimeInForce
from trading.paper.collateral import left_for_yes, released, taken_back
from trading.paper.purses import Purse
from trading.paper.records import AccountOpened
from trading.paper.refusals import Refused

D = Decimal
A, B, C = "EX-1-A", "EX-1-B", "EX-1-C"
NOTHING_SETTLED = TICKS_PER_DOLLAR


def floor_with(tmp_path: Path, *, deposit: str = "1000", netting: bool = True) -> Floor:
    """Three exclusive markets; alice nets, bob does not. Fees are zero, so that sums are plain."""
    floor = Floor(tmp_path / "journal.jsonl", deposit=deposit).list_exclusive(A, B, C)
    for ticker in (A, B, C):
        listing = floor.exchange.listing(ticker)
        listing.series["fee_multiplier"] = 0
        listing.define(listing.definition)
    if netting:
        floor.exchange.treasury.set_netting("alice", 0, True)
    return floor


def sell(floor: Floor, ticker: str, count: str, price: str = "0.40") -> None:
    """Alice goes short (NO) at a price, against bob."""
    floor.send("bob", BID, price, count, ticker=ticker)
    floor.send("alice", ASK, price, count, ticker=ticker)


def purse(floor: Floor, account: str = "alice") -> Purse:
    return floor.exchange.ledger.accounts[account].purse()


@pytest.mark.parametrize(
    ("short", "left", "dollars"),
    [
        ({}, 10_000, "0"),
        ({A: 1000}, 10_000, "0"),
        ({A: 1000, B: 1000}, 10_000, "10"),
        ({A: 1000, B: 1000, C: 1000}, 10_000, "20"),
        ({A: 1000, B: 1, C: 250}, 10_000, "2.51"),
        ({A: 1000, B: 1000}, 0, "20"),
        ({A: 1000}, 2500, "7.5"),
    ],
)
def test_k_equal_legs_release_k_minus_one_dollars(short: dict[str, int], left: int, dollars: str) -> None:
    assert released(short, left) == D(dollars)


def test_settled_markets_leave_the_others_less_to_pay() -> None:
    assert [left_for_yes(paid) for paid in ((), (0, 2500), (10_000,), (6000, 6000))] == [10_000, 7500, 0, 0]


@given(st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 500)), st.integers(0, 10_000))
def test_what_is_released_is_paid_whichever_market_wins(short: dict[str, int], left: int) -> None:
    """The guarantee against every outcome that the rules allow, none at all among them."""
    for winner in (None, A, B, C):
        paid = sum(
            D(lots) / 100 * (1 - (D(left) / 10_000 if winner == ticker else 0))
            for ticker, lots in short.items()
        )
        assert released(short, left) <= paid


@given(
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 200), min_size=2),
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(1, 200)), max_size=6),
)
def test_legs_taken_one_by_one_never_take_back_more_than_was_reserved(
    short: dict[str, int], closings: list[tuple[str, int]]
) -> None:
    """Each leg is reserved as if it went first; whatever order they go in, that covers the sum."""
    wanted: dict[str, int] = {}
    for ticker, lots in closings:
        wanted[ticker] = min(short.get(ticker, 0), wanted.get(ticker, 0) + lots)
    reserved = sum(taken_back(short, NOTHING_SETTLED, t, 0, lots) for t, lots in wanted.items())
    after = {ticker: lots - wanted.get(ticker, 0) for ticker, lots in short.items()}
    together = released(short, NOTHING_SETTLED) - released(after, NOTHING_SETTLED)
    assert together <= reserved


def test_the_second_leg_is_released_at_once_and_may_be_spent(tmp_path: Path) -> None:
    floor = floor_with(tmp_path, deposit="20")
    sell(floor, A, "10")
    assert purse(floor).balance == D(14)
    sell(floor, B, "10")
    assert purse(floor).balance == D(18), "two legs at 0.60 cost 12, and 10 come back"
    sell(floor, C, "10")
    assert purse(floor).balance == D(22)
    floor.send("alice", BID, "0.40", "50", ticker=A, tif=TimeInForce.GTC)


def test_nothing_is_released_unless_netting_is_on(tmp_path: Path) -> None:
    floor = floor_with(tmp_path, deposit="20", netting=False)
    sell(floor, A, "10")
    sell(floor, B, "10")
    assert purse(floor).balance == D(8)
    floor.exchange.treasury.set_netting("alice", 0, True)
    assert purse(floor).balance == D(18)
    floor.exchange.treasury.set_netting("alice", 0, False)
    assert purse(floor).balance == D(8)


def test_netting_cannot_be_switched_off_once_the_money_is_spent(tmp_path: Path) -> None:
    floor = floor_with(tmp_path, deposit="13")
    sell(floor, A, "10")
    sell(floor, B, "10")
    floor.exchange.treasury.open_subaccount("alice", 0)
    floor.exchange.treasury.transfer("alice", (0, 0), (1, 0), D(11))
    assert purse(floor).balance == 0
    assert (
        refusal(lambda: floor.exchange.treasury.set_netting("alice", 0, False))[1] == "insufficient_balance"
    )
    assert purse(floor).released


def test_a_leg_whose_sale_cannot_be_funded_is_refused(tmp_path: Path) -> None:
    """The naive rule, that closing needs nothing, would leave the account below zero."""
    floor = floor_with(tmp_path, deposit="13")
    sell(floor, A, "10")
    sell(floor, B, "10")
    floor.exchange.treasury.open_subaccount("alice", 0)
    floor.exchange.treasury.transfer("alice", (0, 0), (1, 0), D(11))
    floor.send("bob", ASK, "0.40", "10", ticker=A)
    for fields in ({}, {"tif": TimeInForce.IOC, "reduce_only": True}):
        sent: dict[str, Any] = dict(fields)
        code = refusal(lambda sent=sent: floor.send("alice", BID, "0.40", "10", ticker=A, **sent))[1]
        assert code == "insufficient_balance"
    floor.exchange.treasury.transfer("alice", (1, 0), (0, 0), D("4.0001"))
    floor.send("alice", BID, "0.40", "10", ticker=A)
    assert purse(floor).balance == D("0.0001"), "6 come in, 10 are taken back"


def test_a_lone_leg_is_closed_without_funds(tmp_path: Path) -> None:
    floor = floor_with(tmp_path, deposit="6")
    floor.send("bob", BID, "0.40", "9.9", ticker=A)
    floor.send("alice", ASK, "0.40", "9.9", ticker=A)
    floor.send("bob", ASK, "0.90", "9.9", ticker=A)
    floor.send("alice", BID, "0.90", "9.9", ticker=A)
    assert purse(floor).balance == D("1.05")


@pytest.mark.parametrize("order", list(permutations((A, B, C))))
def test_settlement_never_lowers_the_balance_when_one_market_wins(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    for winner in (A, B, C, None):
        folder = tmp_path / str(winner)
        folder.mkdir()
        floor = floor_with(folder)
        for ticker, count in ((A, "10"), (B, "7"), (C, "3")):
            sell(floor, ticker, count)
        seen = [purse(floor).balance]
        for ticker in order:
            floor.exchange.determine(ticker, "yes" if ticker == winner else "no")
            floor.exchange.settle(ticker)
            seen.append(purse(floor).balance)
        assert seen == sorted(seen), "what was released is not taken back"
        assert not purse(floor).released
        loss = {A: 10, B: 7, C: 3, None: 0}[winner]
        assert purse(floor).balance == D(1000) - D("0.6") * 20 + 20 - loss


def test_when_more_is_paid_to_yes_than_can_be_the_rest_is_a_debt(tmp_path: Path) -> None:
    """Two void markets at 0.80: NO gets 0.20 twice, but 10 dollars were released and spent."""
    floor = floor_with(tmp_path, deposit="13")
    sell(floor, A, "10")
    sell(floor, B, "10")
    floor.exchange.treasury.open_subaccount("alice", 0)
    floor.exchange.treasury.transfer("alice", (0, 0), (1, 0), D(11))
    rest = floor.send("bob", ASK, "0.60", "1", ticker=C)
    for ticker in (A, B):
        floor.exchange.determine(ticker, "scalar", 8000)
        floor.exchange.settle(ticker)
    assert purse(floor).balance == D(-6), "4 were paid, 10 had been released"
    assert refusal(lambda: floor.send("alice", BID, "0.60", "1", ticker=C))[1] == "insufficient_balance"
    assert floor.exchange.ledger.accounts["bob"].orders[rest.order_id].status == "resting"


def test_a_restart_releases_the_same(tmp_path: Path) -> None:
    floor = floor_with(tmp_path)
    sell(floor, A, "10")
    sell(floor, B, "7")
    floor.exchange.determine(A, "no")
    floor.exchange.settle(A)
    again = floor.reopen()
    assert purse(again) == purse(floor)
    compact = Floor(tmp_path / "compact.jsonl", floor.clock)
    for record in floor.exchange.ledger.records():
        compact.exchange.ledger.apply(record)
    assert purse(compact) == purse(floor)


ACTIONS = st.tuples(
    st.sampled_from(["alice", "bob", "carol"]),
    st.sampled_from([BID, ASK]),
    st.sampled_from([A, B, C]),
    st.integers(1, 99),
    st.integers(1, 1500),
)


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=40), winner=st.sampled_from([A, B, C, None]))
def test_cash_fees_and_collateral_are_conserved_and_nobody_goes_below_zero(
    actions: list[tuple[str, Any, str, int, int]], winner: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        floor = Floor(Path(folder) / "journal.jsonl", deposit="30").list_exclusive(A, B, C)
        floor.exchange.open_account(AccountOpened("carol", "carol", D(30)))
        for account in ("alice", "carol"):
            floor.exchange.treasury.set_netting(account, 0, True)
        accounts = floor.exchange.ledger.accounts
        for account, side, ticker, cents, lots in actions:
            with contextlib.suppress(Refused):  # for want of funds
                floor.send(account, side, f"{D(cents) / 100:.2f}", f"{D(lots) / 100:.2f}", ticker=ticker)
            for known in accounts.values():
                assert known.purse().available >= 0, "all that rests can be paid, and nobody is below zero"
                assert known.purse().balance >= 0
        fees = sum((fill.fee for known in accounts.values() for fill in known.fills), D(0))
        held = sum(max(0, p.lots) for known in accounts.values() for p in known.positions())
        assert sum((known.purse().cash for known in accounts.values()), D(0)) == D(90) - fees - D(held) / 100
        for ticker in (A, B, C):
            before = {name: known.purse().balance for name, known in accounts.items()}
            floor.exchange.determine(ticker, "yes" if ticker == winner else "no")
            floor.exchange.settle(ticker)
            assert all(known.purse().balance >= before[name] for name, known in accounts.items())
        assert sum((known.purse().balance for known in accounts.values()), D(0)) == D(90) - fees
        again = floor.reopen()
        assert {n: k.purses for n, k in again.exchange.ledger.accounts.items()} == {
            n: k.purses for n, k in accounts.items()
        }
