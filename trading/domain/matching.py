"""Price-time matching on one YES book, in whole numbers: prices in ticks of $0.0001, counts in lots of 0.01
contract.

Pure: no clock, no accounts, no wire. The caller checks price grid and funds, then books what `submit` reports.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from trading.domain.orders import BookSide, TimeInForce

TICKS_PER_DOLLAR = 10_000
LOTS_PER_CONTRACT = 100

Ticks = int
Lots = int


def to_ticks(price: Decimal | str) -> Ticks:
    """Dollars to ticks. Raises ValueError for a price finer than $0.0001: rounding would invent a price."""
    return _whole(Decimal(price) * TICKS_PER_DOLLAR, price)


def to_lots(count: Decimal | str) -> Lots:
    """Contracts to lots. Raises ValueError for a count finer than 0.01 contract."""
    return _whole(Decimal(count) * LOTS_PER_CONTRACT, count)


def _whole(scaled: Decimal, given: Decimal | str) -> int:
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{given} is finer than the exchange's step")
    return whole


def opposite(side: BookSide) -> BookSide:
    """The side an order trades against."""
    return BookSide.ASK if side is BookSide.BID else BookSide.BID


class SelfTrade(StrEnum):
    """What happens when an order meets one of the same owner (API.md 11)."""

    TAKER_AT_CROSS = "taker_at_cross"  # the incoming order stops there, its rest is dropped
    MAKER = "maker"  # the resting order is canceled, the incoming one goes on
    PASS_OVER = "pass_over"  # noqa: S105 - no password; not on the wire: recorded liquidity never trades with recorded liquidity


class Refusal(StrEnum):
    """Why an order was not let in at all; the book is unchanged."""

    POST_ONLY_CROSS = "post_only_cross"
    FOK_VOLUME = "fill_or_kill_insufficient_resting_volume"


@dataclass(slots=True, eq=False)
class Order:
    """An order on its way in, or resting. `remaining_lots` falls as it trades."""

    order_id: str
    owner: str
    side: BookSide
    price_ticks: Ticks
    remaining_lots: Lots
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """One trade: `lots` at the resting order's price. `maker` may still rest with what is left of it."""

    maker: Order
    lots: Lots


@dataclass(slots=True)
class Outcome:
    """What one incoming order did. `rested` is what stands on the book now; `dropped` what was neither filled
    nor rested."""

    matches: list[Match] = field(default_factory=list)
    canceled_makers: list[tuple[Order, Lots]] = field(
        default_factory=list
    )  # by self-trade prevention, with their lots
    rested: Lots = 0
    dropped: Lots = 0
    stopped_by_self_trade: bool = False
    refusal: Refusal | None = None

    @property
    def filled(self) -> Lots:
        return sum(match.lots for match in self.matches)


class Level:
    """All orders at one price, oldest first."""

    __slots__ = ("lots", "orders")

    def __init__(self) -> None:
        self.lots: Lots = 0
        self.orders: dict[str, Order] = {}


class Half:
    """One side of the book. Levels are found by rank: the higher, the better (bids rank by price, asks by
    minus price)."""

    __slots__ = ("levels", "ranks", "sign")

    def __init__(self, side: BookSide) -> None:
        self.sign = 1 if side is BookSide.BID else -1
        self.ranks: list[int] = []
        self.levels: dict[int, Level] = {}

    def best(self) -> Ticks | None:
        return self.ranks[-1] * self.sign if self.ranks else None

    def level(self, price_ticks: Ticks) -> Level | None:
        return self.levels.get(price_ticks * self.sign)

    def open_level(self, price_ticks: Ticks) -> Level:
        rank = price_ticks * self.sign
        level = self.levels.get(rank)
        if level is None:
            level = self.levels[rank] = Level()
            insort(self.ranks, rank)
        return level

    def drop_level(self, price_ticks: Ticks) -> None:
        rank = price_ticks * self.sign
        del self.levels[rank]
        del self.ranks[bisect_left(self.ranks, rank)]

    def best_first(self) -> Iterator[tuple[Ticks, Level]]:
        for rank in reversed(self.ranks):
            yield rank * self.sign, self.levels[rank]


