"""What one comparison with the exchange looked at, changed and found different."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from django.db import DataError, IntegrityError

from kalshi_site.versioning import StaleVersion
from trading.domain.orders import IllegalMove
from trading.exchange.errors import ExchangeError, IncompleteList, UnknownThere, UnreadableAnswer
from trading.execution.work_items import Difference
from trading.execution.work_kinds import AREAS, KINDS, Area
from trading.models import WorkKind

log = logging.getLogger(__name__)


class Unvalued(ExchangeError):
    """A market is settled, and nothing says at what value."""


# What one record can do wrong; an exchange or a database out of reach is none of it, and rises.
ODD: Final = (
    DataError,
    IntegrityError,
    IllegalMove,
    StaleVersion,
    UnreadableAnswer,
    Unvalued,
    UnknownThere,
    ArithmeticError,
    ValueError,
)


@dataclass(slots=True)
class Reconciled:
    """What one comparison found. `drift` is the difference of cash, in dollars, exchange minus ours.

    `compared` counts the exchange's records by area; `differences` are what it could not set right.
    """

    fills: int = 0
    orders: int = 0
    resolved: int = 0
    settled: int = 0
    adopted: int = 0
    drift: Decimal = Decimal(0)
    position_drift: dict[str, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)  # what could not be taken in, and why
    compared: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self.drift == 0 and not self.position_drift and not self.odd and not self.differences

    @property
    def areas(self) -> dict[Area, dict[str, int]]:
        """By area: how many records were `compared`, how many of ours `changed`, how many still `differ`."""
        changed = {
            "orders": self.orders + self.resolved + self.adopted,
            "fills": self.fills,
            "settlements": self.settled,
        }
        differ = Counter(KINDS[each.kind].area for each in self.differences)
        return {
            area: {
                "compared": self.compared[area],
                "changed": changed.get(area, 0),
                "differ": differ[area],
            }
            for area in AREAS
        }

    def add(self, kind: WorkKind, subject: str, **facts: Any) -> None:
        """Note a difference."""
        self.differences.append(Difference(kind, subject, **facts))

    @contextlib.contextmanager
    def apart(self, record: str, *, ticker: str = "") -> Iterator[None]:
        """One odd record must not hold up all others for ever: it is noted, and looked at again next time.

        A list that came in part is no record: it rises, for what it lacks must not look as if it were not there.
        """
        try:
            yield
        except IncompleteList:
            raise
        except ODD as error:
            log.exception("reconcile.odd_record", extra={"record": record})
            self.odd.append(f"{record}: {error!r}"[:300])
            kind = WorkKind.SETTLEMENT_WITHOUT_VALUE if isinstance(error, Unvalued) else WorkKind.ODD_RECORD
            self.add(kind, ticker or record, detail=repr(error)[:300], ticker=ticker)
