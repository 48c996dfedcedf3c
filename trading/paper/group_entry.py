"""What a member does with order groups: create, reset, trigger, give another limit, delete (API.md 11)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec

from trading.domain.matching import Lots
from trading.paper.events import GroupChanged
from trading.paper.exchange import Exchange
from trading.paper.groups import LARGEST_LIMIT, MOST_GROUPS, Group
from trading.paper.records import GroupRecord
from trading.paper.refusals import bad_request, nested, not_found


def create_group(
    exchange: Exchange, account_id: str, limit_lots: Lots, subaccount: int, exchange_index: int
) -> GroupRecord:
    """A new group on one shard. Raises Refused."""
    _require_limit(limit_lots)
    if subaccount not in exchange.ledger.accounts[account_id].subaccounts:
        raise not_found("subaccount")
    if exchange_index not in exchange.shards:
        raise not_found("exchange shard")
    if len(exchange.ledger.groups.of(account_id)) >= MOST_GROUPS:
        raise bad_request("too many order groups")
    now_ms = exchange.now_ms()
    record = GroupRecord(
        group_id=str(uuid4()),
        account_id=account_id,
        subaccount=subaccount,
        exchange_index=exchange_index,
        limit_lots=limit_lots,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    with exchange.steps.step():
        _change(exchange, "created", record)
    return record


def find_group(
    exchange: Exchange, account_id: str, group_id: str, subaccount: int | None, exchange_index: int | None
) -> Group:
    """An account's group, where the request looks for it (None: anywhere). Raises Refused (404)."""
    group = exchange.ledger.groups.get(group_id)
    if (
        group is None
        or group.record.account_id != account_id
        or subaccount not in {None, group.record.subaccount}
        or exchange_index not in {None, group.record.exchange_index}
    ):
        raise not_found("order group")
    return group


def reset_group(exchange: Exchange, group: Group) -> None:
    """Forget what it has matched and let orders in again."""
    with exchange.steps.step() as step:
        _change(exchange, "reset", _replaced(exchange, group, is_triggered=False, counted_from_ms=step.at_ms))


def trigger_group(exchange: Exchange, group: Group) -> None:
    """Cancel its orders and let none in until it is reset; nothing more happens to a triggered one."""
    _require_engine(exchange, group)
    if not group.record.is_triggered:
        with exchange.steps.step():
            exchange.floor.guards.trigger(group)


def limit_group(exchange: Exchange, group: Group, limit_lots: Lots) -> None:
    """Give it another limit, which triggers it at once when it has matched more within the window. Raises Refused."""
    _require_limit(limit_lots)
    _require_engine(exchange, group)
    with exchange.steps.step() as step:
        _change(exchange, "limit_updated", _replaced(exchange, group, limit_lots=limit_lots))
        if group.is_over_limit(step.at_ms):
            exchange.floor.guards.trigger(group)


def delete_group(exchange: Exchange, group: Group) -> None:
    """Cancel its orders and forget it."""
    _require_engine(exchange, group)
    with exchange.steps.step():
        exchange.floor.guards.cancel_orders(group)
        _change(exchange, "deleted", _replaced(exchange, group, is_deleted=True))


def _replaced(exchange: Exchange, group: Group, **fields: Any) -> GroupRecord:
    return msgspec.structs.replace(group.record, updated_ms=exchange.now_ms(), **fields)


def _change(exchange: Exchange, kind: str, record: GroupRecord) -> None:
    exchange.steps.book(record)
    exchange.steps.tell(GroupChanged(kind, record, exchange.steps.current.at_ms))


def _require_limit(limit_lots: Lots) -> None:
    if not 0 < limit_lots <= LARGEST_LIMIT:
        raise bad_request("the contracts limit is between 0.01 and 1000000")


def _require_engine(exchange: Exchange, group: Group) -> None:
    """While the exchange is paused no order can be canceled, so no group can be ended either."""
    if not exchange.shards.runs(group.record.exchange_index):
        raise nested(409, "trading_is_paused", "exchange is paused")
