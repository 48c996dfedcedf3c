"""Single values of the wire in our units. Raises UnreadableAnswer (E606) on whatever cannot be a true value.

Exactness: decimal strings become `Decimal`, never float. A price that is missing is None: the exchange writes an
empty side or an untraded market as "0.0000" (or "1.0000" for an ask), at which nothing can trade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar

from trading.domain.book import RawLevel, lots, side_and_tick, ticks
from trading.domain.fees import FeeType
from trading.domain.orders import BookSide, OrderState, Side, state_from_status
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.reports import Result

_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")
_READING: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,12})?")
_RESULTS: Final[dict[str, Result]] = {"yes": "yes", "no": "no", "scalar": "scalar"}

EnumWord = TypeVar("EnumWord", bound=StrEnum)


def number(text: str) -> Decimal:
    """A decimal string as the exchange writes it: digits, at most 6 decimals, no exponent, no NaN."""
    if not _NUMBER.fullmatch(text):
        raise UnreadableAnswer(f"{text[:40]!r} is not a decimal number")
    return Decimal(text)


def reading(text: str) -> Decimal:
    """A value of an index: finer than any money, in units of its own."""
    if not _READING.fullmatch(text):
        raise UnreadableAnswer(f"{text[:40]!r} is not a decimal number")
    return Decimal(text)


def count(text: str) -> Decimal:
    """A quantity of contracts, zero or more."""
    value = number(text)
    if value < 0:
        raise UnreadableAnswer(f"a quantity of {value} is impossible")
    return value


def price(text: str) -> Decimal:
    """A dollar price from 0 to 1, both included."""
    value = number(text)
    if not 0 <= value <= 1:
        raise UnreadableAnswer(f"a price of {value} is impossible")
    return value


def quoted(text: str) -> Decimal | None:
    """A price at which something can trade, or None: 0 and 1 stand for "no such order"."""
    value = price(text)
    return value if 0 < value < 1 else None


def optional_price(text: str | None) -> Decimal | None:
    return None if not text else price(text)


def moment(text: str) -> datetime:
    """An RFC 3339 time, aware, in UTC."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableAnswer(f"{text[:40]!r} is not a time") from error
    if value.tzinfo is None:
        raise UnreadableAnswer(f"the time {text!r} has no zone")
    return value.astimezone(UTC)


def optional_moment(text: str | None) -> datetime | None:
    """A time, or None where it is absent, empty or the zero time that the exchange writes as year 1."""
    return None if not text or text.startswith("0001-") else moment(text)


def from_seconds(seconds: int) -> datetime:
    return _from_unix(seconds)


def from_millis(millis: int) -> datetime:
    return _from_unix(millis / 1000)


def word(kind: type[EnumWord], text: str) -> EnumWord:
    """A word of a closed list; a new one is a change of the contract that we do not guess at."""
    try:
        return kind(text)
    except ValueError as error:
        raise UnreadableAnswer(f"{text[:40]!r} is no {kind.__name__} that we know") from error


def fee_type(text: str) -> FeeType:
    """The fee type; one that we do not know counts as `flat`, whose fee cannot be computed (fail closed)."""
    try:
        return FeeType(text)
    except ValueError:
        return FeeType.FLAT


def multiplier(value: Decimal) -> Decimal:
    if not value.is_finite() or value < 0:
        raise UnreadableAnswer(f"a fee multiplier of {value} is impossible")
    return value


def levels(
    pairs: Iterable[tuple[str, str]], side: Side, *, use_yes_price: bool = False
) -> tuple[RawLevel, ...]:
    """Book levels as (ticks, lots) on the YES scale."""
    try:
        return tuple(
            (side_and_tick(side, ticks(at), use_yes_price=use_yes_price)[1], lots(size)) for at, size in pairs
        )
    except ValueError as error:
        raise UnreadableAnswer(f"unreadable book level: {error}") from error


def result(text: str) -> Result:
    try:
        return _RESULTS[text]
    except KeyError:
        raise UnreadableAnswer(f"{text[:40]!r} is no result that we know") from None


def order_state(status: str, filled: Decimal, initial: Decimal) -> OrderState:
    try:
        return state_from_status(status, filled, initial)
    except ValueError as error:
        raise UnreadableAnswer(str(error)) from error


def direction(book_side: str, outcome_side: str) -> BookSide:
    """The side of the YES book. The wire says it twice; if the two disagree, neither is believed (API.md 4)."""
    side = word(BookSide, book_side)
    if (side is BookSide.BID) != (word(Side, outcome_side) is Side.YES):
        raise UnreadableAnswer(f"book_side {book_side} contradicts outcome_side {outcome_side}")
    return side


def _from_unix(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise UnreadableAnswer(f"{seconds} is not a Unix time") from error
