"""Order groups by REST (API.md 11): a kill switch that the exchange throws when a group fills too fast.

A group counts the contracts matched in the last 15 seconds. Beyond its limit, when triggered by hand, or when its limit
is set below that count, all its orders are canceled and new ones are refused until it is reset. Its reads are
`Account.order_groups` and `Account.order_group`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final
from urllib.parse import quote

import msgspec

from trading.exchange import order_messages as messages
from trading.exchange.auth import Signer
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.link import Link
from trading.exchange.orders.bodies import group_limit
from trading.exchange.outcomes import DoneOutcome, GroupCreated, GroupOutcome
from trading.exchange.reads import given
from trading.exchange.transport import Answer, WriteLine
from trading.exchange.writes import EMPTY_BODY, Write, done, send_once

GROUPS: Final = "/portfolio/order_groups"


class OrderGroups:
    """Writes of order groups over a line of their own. A group lives on one shard: say which."""

    def __init__(self, line: WriteLine) -> None:
        self._line = line

    def create(
        self,
        *,
        contracts_in_15s: Decimal,
        exchange_index: int = 0,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> GroupOutcome:
        """Make a group with a limit of 1 to 1,000,000 contracts (else ValueError). There is no id of our own in it:
        after an unknown outcome look at the list; a group too many does no harm."""
        body = messages.NewGroup(
            contracts_limit_fp=group_limit(contracts_in_15s),
            subaccount=subaccount,
            exchange_index=exchange_index,
        )
        return send_once(
            self._line,
            Write("POST", f"{GROUPS}/create", msgspec.json.encode(body), exchange_index=exchange_index),
            partial(_created, exchange_index),
            signed_ts_ms=signed_ts_ms,
        )

    def limit(
        self,
        order_group_id: str,
        *,
        contracts_in_15s: Decimal,
        exchange_index: int = 0,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> DoneOutcome:
        """Set another limit. One below what was just matched triggers the group at once."""
        body = msgspec.json.encode(messages.GroupLimit(group_limit(contracts_in_15s)))
        return self._change("PUT", order_group_id, "/limit", body, exchange_index, subaccount, signed_ts_ms)

    def trigger(
        self,
        order_group_id: str,
        *,
        exchange_index: int = 0,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> DoneOutcome:
        """Cancel all orders of the group and let none in until it is reset. Repeating it is safe."""
        return self._change(
            "PUT", order_group_id, "/trigger", EMPTY_BODY, exchange_index, subaccount, signed_ts_ms
        )

    def reset(
        self,
        order_group_id: str,
        *,
        exchange_index: int = 0,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> DoneOutcome:
        """Let a triggered group take orders again."""
        return self._change(
            "PUT", order_group_id, "/reset", EMPTY_BODY, exchange_index, subaccount, signed_ts_ms
        )

    def delete(
        self,
        order_group_id: str,
        *,
        exchange_index: int = 0,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> DoneOutcome:
        """Cancel all orders of the group and remove it. Repeating it is safe."""
        return self._change("DELETE", order_group_id, "", None, exchange_index, subaccount, signed_ts_ms)

    def close(self) -> None:
        """Close the connection."""
        self._line.close()

    def _change(
        self,
        method: str,
        order_group_id: str,
        verb: str,
        body: bytes | None,
        exchange_index: int,
        subaccount: int | None,
        signed_ts_ms: int | None,
    ) -> DoneOutcome:
        write = Write(
            method,
            f"{GROUPS}/{quote(order_group_id, safe='')}{verb}",
            body,
            given(exchange_index=exchange_index, subaccount=subaccount),
            exchange_index=exchange_index,
        )
        return send_once(self._line, write, done, signed_ts_ms=signed_ts_ms)


def open_order_groups(rest_url: str, signer: Signer, *, link: Link | None = None) -> OrderGroups:
    """Order groups for a key with scope `write::trade`."""
    return OrderGroups(WriteLine(rest_url, signer, link=link))


def _created(exchange_index: int, answer: Answer) -> GroupCreated:
    told = msgspec.json.decode(answer.body, type=messages.CreatedGroup)
    if not told.order_group_id:
        raise UnreadableAnswer("it names no group")
    if told.exchange_index != exchange_index:
        raise UnreadableAnswer(f"the group is on shard {told.exchange_index}, not {exchange_index}")
    return GroupCreated(told.order_group_id, told.subaccount, told.exchange_index)
