"""What the ledger can be rebuilt from: its own records (compaction), and journals of earlier formats."""

from __future__ import annotations

import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.paper_floor import ASK, BID, START, TICKER, Clock, Floor, refusal
from trading.paper.ledger import Ledger

D = Decimal
JOURNALS = Path(__file__).parents[1] / "journals"
LEG, OTHER = "EX-1-A", "EX-1-B"


def state(ledger: Ledger) -> dict[str, Any]:
    """Everything that answers are made from."""
    return {
        "accounts": ledger.accounts,
        "markets": ledger.markets,
        "events": ledger.events,
        "owners": ledger.owners,
        "schedules": ledger.schedules,
        "fee_changes": ledger.fee_changes,
        "pending": ledger.pending_transfers,
        "last": ledger.last_sequence,
    }


def busy(path: Path) -> Floor:
    """An exchange on which everything that is journaled has happened."""
    floor = Floor(path, shards=2).list_market().list_exclusive(LEG, OTHER)
    exchange, treasury = floor.exchange, floor.exchange.treasury
    exchange.change_series_fee("TEST", "quadratic", D("0.5"), START + timedelta(seconds=1))
    exchange.change_event_fee("TEST-1", None, None, START + timedelta(hours=1))
    treasury.open_subaccount("alice", 0)
    treasury.transfer("alice", (0, 0), (1, 0), D(100))
    treasury.set_netting("alice", 0, True)
    treasury.set_allocation("bob", {0: 60, 1: 40}, "max")
    for ticker in (TICKER, LEG, OTHER):
        floor.send("bob", BID, "0.40", "10", ticker=ticker)
        floor.send("alice", ASK, "0.40", "7.5", ticker=ticker)
    floor.send("alice", BID, "0.20", "3", subaccount=1)
    floor.clock.pass_by(seconds=11)
    exchange.pass_time()
    treasury.transfer("bob", (0, 1), (0, 0), D("1.2345"))
    exchange.determine(LEG, "no")
    exchange.settle(LEG)
    return floor


def test_the_records_of_a_ledger_build_the_same_ledger(tmp_path: Path) -> None:
    floor = busy(tmp_path / "journal.jsonl")
    rebuilt = Ledger()
    for record in floor.exchange.ledger.records():
        rebuilt.apply(record)
    assert state(rebuilt) == state(floor.exchange.ledger)
    assert list(rebuilt.records()) == list(floor.exchange.ledger.records())


def test_a_journal_read_back_builds_the_same_ledger(tmp_path: Path) -> None:
    floor = busy(tmp_path / "journal.jsonl")
    assert state(floor.reopen().exchange.ledger) == state(floor.exchange.ledger)


def test_a_journal_from_before_subaccounts_and_shards_still_loads(tmp_path: Path) -> None:
    """Written by the exchange that had neither: an open position, an order at rest, a spent id, a settled market."""
    path = tmp_path / "journal.jsonl"
    shutil.copy(JOURNALS / "first_format.jsonl", path)
    floor = Floor(path, Clock(START), numbers=100)
    alice = floor.exchange.ledger.accounts["alice"]
    assert (floor.balance("alice"), floor.balance("bob")) == (D("999.4992"), D("996.4"))
    assert (floor.lots("alice"), floor.lots("bob")) == (400, -400)
    assert {fill.subaccount for fill in alice.fills} | {fill.exchange_index for fill in alice.fills} == {0}
    (resting,) = [order for order in alice.orders.values() if order.is_open]
    assert (resting.subaccount, resting.exchange_index) == (0, 0)
    assert refusal(lambda: floor.send("alice", BID, "0.05", "1", client_order_id="alice-4"))[0] == 409
    floor.list_market()
    floor.send("bob", BID, "0.40", "4")
    floor.send("alice", ASK, "0.40", "4")
    floor.exchange.determine(TICKER, "no")
    floor.exchange.settle(TICKER)
    fees = sum((fill.fee for a in floor.exchange.ledger.accounts.values() for fill in a.fills), D(0))
    assert floor.balance("alice") + floor.balance("bob") == D(2000) - fees