class Book:
    """One market's YES book with price-time priority. Never crossed, except among orders that PASS_OVER each
    other."""

    def __init__(self) -> None:
        self.halves: dict[BookSide, Half] = {side: Half(side) for side in BookSide}
        self.orders: dict[str, Order] = {}
        self._expiring: dict[str, int] = {}

    # Looking

    def best(self, side: BookSide) -> tuple[Ticks, Lots] | None:
        """The best price of a side and its total, or None."""
        half = self.halves[side]
        price = half.best()
        return None if price is None else (price, half.levels[half.ranks[-1]].lots)

    def levels(self, side: BookSide) -> list[tuple[Ticks, Lots]]:
        """All levels of a side, best first."""
        return [(price, level.lots) for price, level in self.halves[side].best_first()]

    def lots_at(self, side: BookSide, price_ticks: Ticks) -> Lots:
        level = self.halves[side].level(price_ticks)
        return level.lots if level else 0

    def queue(self, side: BookSide, price_ticks: Ticks) -> list[Order]:
        """The orders at one price, oldest first."""
        level = self.halves[side].level(price_ticks)
        return list(level.orders.values()) if level else []

    def lots_ahead(self, order_id: str) -> Lots:
        """What trades before this resting order at its own price (its queue position). Raises KeyError."""
        mine = self.orders[order_id]
        ahead = 0
        for order in self.queue(mine.side, mine.price_ticks):
            if order is mine:
                break
            ahead += order.remaining_lots
        return ahead

    # Changing

    def submit(
        self,
        order: Order,
        tif: TimeInForce = TimeInForce.GTC,
        *,
        post_only: bool = False,
        self_trade: SelfTrade = SelfTrade.TAKER_AT_CROSS,
    ) -> Outcome:
        """Match an incoming order, then rest or drop what is left of it.

        Raises ValueError for a nonpositive count, a price outside (0, 1) or an order id that already rests.
        """
        if (
            order.remaining_lots <= 0
            or not 0 < order.price_ticks < TICKS_PER_DOLLAR
            or order.order_id in self.orders
        ):
            raise ValueError(f"not an order: {order}")
        outcome = Outcome()
        outcome.refusal = self._refusal(order, tif, post_only, self_trade)
        if outcome.refusal is not None:
            return outcome
        self._match(order, self_trade, outcome)
        left = order.remaining_lots
        if tif is TimeInForce.GTC and not outcome.stopped_by_self_trade and left:
            self.rest(order)
            outcome.rested = left
        else:
            outcome.dropped = left
        return outcome

    def rest(self, order: Order) -> None:
        """Put an order at the back of its level's queue without matching (restoring a saved book)."""
        level = self.halves[order.side].open_level(order.price_ticks)
        level.orders[order.order_id] = order
        level.lots += order.remaining_lots
        self.orders[order.order_id] = order
        if order.expires_ms is not None:
            self._expiring[order.order_id] = order.expires_ms

    def cancel(self, order_id: str) -> Order | None:
        """Take a resting order off; returns it with the lots it still had, or None when it does not rest."""
        order = self.orders.get(order_id)
        if order is not None:
            self._remove(order)
        return order

    def reduce(self, order_id: str, lots: Lots) -> None:
        """Take lots off a resting order; it keeps its place, and leaves when nothing is left. Raises
        KeyError, ValueError."""
        order = self.orders[order_id]
        if not 0 < lots <= order.remaining_lots:
            raise ValueError(f"cannot take {lots} lots off {order}")
        if lots == order.remaining_lots:
            self._remove(order)
            order.remaining_lots = 0
            return
        order.remaining_lots -= lots
        self._level(order).lots -= lots

    def grow(self, order_id: str, lots: Lots) -> None:
        """Add lots to a resting order in its place: only right for the last in the queue, who passes nobody."""
        order = self.orders[order_id]
        order.remaining_lots += lots
        self._level(order).lots += lots

    def expired(self, now_ms: int) -> list[str]:
        """The resting orders whose time has come."""
        return [order_id for order_id, expires_ms in self._expiring.items() if expires_ms <= now_ms]

    # Inside

    def _level(self, order: Order) -> Level:
        return self.halves[order.side].levels[order.price_ticks * self.halves[order.side].sign]

    def _remove(self, order: Order) -> None:
        level = self._level(order)
        del level.orders[order.order_id]
        level.lots -= order.remaining_lots
        if not level.orders:
            self.halves[order.side].drop_level(order.price_ticks)
        del self.orders[order.order_id]
        self._expiring.pop(order.order_id, None)

    def _crossing(self, order: Order) -> Iterator[Order]:
        """The resting orders that the incoming one meets, in the order of their priority."""
        half = self.halves[opposite(order.side)]
        worst = order.price_ticks * half.sign
        if not half.ranks or half.ranks[-1] < worst:
            return
        for rank in reversed(half.ranks.copy()):
            if rank < worst:
                return
            yield from list(half.levels[rank].orders.values())

    def _refusal(
        self, order: Order, tif: TimeInForce, post_only: bool, self_trade: SelfTrade
    ) -> Refusal | None:
        if post_only and any(True for _ in self._crossing(order)):
            return Refusal.POST_ONLY_CROSS
        if tif is TimeInForce.FOK and not self._can_fill(order, self_trade):
            return Refusal.FOK_VOLUME
        return None

    def _can_fill(self, order: Order, self_trade: SelfTrade) -> bool:
        """Whether the whole order can trade now; a self-crossing fill-or-kill is let in and behaves like IOC
        (API.md 11)."""
        needed = order.remaining_lots
        for maker in self._crossing(order):
            if maker.owner == order.owner:
                if self_trade is SelfTrade.TAKER_AT_CROSS:
                    return True
                continue
            needed -= maker.remaining_lots
            if needed <= 0:
                return True
        return False

    def _match(self, order: Order, self_trade: SelfTrade, outcome: Outcome) -> None:
        for maker in self._crossing(order):
            if order.remaining_lots == 0:
                return
            if maker.owner == order.owner:
                if self_trade is SelfTrade.PASS_OVER:
                    continue
                if self_trade is SelfTrade.TAKER_AT_CROSS:
                    outcome.stopped_by_self_trade = True
                    return
                outcome.canceled_makers.append((maker, maker.remaining_lots))
                self._remove(maker)
                continue
            lots = min(order.remaining_lots, maker.remaining_lots)
            order.remaining_lots -= lots
            self.reduce(maker.order_id, lots)
            outcome.matches.append(Match(maker, lots))


def reduce_only_lots(side: BookSide, count_lots: Lots, position_lots: Lots) -> Lots:
    """How much of a reduce-only order may trade: at most the position it works against (signed, + YES), 0
    when none."""
    held = -position_lots if side is BookSide.BID else position_lots
    return max(0, min(count_lots, held))
