"""The laws of money, whatever happens in whatever order: nothing is made or lost, nobody goes below zero; journal
and compaction tell the same."""

from __future__ import annotations

import contextlib
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paper_floor import ASK, BID, TICKER, Floor
from trading.domain.markets import MarketStatus
from trading.paper import entry
from trading.paper.ledger import Ledger
from trading.paper.refusals import Refused

D = Decimal
A, B = "EX-1-A", "EX-1-B"
ACCOUNTS = st.sampled_from(["alice", "bob"])
PLACES = st.tuples(st.integers(0, 1), st.integers(0, 1))  # subaccount, shard
TICKERS = st.sampled_from([A, B, TICKER])
ORDERS = st.tuples(
    *(st.just("order"), ACCOUNTS, st.integers(0, 1), st.sampled_from([BID, ASK])),
    *(TICKERS, st.integers(1, 99), st.integers(1, 1500)),
)
ACTIONS = st.one_of(
    ORDERS,
    ORDERS,
    ORDERS,
    st.tuples(st.just("transfer"), ACCOUNTS, PLACES, PLACES, st.integers(1, 400_000)),
    st.tuples(st.just("netting"), ACCOUNTS, st.integers(0, 1), st.booleans()),
    st.tuples(st.just("allocate"), ACCOUNTS, st.integers(0, 100), st.sampled_from(["none", "max", "sum"])),
    st.tuples(st.just("cancel_all"), ACCOUNTS),
    st.tuples(st.just("pass_time"), st.integers(0, 12)),
    st.tuples(st.just("settle"), TICKERS, st.sampled_from(["yes", "no"])),
)


class Bank:
    """Two accounts with a subaccount each on two shards: exclusive markets on shard 0, another market on shard 1."""

    def __init__(self, path: Path) -> None:
        self.floor = Floor(path, deposit="60", shards=2).list_market(exchange_index=1).list_exclusive(A, B)
        self.ledger = self.floor.exchange.ledger
        for account in ("alice", "bob"):
            self.floor.exchange.treasury.open_subaccount(account, 0)
            self.floor.exchange.treasury.transfer(account, (0, 0), (0, 1), D(20))
        self.floor.exchange.pass_time()

    def order(self, account: str, subaccount: int, side: Any, ticker: str, cents: int, lots: int) -> None:
        self.floor.send(
            *(account, side, f"{D(cents) / 100:.2f}", f"{D(lots) / 100:.2f}"),
            ticker=ticker,
            subaccount=subaccount,
        )

    def transfer(self, account: str, source: Any, destination: Any, centi_cents: int) -> None:
        self.floor.exchange.treasury.transfer(account, source, destination, D(centi_cents) / 10_000)

    def netting(self, account: str, subaccount: int, enabled: bool) -> None:
        self.floor.exchange.treasury.set_netting(account, subaccount, enabled)

    def allocate(self, account: str, percent: int, reservation: str) -> None:
        self.floor.exchange.treasury.set_allocation(account, {0: percent, 1: 100 - percent}, reservation)

    def cancel_all(self, account: str) -> None:
        entry.cancel_all(self.floor.exchange, account)

    def pass_time(self, seconds: int) -> None:
        self.floor.clock.pass_by(seconds=seconds)
        self.floor.exchange.pass_time()

    def settle(self, ticker: str, result: str) -> None:
        """At most one exclusive market wins, as the rules have it."""
        listings = self.floor.exchange.catalog.listings
        other = {A: B, B: A}.get(ticker)
        if other and listings[other].result == "yes":
            result = "no"
        self.floor.exchange.determine(ticker, result)
        self.floor.exchange.settle(ticker)

    def require_laws(self) -> None:
        accounts = self.ledger.accounts.values()
        cash = sum((purse.cash for account in accounts for purse in account.purses.values()), D(0))
        under_way = sum((transfer.amount for transfer in self.ledger.pending_transfers.values()), D(0))
        fees = sum((fill.fee for account in accounts for fill in account.fills), D(0))
        pairs = D(sum(max(0, p.lots) for account in accounts for p in account.positions())) / 100
        assert cash + under_way + fees + pairs == D(120), "every dollar is somewhere"
        assert sum(p.lots for account in accounts for p in account.positions()) == 0
        for account in accounts:
            for purse in account.purses.values():
                assert purse.balance >= 0, "nobody is below zero"
                assert purse.available >= 0, "all that rests can be paid"
                assert all(order.status == "resting" for order in purse.resting())


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=50))
def test_no_order_of_events_makes_or_loses_money(actions: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bank = Bank(Path(folder) / "journal.jsonl")
        for name, *arguments in actions:
            with contextlib.suppress(Refused):
                getattr(bank, name)(*arguments)
            bank.require_laws()
        again = bank.floor.reopen().exchange.ledger
        compact = Ledger()
        for record in bank.ledger.records():
            compact.apply(record)
        for other in (again, compact):
            assert other.accounts == bank.ledger.accounts
            assert other.pending_transfers == bank.ledger.pending_transfers
        for listing in list(bank.floor.exchange.catalog.listings.values()):
            if listing.status is not MarketStatus.FINALIZED:
                bank.settle(listing.ticker, "no")
                bank.require_laws()
        bank.pass_time(1)
        fees = sum((fill.fee for a in bank.ledger.accounts.values() for fill in a.fills), D(0))
        assert sum((a.balance for a in bank.ledger.accounts.values()), D(0)) == D(120) - fees
