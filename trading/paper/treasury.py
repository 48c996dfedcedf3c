"""Money between the purses of one account: subaccounts, transfers within and between shards, rebalancing (API.md 12).

A transfer may take the whole balance: what rests is no lien on it. Orders that can no longer be funded afterwards are
canceled (MarginCancel), as API.md 12 describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from uuid import uuid4

import msgspec

from trading.paper.accounts import MOST_SUBACCOUNTS
from trading.paper.floor import Floor
from trading.paper.ledger import Account
from trading.paper.purses import Purse
from trading.paper.records import (
    ZERO,
    AllocationSet,
    NettingSet,
    SubaccountOpened,
    TransferRecord,
)
from trading.paper.refusals import Refused, nested, not_found
from trading.paper.shards import Shards
from trading.paper.steps import Steps
from trading.paper.wire import MONEY_GRID

REBALANCE_EVERY = timedelta(seconds=10)
RESERVATIONS = ("none", "max", "sum")


class Treasury:
    """Moves money. Each public call is one step; refusals change nothing."""

    def __init__(self, steps: Steps, floor: Floor, shards: Shards, started_at: datetime) -> None:
        self._steps = steps
        self._ledger = steps.ledger
        self._floor = floor
        self._shards = shards
        self._rebalanced_at = started_at

    def open_subaccount(self, account_id: str, shard: int) -> int:
        """Open the next subaccount, numbered from 1. Raises Refused at 63 and for an unknown shard."""
        account = self._ledger.accounts[account_id]
        self._require_shard(shard)
        number = max(account.subaccounts) + 1
        if number > MOST_SUBACCOUNTS:
            raise nested(400, "too_many_subaccounts", "an account has at most 63 subaccounts")
        with self._steps.step() as step:
            self._steps.book(SubaccountOpened(account_id, number, shard, step.at_ms))
        return number

    def set_netting(self, account_id: str, subaccount: int, enabled: bool) -> None:
        """Switch collateral return on or off. Raises Refused when what it has released is spent and cannot be taken
        back."""
        account = self._ledger.accounts[account_id]
        self._require_subaccount(account, subaccount)
        spent = [p for p in account.purses_of(subaccount) if p.cash < 0]
        if not enabled and account.nets(subaccount) and spent:
            raise nested(400, "insufficient_balance", "the released collateral is spent")
        with self._steps.step() as step:
            self._steps.book(NettingSet(account_id, subaccount, enabled, step.at_ms))
            self._floor.enforce_margin(account_id)

    def transfer(
        self,
        account_id: str,
        source: tuple[int, int],
        destination: tuple[int, int],
        amount: Decimal,
        client_transfer_id: str = "",
    ) -> TransferRecord:
        """Move dollars between two purses, each named by subaccount and shard. Within a shard at once; between shards
        the money is under way until the clock looks next. Raises Refused."""
        account = self._ledger.accounts[account_id]
        self._require_transfer(account, source, destination, amount)
        if client_transfer_id and (source[1], client_transfer_id) in account.transfer_ids:
            raise nested(409, "transfer_already_exists", "a transfer with this client_transfer_id exists")
        if account.purse(*source).balance < amount:
            raise nested(400, "insufficient_balance", "insufficient balance")
        with self._steps.step():
            return self._book(account_id, source, destination, amount, client_transfer_id)

    def set_allocation(self, account_id: str, percents: Mapping[int, int], reservation: str) -> None:
        """Spread the primary subaccount's cash over shards from the next cycle on; no percents end it. Raises
        Refused."""
        if percents and sum(percents.values()) != 100:
            raise nested(400, "invalid_parameters", "invalid parameters", "percentages must total 100")
        for shard in percents:
            self._require_shard(shard)
        with self._steps.step() as step:
            self._steps.book(AllocationSet(account_id, dict(percents), reservation, step.at_ms))

    def pass_time(self, now: datetime) -> None:
        """Let transfers arrive, and rebalance every ten seconds. Call within a step."""
        if self._shards.transfers():
            for transfer in list(self._ledger.pending_transfers.values()):
                self._arrive(transfer)
        if now - self._rebalanced_at >= REBALANCE_EVERY:
            self._rebalanced_at = now
            for account in list(self._ledger.accounts.values()):
                self._rebalance(account)

    def _book(
        self,
        account_id: str,
        source: tuple[int, int],
        destination: tuple[int, int],
        amount: Decimal,
        client_transfer_id: str,
    ) -> TransferRecord:
        at_ms = self._steps.current.at_ms
        transfer = TransferRecord(
            transfer_id=str(uuid4()),
            client_transfer_id=client_transfer_id,
            account_id=account_id,
            from_subaccount=source[0],
            to_subaccount=destination[0],
            from_shard=source[1],
            to_shard=destination[1],
            amount=amount,
            status="complete" if source[1] == destination[1] else "pending",
            created_ms=at_ms,
            at_ms=at_ms,
        )
        self._steps.book(transfer)
        self._floor.enforce_margin(account_id)
        return transfer

    def _arrive(self, transfer: TransferRecord) -> None:
        self._steps.book(
            msgspec.structs.replace(transfer, status="complete", at_ms=self._steps.current.at_ms)
        )

    def _rebalance(self, account: Account) -> None:
        """One cycle: what each shard can spare is added up and spread anew by percent."""
        allocation = account.allocation
        if allocation is None or not allocation.percents or not self._shards.transfers():
            return
        spare = {
            shard: _sweepable(account.purse(0, shard), allocation.reservation)
            for shard in range(len(self._shards))
        }
        wanted = targets(sum(spare.values(), ZERO), allocation.percents)
        gives = {s: spare[s] - wanted.get(s, ZERO) for s in spare if spare[s] > wanted.get(s, ZERO)}
        takes = {s: wanted[s] - spare[s] for s in wanted if wanted[s] > spare[s]}
        for source, destination, amount in moves(gives, takes):
            self._arrive(self._book(account.account_id, (0, source), (0, destination), amount, ""))

    def _require_transfer(
        self, account: Account, source: tuple[int, int], destination: tuple[int, int], amount: Decimal
    ) -> None:
        for subaccount, shard in (source, destination):
            self._require_subaccount(account, subaccount)
            self._require_shard(shard)
        if amount <= 0 or source == destination:
            raise nested(400, "invalid_parameters", "invalid parameters", "nothing would move")
        between = source[1] != destination[1]
        if not (self._shards.transfers() if between else self._shards.runs(source[1])):
            raise nested(409, "transfers_are_paused", "transfers are paused")

    def _require_shard(self, shard: int) -> None:
        if shard not in self._shards:
            raise nested(400, "invalid_parameters", "invalid parameters", f"there is no shard {shard}")

    @staticmethod
    def _require_subaccount(account: Account, subaccount: int) -> None:
        if subaccount not in account.subaccounts:
            raise unknown_subaccount()


def unknown_subaccount() -> Refused:
    return not_found("subaccount")


def targets(total: Decimal, percents: Mapping[int, int]) -> dict[int, Decimal]:
    """Shares of a total by percent, on the balance grid; what rounding leaves goes to the first shard."""
    shares = {
        shard: (total * percent / 100).quantize(MONEY_GRID, ROUND_FLOOR)
        for shard, percent in percents.items()
    }
    first = next(iter(shares))
    shares[first] += total - sum(shares.values(), ZERO)
    return shares


def moves(gives: Mapping[int, Decimal], takes: Mapping[int, Decimal]) -> list[tuple[int, int, Decimal]]:
    """Pair those who have too much with those who have too little: (from, to, amount)."""
    left, found = dict(takes), []
    for source, surplus in gives.items():
        spare = surplus
        for destination in list(left):
            amount = min(spare, left[destination])
            if amount > 0:
                found.append((source, destination, amount))
                spare -= amount
                left[destination] -= amount
    return found


def _sweepable(purse: Purse, reservation: str) -> Decimal:
    """What a rebalance may take from a purse: all but what it leaves behind for resting orders."""
    kept = {
        "none": ZERO,
        "max": max(purse.reserved.values(), default=ZERO),
        "sum": sum(purse.reserved.values(), ZERO),
    }[reservation]
    return max(ZERO, purse.balance - kept)
