"""Moving cash by REST (API.md 12): subaccounts, shards and how free cash is spread over them.

Needs a key with scope `write::transfer`, which none of the desk's own processes is given. Each write is sent once and
ends in one proven outcome. A transfer carries an id of ours: repeated with the same id, the exchange answers 409 and
moves nothing, which shows that the first one was taken. That is `Unknown` here, as for orders: look at the list.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal

import msgspec

from trading.exchange import cash_messages as messages
from trading.exchange.auth import Signer
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.link import Link
from trading.exchange.outcomes import (
    DoneOutcome,
    SubaccountCreated,
    SubaccountOutcome,
    TransferOutcome,
    TransferTaken,
)
from trading.exchange.transport import Answer, WriteLine
from trading.exchange.writes import Write, done, send_once

Reservation = Literal["none", "max", "sum"]
EVENTS: Final = "event_contract"
_CENTS: Final = Decimal(100)
_CENTI_CENTS: Final = Decimal(10_000)
_LAST_SUBACCOUNT: Final = 63


class Transfers:
    """Writes that move cash within one account."""

    def __init__(self, line: WriteLine) -> None:
        self._line = line

    def create_subaccount(self, *, exchange_index: int | None = None) -> SubaccountOutcome:
        """Make the next subaccount. After an unknown outcome look at the balances before making another."""
        body = msgspec.json.encode(messages.NewSubaccount(exchange_index))
        return send_once(self._line, Write("POST", "/portfolio/subaccounts", body), _created)

    def between_subaccounts(
        self,
        *,
        amount: Decimal,
        from_subaccount: int,
        to_subaccount: int,
        transfer_id: uuid.UUID,
        exchange_index: int | None = None,
    ) -> DoneOutcome:
        """Move dollars (whole cents) between subaccounts of one shard. Raises ValueError for what makes no sense."""
        if from_subaccount == to_subaccount:
            raise ValueError("a transfer needs two different subaccounts")
        for number in (from_subaccount, to_subaccount):
            _require_subaccount(number)
        body = messages.NewSubaccountTransfer(
            client_transfer_id=str(transfer_id),
            from_subaccount=from_subaccount,
            to_subaccount=to_subaccount,
            amount_cents=_whole(amount, _CENTS, "cents"),
            exchange_index=exchange_index,
        )
        write = Write("POST", "/portfolio/subaccounts/transfer", msgspec.json.encode(body))
        return send_once(self._line, write, done)

    def set_netting(self, *, subaccount: int, enabled: bool) -> DoneOutcome:
        """Have collateral of mutually exclusive markets given back in this subaccount, or not. May be repeated."""
        _require_subaccount(subaccount)
        body = msgspec.json.encode(messages.NettingChange(subaccount, enabled))
        return send_once(self._line, Write("PUT", "/portfolio/subaccounts/netting", body), done)

    def between_shards(
        self,
        *,
        amount: Decimal,
        source_shard: int,
        destination_shard: int,
        transfer_id: uuid.UUID | None = None,
        source_subaccount: int | None = None,
        destination_subaccount: int | None = None,
    ) -> TransferOutcome:
        """Move dollars ($0.0001) between shards; it happens later and, between subaccounts, in steps that are not
        undone. An id of our own goes only with the primary account. Raises ValueError for what makes no sense."""
        if source_shard == destination_shard and source_subaccount == destination_subaccount:
            raise ValueError("a transfer needs two different places")
        if transfer_id is not None and (source_subaccount or destination_subaccount):
            raise ValueError("numbered subaccounts take no id of our own for a transfer between shards")
        body = messages.NewShardTransfer(
            source=EVENTS,
            destination=EVENTS,
            amount=_whole(amount, _CENTI_CENTS, "units of $0.0001"),
            source_exchange_shard=source_shard,
            destination_exchange_shard=destination_shard,
            source_subaccount=source_subaccount,
            destination_subaccount=destination_subaccount,
            client_transfer_id=None if transfer_id is None else str(transfer_id),
        )
        write = Write("POST", "/portfolio/intra_exchange_instance_transfer", msgspec.json.encode(body))
        return send_once(self._line, write, _taken)

    def set_target_allocation(
        self, percent_by_shard: Mapping[int, int], *, reservation: Reservation = "sum"
    ) -> DoneOutcome:
        """Let the exchange spread free cash by these percentages (together 100); without any it stops doing so.

        `reservation` says what stays for resting orders; "sum" leaves enough for all of them. May be repeated.
        """
        if percent_by_shard and sum(percent_by_shard.values()) != 100:
            raise ValueError(f"the shares make {sum(percent_by_shard.values())} percent, not 100")
        if any(not 0 <= percent <= 100 or shard < 0 for shard, percent in percent_by_shard.items()):
            raise ValueError("a share is a percentage from 0 to 100 of a shard from 0")
        body = messages.NewAllocations(
            [messages.Allocation(shard, percent) for shard, percent in sorted(percent_by_shard.items())],
            reservation,
        )
        write = Write("POST", "/portfolio/target_balance_allocation", msgspec.json.encode(body))
        return send_once(self._line, write, done)

    def close(self) -> None:
        """Close the connection."""
        self._line.close()


def open_transfers(rest_url: str, signer: Signer, *, link: Link | None = None) -> Transfers:
    """Cash moves for a key with scope `write::transfer`."""
    return Transfers(WriteLine(rest_url, signer, link=link))


def _created(answer: Answer) -> SubaccountCreated:
    told = msgspec.json.decode(answer.body, type=messages.CreatedSubaccount)
    if not 1 <= told.subaccount_number <= _LAST_SUBACCOUNT:
        raise UnreadableAnswer(f"a new subaccount cannot have the number {told.subaccount_number}")
    return SubaccountCreated(told.subaccount_number)


def _taken(answer: Answer) -> TransferTaken:
    told = msgspec.json.decode(answer.body, type=messages.CreatedShardTransfer)
    if not told.transfer_id:
        raise UnreadableAnswer("it names no transfer")
    return TransferTaken(told.transfer_id)


def _require_subaccount(number: int) -> None:
    if not 0 <= number <= _LAST_SUBACCOUNT:
        raise ValueError(f"a subaccount has a number from 0 to {_LAST_SUBACCOUNT}, not {number}")


def _whole(amount: Decimal, units: Decimal, name: str) -> int:
    """The amount in whole units of the wire. Raises ValueError when it is finer, or not above zero."""
    scaled = amount * units
    if amount <= 0 or scaled != scaled.to_integral_value():
        raise ValueError(f"an amount of {amount} is not a positive whole number of {name}")
    return int(scaled)
