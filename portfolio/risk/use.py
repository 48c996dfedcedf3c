"""How much of each limit is used now, by what, and how much room is left. Read-only: nothing is locked or decided.

What undone orders hold counts as filled, as it does for the gateway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from portfolio.domain.limits import PAPER_LIMITS, WARN_SHARE, Limit
from portfolio.models import Position, Reservation
from portfolio.risk.gateway import limits

ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Use:
    """One limit and how far it is used. `used` is None for a bound on each single order; `subject` uses it most."""

    limit: Limit
    value: Decimal
    used: Decimal | None = None
    subject: str = ""

    @property
    def left(self) -> Decimal | None:
        return None if self.used is None else self.value - self.used

    @property
    def share(self) -> Decimal | None:
        if self.used is None:
            return None
        return self.used / self.value if self.value else Decimal(self.used > 0)

    @property
    def is_over(self) -> bool:
        """Beyond the limit: it was tightened after, or the books moved; nothing more is opened."""
        return self.left is not None and self.left < 0

    @property
    def is_near(self) -> bool:
        return self.share is not None and self.share > WARN_SHARE


def limit_use(venue: str, *, unattended: Decimal) -> list[Use]:
    """Every limit with its greatest use; `unattended` dollars were approved without a person today."""
    values = limits()
    found = {name: max(uses, key=lambda use: use.share or ZERO) for name, uses in _measured(venue, values)}
    found["auto_daily"] = Use(PAPER_LIMITS["auto_daily"], values["auto_daily"], unattended)
    return [found.get(name) or Use(limit, values[name]) for name, limit in PAPER_LIMITS.items()]


def nearest(venue: str, *, shown: int) -> list[Use]:
    """What would reach its limit next: every event and market counted by itself, the fullest first."""
    books = [
        found for name, found in _measured(venue, limits()) if name != "order_notional"
    ]  # each order by itself
    uses = [use for found in books for use in found if use.used]
    return sorted(uses, key=lambda use: use.share or ZERO, reverse=True)[:shown]


def _measured(venue: str, values: Mapping[str, Decimal]) -> Iterable[tuple[str, list[Use]]]:
    """Per limit that measures the books: everything it is measured on."""
    held = list(Position.objects.held(venue).values_list("ticker", "event_ticker", "quantity", "cost"))
    undone = list(
        Reservation.objects.standing(venue).values_list(
            "ticker", "event_ticker", "signed_quantity", "unit_cost", "unit_fee"
        )
    )
    contracts: dict[str, Decimal] = defaultdict(Decimal)
    events: dict[str, Decimal] = defaultdict(Decimal)
    for ticker, event, quantity, cost in held:
        contracts[ticker] += quantity
        events[event] += cost
    for ticker, event, quantity, cost, _ in undone:
        contracts[ticker] += quantity
        events[event] += abs(quantity) * cost
    orders = {ticker: abs(quantity) * cost for ticker, _, quantity, cost, _ in undone}
    committed = sum((abs(quantity) * (cost + fee) for _, _, quantity, cost, fee in undone), ZERO)
    measured: dict[str, dict[str, Decimal]] = {
        "order_notional": orders,
        "position": {ticker: abs(count) for ticker, count in contracts.items()},
        "event_exposure": events,
        "total_exposure": {"": sum(events.values(), ZERO)},
        "cash_committed": {"": committed},
    }
    for name, amounts in measured.items():
        limit, value = PAPER_LIMITS[name], values[name]
        yield name, [Use(limit, value, used, subject) for subject, used in (amounts or {"": ZERO}).items()]
