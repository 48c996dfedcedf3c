"""How this exchange conducts itself where the real one takes its time: by default it keeps nobody waiting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

# Orders are archived after two weeks, everything else after three months (API.md 10).
ORDER_HORIZON = timedelta(days=14)
HORIZON = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Conduct:
    """`read_lag`: how far reads of balance, orders, fills and positions stay behind writes. `order_horizon` and
    `horizon`: after how long ended orders, and other records, move to the historical tier. `maintenance`: whether the
    weekly window (Thursday 03:00 to 05:00 ET) is kept; without it none is announced either."""

    read_lag: timedelta = timedelta(0)
    order_horizon: timedelta = ORDER_HORIZON
    horizon: timedelta = HORIZON
    maintenance: bool = False

    def __post_init__(self) -> None:
        if min(self.read_lag, self.order_horizon, self.horizon) < timedelta(0):
            raise ValueError("neither the read lag nor a horizon can be negative")
