"""Cash of subaccounts and shards by REST (API.md 12): the reads. `transfers` has the writes."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from trading.exchange import account_reports as reports
from trading.exchange import cash_messages as messages
from trading.exchange import values
from trading.exchange.auth import Signer
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.link import Link
from trading.exchange.reads import Reads, given
from trading.exchange.transport import Transport

_CENT: Final = values.number("0.01")
_STATUSES: Final = {"pending": False, "complete": True}


class Subaccounts:
    """Where the account's cash is: subaccount by subaccount (0 is the primary one), shard by shard."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def balances(self) -> list[reports.SubaccountBalance]:
        told = self._reads.get("/portfolio/subaccounts/balances", messages.SubaccountBalancesAnswer)
        return [
            reports.SubaccountBalance(
                subaccount=each.subaccount_number,
                exchange_index=each.exchange_index,
                cash=values.number(each.balance),
                updated_at=values.from_seconds(each.updated_ts),
            )
            for each in told.subaccount_balances
        ]

    def transfers(self) -> list[reports.SubaccountTransfer]:
        """All transfers between subaccounts."""
        told = self._reads.all(
            "/portfolio/subaccounts/transfers",
            messages.SubaccountTransfersAnswer,
            lambda page: page.transfers,
            given(limit=1000),
        )
        return [
            reports.SubaccountTransfer(
                transfer_id=each.transfer_id,
                from_subaccount=each.from_subaccount,
                to_subaccount=each.to_subaccount,
                amount=each.amount_cents * _CENT,
                exchange_index=each.exchange_index,
                created_at=values.from_seconds(each.created_ts),
            )
            for each in told
        ]

    def netting(self) -> list[reports.Netting]:
        """In which subaccounts collateral of mutually exclusive markets is given back."""
        told = self._reads.get("/portfolio/subaccounts/netting", messages.NettingAnswer)
        return [
            reports.Netting(each.subaccount_number, each.enabled, each.exchange_index)
            for each in told.netting_configs
        ]

    def shard_transfers(self) -> list[reports.ShardTransfer]:
        """All transfers between shards."""
        told = self._reads.all(
            "/portfolio/intra_exchange_instance_transfers",
            messages.ShardTransfersAnswer,
            lambda page: page.transfers,
            given(limit=500),
        )
        return [_shard_transfer(each) for each in told]

    def shard_transfer(self, transfer_id: str) -> reports.ShardTransfer:
        """One transfer between shards. Raises UnknownThere."""
        told = self._reads.get(
            f"/portfolio/intra_exchange_instance_transfers/{quote(transfer_id, safe='')}",
            messages.ShardTransferAnswer,
        )
        return _shard_transfer(told.transfer)

    def target_allocation(self) -> reports.TargetAllocation:
        """How the exchange spreads free cash over the shards by itself; without shares it does not."""
        told = self._reads.get("/portfolio/target_balance_allocation", messages.AllocationsAnswer)
        return reports.TargetAllocation(
            tuple((each.exchange_index, each.percent) for each in told.allocations),
            told.resting_margin_reservation,
        )

    def close(self) -> None:
        """Close the idle connections."""
        self._reads.close()


def open_subaccounts(rest_url: str, signer: Signer, *, link: Link | None = None) -> Subaccounts:
    """A client for the account of the signer's key."""
    return Subaccounts(Reads(Transport(rest_url, signer, link=link)))


def _shard_transfer(told: messages.ShardTransfer) -> reports.ShardTransfer:
    if told.status not in _STATUSES:
        raise UnreadableAnswer(f"a transfer's status {told.status[:40]!r} is unknown")
    return reports.ShardTransfer(
        transfer_id=told.transfer_id,
        client_transfer_id=told.client_transfer_id,
        source_shard=told.source_exchange_shard,
        destination_shard=told.destination_exchange_shard,
        amount=values.number(told.amount),
        is_complete=_STATUSES[told.status],
        created_at=values.from_seconds(told.created_ts),
    )
