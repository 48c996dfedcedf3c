"""How numbers and times are written on the wire (API.md 4)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from trading.domain.matching import LOTS_PER_CONTRACT, TICKS_PER_DOLLAR, Lots, Ticks
from trading.domain.orders import BookSide
from trading.domain.prices import MONEY_STEP

MONEY_GRID = Decimal("0.0001")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=2 * TICKS_PER_DOLLAR)
def dollars(ticks: Ticks) -> str:
    """`0.5600`."""
    return f"{ticks // TICKS_PER_DOLLAR}.{ticks % TICKS_PER_DOLLAR:04d}"


def count_fp(lots: Lots) -> str:
    """`10.00`, `-2.50`."""
    sign, size = ("-", -lots) if lots < 0 else ("", lots)
    return f"{sign}{size // LOTS_PER_CONTRACT}.{size % LOTS_PER_CONTRACT:02d}"


def money(amount: Decimal) -> str:
    """`0.017500`: costs and fees carry six decimals."""
    return f"{amount.quantize(MONEY_STEP, ROUND_HALF_EVEN):f}"


def balance_text(amount: Decimal) -> str:
    """`9999.4625`: balances stand on the direct member's grid of $0.0001."""
    return f"{amount.quantize(MONEY_GRID, ROUND_FLOOR):f}"


def cents(amount: Decimal) -> int:
    """Whole cents, truncated."""
    return int(amount * 100)


def json_number(amount: Decimal | None) -> int | float | None:
    """A JSON number, for the fee multipliers: the contract has them as numbers, not as strings."""
    if amount is None:
        return None
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def ticks_decimal(ticks: Ticks) -> Decimal:
    return Decimal(ticks) / TICKS_PER_DOLLAR


def lots_decimal(lots: Lots) -> Decimal:
    return Decimal(lots) / LOTS_PER_CONTRACT


def to_ms(moment: datetime) -> int:
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """`2026-08-07T12:00:05.460000Z`."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text}Z"


def rfc3339_ms(ms: int) -> str:
    return rfc3339(from_ms(ms))


def outcome_side(side: BookSide) -> str:
    return "yes" if side is BookSide.BID else "no"


def direction(side: BookSide) -> dict[str, str]:
    """The current pair of direction fields and the deprecated one that still travels (API.md 1, 2026-05-06)."""
    return {"outcome_side": outcome_side(side), "book_side": side.value}


def legacy_direction(side: BookSide) -> dict[str, str]:
    """The deprecated `side` and `action`: an ask is shown as buying NO."""
    return {"side": outcome_side(side), "action": "buy"}
