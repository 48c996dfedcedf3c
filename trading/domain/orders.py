"""What an order is and how it may move: sides, times in force, the table of legal moves.

Kalshi keeps one YES book: buying NO at q is an ask at 1 - q (API.md 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from trading.domain.prices import complement


class Side(StrEnum):
    YES = "yes"
    NO = "no"

    @property
    def other(self) -> Side:
        return Side.NO if self is Side.YES else Side.YES


class Action(StrEnum):
    BUY = "buy"
    SELL = "sell"


class BookSide(StrEnum):
    BID = "bid"
    ASK = "ask"


class TimeInForce(StrEnum):
    GTC = "good_till_canceled"
    IOC = "immediate_or_cancel"
    FOK = "fill_or_kill"


class OrderState(StrEnum):
    SENDING = "sending"
    UNKNOWN = "unknown"
    RESTING = "resting"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    ABSENT = "absent"


_S = OrderState
_ON_BOOK = frozenset({_S.RESTING, _S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELED, _S.EXPIRED})

# from -> the states it may move to. Two scars: a canceled or expired order may still turn out filled (the fill's
# message can be overtaken by the cancel's), and an order judged absent may appear after all and is then adopted.
ORDER_TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    _S.SENDING: _ON_BOOK | {_S.UNKNOWN, _S.REJECTED, _S.NOT_SENT},
    _S.UNKNOWN: _ON_BOOK | {_S.ABSENT, _S.REJECTED, _S.NOT_SENT},
    _S.RESTING: _ON_BOOK - {_S.RESTING},
    _S.PARTIALLY_FILLED: _ON_BOOK - {_S.RESTING},
    _S.FILLED: frozenset(),
    _S.CANCELED: frozenset({_S.FILLED, _S.CANCELED}),
    _S.EXPIRED: frozenset({_S.FILLED, _S.EXPIRED}),
    _S.REJECTED: frozenset(),
    _S.NOT_SENT: frozenset(),
    _S.ABSENT: _ON_BOOK,
}

OPEN = frozenset({_S.SENDING, _S.UNKNOWN, _S.RESTING, _S.PARTIALLY_FILLED})  # counts as exposure
CLOSED = frozenset(_S) - OPEN
CANCELABLE = frozenset({_S.RESTING, _S.PARTIALLY_FILLED})
ON_EXCHANGE = _ON_BOOK  # the exchange has confirmed the order at some time


# How far along an order on the exchange is. Evidence that is behind what we know came late and moves nothing back; nor
# does a second word on how it ended: that a canceled order's expiry has passed since does not make it expired.
_PROGRESS = {_S.RESTING: 1, _S.PARTIALLY_FILLED: 2, _S.CANCELED: 3, _S.EXPIRED: 3, _S.FILLED: 4}


def newest(known: OrderState, told: OrderState) -> OrderState:
    """The state to believe when an answer or a message may have been overtaken by a later one."""
    return known if _PROGRESS.get(told, 9) <= _PROGRESS.get(known, 0) else told


class IllegalMove(Exception):
    """A move that ORDER_TRANSITIONS does not allow. Carries both states."""

    code = "E212"

    def __init__(self, before: OrderState, after: OrderState) -> None:
        super().__init__(f"an order cannot move from {before} to {after}")
        self.before, self.after = before, after


def require_move(before: OrderState, after: OrderState) -> None:
    """Raise IllegalMove unless the table allows the move."""
    if after not in ORDER_TRANSITIONS[before]:
        raise IllegalMove(before, after)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a person decides on: action, side, quantity (contracts) and the worst price on that side's own scale."""

    ticker: str
    action: Action
    side: Side
    quantity: Decimal
    limit_price: Decimal

    @property
    def book_side(self) -> BookSide:
        return book_side(self.action, self.side)

    @property
    def yes_price(self) -> Decimal:
        """The limit on the YES scale, as it goes over the wire."""
        return self.limit_price if self.side is Side.YES else complement(self.limit_price)

    @property
    def notional(self) -> Decimal:
        """Price x quantity in dollars, without fees."""
        return self.limit_price * self.quantity

    @property
    def signed_quantity(self) -> Decimal:
        """The change of the position when wholly filled: + towards YES, - towards NO."""
        return self.quantity if self.book_side is BookSide.BID else -self.quantity


def book_side(action: Action, side: Side) -> BookSide:
    """The side of the one YES book (API.md 4): buy YES and sell NO are bids, the others asks."""
    return BookSide.BID if (action is Action.BUY) == (side is Side.YES) else BookSide.ASK


def plain_words(side: BookSide) -> tuple[str, str]:
    """Side and action of a deal that no order of ours explains: a bid buys YES, an ask buys NO."""
    return (Side.YES if side is BookSide.BID else Side.NO).value, Action.BUY.value


def state_from_counts(filled: Decimal, remaining: Decimal) -> OrderState:
    """The state that a create answer implies (API.md 11): there is no status in it, only counts."""
    if remaining > 0:
        return OrderState.PARTIALLY_FILLED if filled > 0 else OrderState.RESTING
    return OrderState.FILLED if filled > 0 else OrderState.CANCELED


def state_from_status(status: str, filled: Decimal, initial: Decimal) -> OrderState:
    """The state behind an order read from the exchange: `resting`, `executed` or `canceled` (API.md 11).

    Raises ValueError on a status we do not know, because guessing would be worse.
    """
    match status:
        case "resting":
            return OrderState.PARTIALLY_FILLED if filled > 0 else OrderState.RESTING
        case "executed":
            return OrderState.FILLED
        case "canceled":
            return OrderState.FILLED if filled >= initial > 0 else OrderState.CANCELED
    raise ValueError(f"unknown order status {status!r}")
