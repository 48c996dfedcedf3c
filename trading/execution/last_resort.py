"""The last resort of a stop of everything: one request that cancels all, when canceling by id does not come to an end.

The exchange may also cancel what is placed within the following minute (API.md 11). So the quiet time is written down
first, and no claim is made before it is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from kalshi_site import audit
from portfolio import risk
from portfolio.domain.scopes import ALL
from portfolio.models import TradingState
from trading.exchange.gateway import OrderGateway
from trading.exchange.outcomes import AllCanceled

log = logging.getLogger(__name__)

QUIET: Final = timedelta(seconds=60)
MOST_LOOKS: Final = 20  # in a row that still listed something; lag alone is over after a few (API.md 8)
MOST_FAILED: Final = 3  # in a row without a list
AGAIN: Final = 10.0  # seconds until it is sent once more


@dataclass(slots=True)
class LastResort:
    """Counts one venue's looks at a stop. Not thread-safe."""

    venue: str
    orders: OrderGateway
    monotonic: Callable[[], float] = time.monotonic
    _looks: int = 0
    _failed: int = 0
    _sent_at: float = float("-inf")

    def saw(self, left: int) -> None:
        """A list came, with so many orders that the stops cover."""
        self._failed = 0
        self._looks = self._looks + 1 if left else 0
        self._act_if_needed()

    def saw_nothing(self) -> None:
        """The exchange gave no list."""
        self._failed += 1
        self._act_if_needed()

    def _act_if_needed(self) -> None:
        if self._looks < MOST_LOOKS and self._failed < MOST_FAILED:
            return
        if self.monotonic() - self._sent_at < AGAIN or not _is_everything_stopped(self.venue):
            return
        self._sent_at = self.monotonic()
        risk.fall_quiet(venue=self.venue, lasting=QUIET)
        outcome = self.orders.cancel_all()
        log.error("orders.cancel_all", extra={"outcome": repr(outcome)})
        audit.record(
            actor="execution",
            actor_kind="system",
            verb="orders.cancel_all",
            object_type="trading_state",
            object_id=self.venue,
            reason="canceling by id did not come to an end" if self._looks else "the exchange gave no list",
            outcome="done" if isinstance(outcome, AllCanceled) else repr(outcome)[:200],
        )
        self._looks = self._failed = 0


def _is_everything_stopped(venue: str) -> bool:
    """It cancels everything: for a stop of less it is no resort."""
    stops = TradingState.objects.filter(venue=venue, scope=ALL, mode=TradingState.Mode.HALTED)
    return stops.filter(cleared_at=None).exists()
