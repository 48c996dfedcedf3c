"""Order groups: a limit on how many contracts the orders of a group may match within fifteen seconds (API.md 11).

A group that has matched more than its limit is triggered: its orders are canceled and it takes no new ones until it is
reset. A match is never split: the one that passes the limit happens whole, whatever the group still had is canceled.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from trading.domain.matching import LOTS_PER_CONTRACT, Lots
from trading.paper.records import FillRecord, GroupRecord, OrderRecord

WINDOW_MS = 15_000
LARGEST_LIMIT = 1_000_000 * LOTS_PER_CONTRACT
MOST_GROUPS = 100_000  # per account


@dataclass(slots=True)
class Group:
    """A group with its resting orders and its matches within the window."""

    record: GroupRecord
    open_orders: dict[str, None] = field(default_factory=dict)
    _matches: deque[tuple[int, Lots]] = field(default_factory=deque)
    _sum: Lots = 0

    def count(self, fill: FillRecord) -> None:
        """Note a match of one of its orders. Matches of the very millisecond of a reset count as before it."""
        if fill.at_ms > self.record.counted_from_ms:
            self._matches.append((fill.at_ms, fill.lots))
            self._sum += fill.lots

    def matched(self, now_ms: int) -> Lots:
        """What the group has matched within the rolling window."""
        since = max(now_ms - WINDOW_MS, self.record.counted_from_ms)
        while self._matches and self._matches[0][0] <= since:
            self._sum -= self._matches.popleft()[1]
        return self._sum

    def is_over_limit(self, now_ms: int) -> bool:
        """Whether it is to be triggered now."""
        return not self.record.is_triggered and self.matched(now_ms) > self.record.limit_lots


class Groups:
    """All accounts' groups. Changed by records only, like the ledger it is part of."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._by_account: dict[str, dict[str, Group]] = defaultdict(dict)

    def get(self, group_id: str | None) -> Group | None:
        return None if group_id is None else self._groups.get(group_id)

    def of(self, account_id: str, subaccount: int | None = None) -> list[Group]:
        """An account's groups, oldest first; of one subaccount or of all."""
        own = self._by_account.get(account_id, {}).values()
        return [group for group in own if subaccount in {None, group.record.subaccount}]

    def keep(self, record: GroupRecord) -> None:
        """Take a group as it stands now, or forget a deleted one."""
        group = self._groups.get(record.group_id)
        if record.is_deleted:
            self._groups.pop(record.group_id, None)
            self._by_account[record.account_id].pop(record.group_id, None)
        elif group is None:
            group = self._groups[record.group_id] = Group(record)
            self._by_account[record.account_id][record.group_id] = group
        else:
            group.record = record

    def follow(self, order: OrderRecord) -> None:
        """Know which of a group's orders rest."""
        group = self.get(order.order_group_id)
        if group is None:
            return
        if order.is_open:
            group.open_orders[order.order_id] = None
        else:
            group.open_orders.pop(order.order_id, None)

    def count(self, fill: FillRecord) -> None:
        """Count a fill against its order's group."""
        group = self.get(fill.order_group_id)
        if group is not None:
            group.count(fill)

    def records(self) -> Iterator[GroupRecord]:
        """What the journal needs to know, once it is written anew."""
        for group in self._groups.values():
            yield group.record
