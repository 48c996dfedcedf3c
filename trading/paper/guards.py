"""What must hold after each fill, and ends orders when it does not: money for what rests, and the limits of order
groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from trading.paper.events import GroupChanged
from trading.paper.groups import Group
from trading.paper.purses import Purse
from trading.paper.records import FillRecord, OrderRecord
from trading.paper.steps import Steps


class Guards:
    """Watches accounts for the floor. `withdraw` ends an open order, resting or just coming in. Call within a step."""

    def __init__(self, steps: Steps, withdraw: Callable[[OrderRecord, str | None], None]) -> None:
        self._steps = steps
        self._ledger = steps.ledger
        self._withdraw = withdraw

    def after_fills(self, fills: Iterable[FillRecord], incoming: str | None = None) -> None:
        """Trigger the groups that these fills took over their limit, and cancel what their accounts can no longer fund.
        `incoming` is the order that is being matched, which is the last to be given up."""
        for fill in fills:
            group = self._ledger.groups.get(fill.order_group_id)
            if group is not None and group.is_over_limit(self._steps.current.at_ms):
                self.trigger(group)
            self.enforce_margin(fill.account_id, incoming)

    def enforce_margin(self, account_id: str, incoming: str | None = None) -> None:
        """Cancel an account's newest resting orders until the rest can be funded (API.md 12: MarginCancel)."""
        for purse in list(self._ledger.accounts[account_id].purses.values()):
            self._enforce(purse, incoming)

    def trigger(self, group: Group) -> None:
        """Cancel a group's orders and let none in until it is reset. The exchange has no reason of its own for it."""
        now_ms = self._steps.current.at_ms
        self._steps.book(msgspec.structs.replace(group.record, is_triggered=True, updated_ms=now_ms))
        self._steps.tell(GroupChanged("triggered", group.record, now_ms))
        self.cancel_orders(group)

    def cancel_orders(self, group: Group) -> None:
        """Cancel everything that a group rests."""
        for order_id in list(group.open_orders):
            order = self._ledger.order(order_id)
            if order is not None:
                self._withdraw(order, None)

    def _enforce(self, purse: Purse, incoming: str | None) -> None:
        if purse.available >= 0:
            return
        newest = sorted(purse.resting(), key=lambda order: (order.order_id == incoming, -order.sequence))
        for order in newest:
            self._withdraw(order, "MarginCancel")
            if purse.available >= 0:
                return
