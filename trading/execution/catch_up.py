"""What the private channels may have missed, asked by REST: they have no sequence and no replay (API.md 14.6).

After every (re)connect, after news was lost on our side, and once a minute: orders, fills, then a comparison of the
positions. Repeating it changes nothing; the update loop compares everything else as well.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trading.exchange.errors import ExchangeError
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler

log = logging.getLogger(__name__)

EVERY: Final = 60.0  # seconds
SOON: Final = 1.0
AGAIN: Final = 5.0  # after the exchange was out of reach


@dataclass(slots=True)
class CatchUp:
    """Not thread-safe: one thread asks. Before the first `needed` it does nothing."""

    reconciler: Reconciler
    monotonic: Callable[[], float] = time.monotonic
    _due_at: float = math.inf

    def needed(self) -> None:
        """Something may have been missed: ask at the next occasion."""
        self._due_at = -math.inf

    def soon(self) -> None:
        """Something came that only REST can explain: ask within a second, once for all that comes meanwhile."""
        self._due_at = min(self._due_at, self.monotonic() + SOON)

    def if_due(self) -> Reconciled | None:
        """Ask if it is time; what was found, or None. Never raises for an exchange that is out of reach."""
        if self.monotonic() < self._due_at:
            return None
        self._due_at = self.monotonic() + AGAIN
        found = Reconciled()
        try:
            opened_at = self.reconciler.open_account()
            self.reconciler.orders(found)
            self.reconciler.fills(found, opened_at)
            self.reconciler.compare(found)
        except ExchangeError as error:
            log.warning("own_stream.catch_up.failed", extra={"error": str(error)})
            return None
        self._due_at = self.monotonic() + EVERY
        if found.position_drift:
            log.warning("own_stream.position.drift", extra={"positions": found.position_drift})
        return found
