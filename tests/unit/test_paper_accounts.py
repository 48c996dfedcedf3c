"""The paper exchange's accounts: keys and file, money to the last digit, positions and collateral."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.paper_floor import ASK, BID, TICKER, Floor, refusal
from trading.domain.matching import SelfTrade
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.accounts import AccountsUnreadable, load_or_make, make_key
from trading.paper.refusals import Refused


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path / "journal.jsonl").list_market()


# Accounts and keys


def test_the_first_start_makes_a_desk_with_two_private_keys(tmp_path: Path) -> None:
    (desk,) = load_or_make(tmp_path)
    assert (desk.account_id, desk.name, desk.balance) == ("desk", "desk", Decimal("10000.00"))
    assert [(key.name, sorted(key.scopes)) for key in desk.keys] == [
        ("desk-read", ["read"]),
        ("desk-trade", ["read", "write::trade"]),
    ]
    written = json.loads((tmp_path / "accounts.json").read_text())["accounts"][0]["keys"]
    assert [key["algorithm"] for key in written] == ["rsa", "ed25519"]
    private = [tmp_path / "accounts.json", *(tmp_path / key["key_file"] for key in written)]
    assert [path.stat().st_mode & 0o777 for path in private] == [0o600] * 3


def test_a_second_start_finds_the_same_keys(tmp_path: Path) -> None:
    first = [key.key_id for key in load_or_make(tmp_path)[0].keys]
    assert [key.key_id for key in load_or_make(tmp_path)[0].keys] == first


def test_an_entry_may_lock_a_key_to_one_subaccount(tmp_path: Path) -> None:
    load_or_make(tmp_path)
    path = tmp_path / "accounts.json"
    document = json.loads(path.read_text())
    document["accounts"][0]["keys"][0]["subaccount"] = 7
    path.write_text(json.dumps(document))
    assert [key.subaccount for key in load_or_make(tmp_path)[0].keys] == [7, None]
    document["accounts"][0]["keys"][0]["subaccount"] = 64
    path.write_text(json.dumps(document))
    with pytest.raises(AccountsUnreadable, match="64"):
        load_or_make(tmp_path)


def test_a_parent_scope_holds_its_children(tmp_path: Path) -> None:
    read, trade = load_or_make(tmp_path)[0].keys
    assert read.may("read")
    assert read.may("read::portfolio_balance")
    assert not read.may("write::trade")
    assert trade.may("write::trade")
    assert not trade.may("write::transfer")


def _break_scope(key: dict[str, Any]) -> None:
    key["scopes"] = ["everything"]


def _break_algorithm(key: dict[str, Any]) -> None:
    key["algorithm"] = "ed25519"


def _break_file(key: dict[str, Any]) -> None:
    key["key_file"] = "missing.pem"


def _break_id(key: dict[str, Any]) -> None:
    del key["key_id"]


@pytest.mark.parametrize("break_it", [_break_scope, _break_algorithm, _break_file, _break_id])
def test_accounts_that_cannot_be_used_stop_the_start(
    tmp_path: Path, break_it: Callable[[dict[str, Any]], None]
) -> None:
    load_or_make(tmp_path)
    path = tmp_path / "accounts.json"
    document = json.loads(path.read_text())
    break_it(document["accounts"][0]["keys"][0])
    path.write_text(json.dumps(document))
    with pytest.raises(AccountsUnreadable, match=r"accounts\.json"):
        load_or_make(tmp_path)


def test_one_key_id_for_two_keys_stops_the_start(tmp_path: Path) -> None:
    load_or_make(tmp_path)
    path = tmp_path / "accounts.json"
    document = json.loads(path.read_text())
    keys = document["accounts"][0]["keys"]
    keys.append({**make_key(tmp_path, "third", "ed25519", ("read",)), "key_id": keys[0]["key_id"]})
    path.write_text(json.dumps(document))
    with pytest.raises(AccountsUnreadable, match="twice"):
        load_or_make(tmp_path)


# Money


def test_a_takers_fee_is_the_published_one_to_the_digit(floor: Floor) -> None:
    """API.md 13: one contract at 0.52 costs 0.017500 (0.017472 model; -0.537472 floors to -0.5375)."""
    floor.send("bob", ASK, "0.52", "1")
    taken = floor.send("alice", BID, "0.52", "1")
    assert taken.status == "executed"
    assert taken.taker_fees == Decimal("0.0175")
    assert floor.balance("alice") == Decimal(1000) - Decimal("0.5375")


def test_a_plain_maker_pays_no_fee_and_a_charged_maker_a_quarter(tmp_path: Path) -> None:
    for fee_type, fee in (("quadratic", "0"), ("quadratic_with_maker_fees", "0.0438")):
        floor = Floor(tmp_path / fee_type, fee_type=fee_type).list_market()
        maker = floor.send("bob", ASK, "0.50", "10")
        floor.send("alice", BID, "0.50", "10")
        filled = floor.exchange.ledger.accounts["bob"].orders[maker.order_id]
        assert filled.maker_fees == Decimal(fee)


def test_one_orders_rounding_is_gathered_over_its_fills_and_paid_back(floor: Floor) -> None:
    """Each fill of one contract at 0.52 is rounded up by 0.000028; the fourth makes a grid step, which comes back."""
    for _ in range(4):
        floor.send("bob", ASK, "0.52", "1")
    taken = floor.send("alice", BID, "0.52", "4")
    fees = [fill.fee for fill in floor.exchange.ledger.accounts["alice"].fills]
    assert fees == [Decimal("0.0175")] * 3 + [Decimal("0.0174")]
    assert taken.taker_fees == Decimal("0.0699")
    assert floor.balance("alice") == Decimal(1000) - Decimal("2.08") - Decimal("0.0699")


def test_a_pair_of_yes_and_no_nets_at_once_and_returns_its_dollar(floor: Floor) -> None:
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    before = floor.balance("alice")
    floor.send("bob", BID, "0.55", "10")
    sold = floor.send("alice", ASK, "0.55", "10")
    assert floor.lots("alice") == 0
    assert floor.balance("alice") == before + Decimal("5.5") - sold.taker_fees
    position = floor.exchange.ledger.accounts["alice"].purse().positions[TICKER]
    assert (position.realized, position.cost) == (Decimal("1.5"), Decimal(0))


def test_going_through_zero_closes_first_and_then_opens_the_other_side(floor: Floor) -> None:
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    floor.send("bob", BID, "0.60", "25")
    floor.send("alice", ASK, "0.60", "25")
    position = floor.exchange.ledger.accounts["alice"].purse().positions[TICKER]
    assert position.lots == -1500
    assert position.cost == Decimal("0.40") * 15
    assert position.realized == Decimal("0.20") * 10


@pytest.mark.parametrize(
    ("result", "value", "yes_pays", "no_pays"),
    [("yes", None, "10", "0"), ("no", None, "0", "10"), ("scalar", 2500, "2.5", "7.5")],
)
def test_settlement_pays_yes_the_value_and_no_the_rest(
    floor: Floor, result: str, value: int | None, yes_pays: str, no_pays: str
) -> None:
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    before = {name: floor.balance(name) for name in ("alice", "bob")}
    floor.exchange.determine(TICKER, result, value)
    assert floor.balance("alice") == before["alice"], "nothing is paid at determination"
    floor.exchange.settle(TICKER)
    floor.exchange.settle(TICKER)
    assert floor.balance("alice") == before["alice"] + Decimal(yes_pays)
    assert floor.balance("bob") == before["bob"] + Decimal(no_pays)


@dataclass(frozen=True)
class Act:
    account: str
    side: BookSide
    price: int
    lots: int
    tif: TimeInForce
    self_trade: SelfTrade


def _try(floor: Floor, act: Act) -> str | None:
    """Send it; the code of the refusal, if it is refused."""
    price, count = f"0.{act.price:02d}", f"{act.lots / 100:.2f}"
    try:
        floor.send(act.account, act.side, price, count, tif=act.tif, self_trade=act.self_trade.value)
    except Refused as refused:
        return str(refused.body["error"]["code"])
    return None


acts = st.builds(
    Act,
    account=st.sampled_from(["alice", "bob"]),
    side=st.sampled_from(BookSide),
    price=st.integers(1, 99),
    lots=st.integers(1, 40_000),
    tif=st.sampled_from(TimeInForce),
    self_trade=st.sampled_from([SelfTrade.TAKER_AT_CROSS, SelfTrade.MAKER]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(acts, max_size=30), outcome=st.sampled_from(["yes", "no"]))
def test_money_is_neither_made_nor_lost_by_random_trading(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Act], outcome: str
) -> None:
    path = tmp_path_factory.mktemp("floor") / "journal.jsonl"
    floor = Floor(path, fee_type="quadratic_with_maker_fees").list_market()
    accounts = floor.exchange.ledger.accounts
    for act in sequence:
        refused = _try(floor, act)
        assert refused in {None, "insufficient_balance", "fill_or_kill_insufficient_resting_volume"}
        assert accounts["alice"].position_lots(TICKER) == -accounts["bob"].position_lots(TICKER)
        assert all(account.purse().available >= 0 for account in accounts.values()), (
            "all that rests can be paid"
        )
    again = floor.reopen().exchange.ledger.accounts
    for name, account in accounts.items():
        assert again[name].balance == account.balance
        assert again[name].orders == account.orders
        assert again[name].purse().positions == account.purse().positions
        assert again[name].purse().reserved == account.purse().reserved
    floor.exchange.determine(TICKER, outcome)
    floor.exchange.settle(TICKER)
    fees = sum((fill.fee for account in accounts.values() for fill in account.fills), Decimal(0))
    total = sum((account.balance for account in accounts.values()), Decimal(0))
    assert total == Decimal(2000) - fees
    assert not any(account.purse().reserved for account in accounts.values())
    for account in accounts.values():
        booked = sum((fill.change for fill in account.fills), Decimal(0))
        paid = sum((item.revenue for item in account.settlements), Decimal(0))
        assert account.balance == Decimal(1000) + booked + paid
        assert account.balance == account.balance.quantize(Decimal("0.0001")), "balances stay on their grid"


# Collateral


def test_resting_orders_are_not_deducted_but_bind_their_money(floor: Floor) -> None:
    floor.send("alice", BID, "0.90", "1000")
    assert floor.balance("alice") == Decimal(1000)
    assert refusal(lambda: floor.send("alice", BID, "0.20", "1000"))[:2] == (400, "insufficient_balance")
    floor.send("alice", BID, "0.05", "1000")


def test_the_series_own_fee_is_reserved(tmp_path: Path) -> None:
    """At twice the fee, an order that would just fit at the usual one does not."""
    for multiplier, fits in ((1, True), (2, False)):
        floor = Floor(tmp_path / str(multiplier), deposit="1035.1").list_market(fee_multiplier=multiplier)
        floor.send("alice", BID, "0.50", "1000")
        if fits:
            assert floor.send("alice", BID, "0.50", "1000").status == "resting"
        else:
            assert (
                refusal(lambda venue=floor: venue.send("alice", BID, "0.50", "1000"))[1]
                == "insufficient_balance"
            )  # type: ignore[misc]


def test_closing_a_position_needs_no_money(floor: Floor) -> None:
    floor.send("bob", ASK, "0.95", "1000")
    floor.send("alice", BID, "0.95", "1000")
    assert floor.balance("alice") < Decimal(60)
    assert floor.send("alice", ASK, "0.99", "1000").status == "resting"
    assert refusal(lambda: floor.send("alice", ASK, "0.50", "1000"))[:2] == (400, "insufficient_balance")


def test_an_order_that_can_no_longer_be_funded_is_canceled(tmp_path: Path) -> None:
    """Five hundred fills of a hundredth each round their fees up by more than was set aside: the resting order pays."""
    floor = Floor(tmp_path / "journal.jsonl", deposit="2.1456").list_market()
    for _ in range(500):
        floor.exchange.house_submit("maker", TICKER, ASK, 4100, 1)
    resting = floor.send("alice", BID, "0.01", "1")
    taken = floor.send("alice", BID, "0.41", "5")
    assert taken.filled_lots == 500
    account = floor.exchange.ledger.accounts["alice"]
    assert account.orders[resting.order_id].reason == "MarginCancel"
    assert account.purse().available >= 0


def test_reduce_only_trades_no_more_than_the_position(floor: Floor) -> None:
    floor.send("bob", ASK, "0.40", "10")
    floor.send("alice", BID, "0.40", "10")
    floor.send("bob", BID, "0.40", "30")
    closed = floor.send("alice", ASK, "0.40", "30", tif=TimeInForce.IOC, reduce_only=True)
    assert (closed.status, closed.filled_lots, closed.remaining_lots) == ("canceled", 1000, 0)
    again = floor.send("alice", ASK, "0.40", "30", tif=TimeInForce.IOC, reduce_only=True)
    assert (again.status, again.filled_lots, again.reason) == ("canceled", 0, "ReduceOnlyCancel")
