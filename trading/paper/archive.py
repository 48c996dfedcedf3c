"""The historical tier: which records have left the live one (API.md 10, `GET /historical/cutoff`).

Nothing is moved: a record belongs to the archive once it is older than the cutoff of its kind, and is served from there
alone. The cutoffs follow the clock. A market is known to the archive from its settlement on, and stays in the live tier
until the cutoff has passed it. Orders that rest and positions that are not settled never leave the live tier.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from trading.paper.conduct import Conduct
from trading.paper.listing import Listing
from trading.paper.positions import Position
from trading.paper.records import FillRecord, OrderRecord, SettlementRecord
from trading.paper.wire import rfc3339, to_ms


class Archive:
    """Tells archived from live by the clock. Tests are made once per request: a list may hold many thousand records."""

    def __init__(self, conduct: Conduct, clock: Callable[[], datetime]) -> None:
        self._conduct = conduct
        self._clock = clock

    def cutoffs(self) -> dict[str, str]:
        """The answer of `GET /historical/cutoff`."""
        records = rfc3339(self._clock() - self._conduct.horizon)
        return {
            "market_settled_ts": records,
            "trades_created_ts": records,
            "orders_updated_ts": rfc3339(self._clock() - self._conduct.order_horizon),
            "market_positions_last_updated_ts": records,
        }

    def order_test(self) -> Callable[[OrderRecord], bool]:
        """A test whether an order was canceled or executed before the cutoff of this moment."""
        cutoff = to_ms(self._clock() - self._conduct.order_horizon)
        return lambda order: not order.is_open and order.updated_ms < cutoff

    def time_test(self) -> Callable[[int], bool]:
        """A test whether a trade of such a time is archived."""
        cutoff = to_ms(self._clock() - self._conduct.horizon)
        return lambda at_ms: at_ms < cutoff

    def fill_test(self) -> Callable[[FillRecord], bool]:
        is_old = self.time_test()
        return lambda fill: is_old(fill.at_ms)

    def settlement_test(self) -> Callable[[SettlementRecord], bool]:
        """Archived settlement records are served nowhere; the historical positions remain (openapi.yaml)."""
        is_old = self.time_test()
        return lambda settlement: is_old(settlement.at_ms)

    def position_test(self) -> Callable[[Position], bool]:
        is_old = self.time_test()
        return lambda position: position.settled and is_old(position.updated_ms)

    def market_test(self) -> Callable[[Listing], bool]:
        """A test whether a market has left the live tier."""
        is_old = self.time_test()
        return lambda listing: listing.settled_ms is not None and is_old(listing.settled_ms)
