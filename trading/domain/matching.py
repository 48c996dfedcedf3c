"""Price-time matching on one YES book, in whole numbers: prices in ticks of $0.0001, counts in lots of 0.01
contract.

Pure: no clock, no accounts, no wire. The caller checks price grid and funds, then books what `submit` reports.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from heapq import heappop, heappush

from trading.domain.ladder import Half, Level, Lots, Order, Ticks
from trading.domain.orders import BookSide, TimeInForce

__all__ = [
    "LOTS_PER_CONTRACT",
    "TICKS_PER_DOLLAR",
    "Book",
    "Lots",
    "Match",
    "Order",
    "Outcome",
    "Refusal",
    "SelfTrade",
    "Ticks",
    "Withdrawal",
    "opposite",
    "reduce_only_lots",
    "to_lots",
    "to_ticks",
]

TICKS_PER_DOLLAR = 10_000
LOTS_PER_CONTRACT = 100


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


@dataclass(frozen=True, slots=True)
class Match:
    """One trade: `lots` at the resting order's price. `maker` may still rest with what is left of it."""

    maker: Order
    lots: Lots


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A resting order that self-trade prevention took off the book, with the lots it still had."""

    maker: Order
    lots: Lots


@dataclass(slots=True)
class Outcome:
    """What one incoming order did. `rested` is what stands on the book now; `dropped` what was neither filled
    nor rested."""

    matches: list[Match] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    rested: Lots = 0
    dropped: Lots = 0
    stopped_by_self_trade: bool = False
    refusal: Refusal | None = None

    @property
    def filled(self) -> Lots:
        return sum(match.lots for match in self.matches)


class Book:
    """One market's YES book with price-time priority. Never crossed, except among orders that PASS_OVER each
    other."""

    def __init__(self) -> None:
        self.halves: dict[BookSide, Half] = {side: Half(side) for side in BookSide}
        self.orders: dict[str, Order] = {}
        self._expiring: list[tuple[int, str]] = []  # a heap; entries of orders that left or moved are skipped

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

    def lots_better(self, side: BookSide, price_ticks: Ticks) -> Lots:
        """What rests on a side at prices that trade before this one."""
        return self.halves[side].lots_better(price_ticks)

    def crosses(self, order: Order) -> bool:
        """Whether an order would meet any resting order now."""
        return any(True for _ in self._crossing(order))

    def makers_met(self, order: Order) -> int:
        """How many resting orders an order would meet before it is filled."""
        met, left = 0, order.remaining_lots
        for maker in self._crossing(order):
            if left <= 0:
                break
            met, left = met + 1, left - maker.remaining_lots
        return met

    def crosses_itself(self, order: Order) -> bool:
        """Whether an order would meet one of its own owner before it is filled."""
        left = order.remaining_lots
        for maker in self._crossing(order):
            if maker.owner == order.owner:
                return True
            left -= maker.remaining_lots
            if left <= 0:
                return False
        return False

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
        outcome = Outcome(refusal=self.refusal(order, tif, post_only=post_only, self_trade=self_trade))
        if outcome.refusal is None:
            for _ in self.meet(order, self_trade, outcome):
                pass
            self.place(order, tif, outcome)
        return outcome

    def refusal(
        self,
        order: Order,
        tif: TimeInForce = TimeInForce.GTC,
        *,
        post_only: bool = False,
        self_trade: SelfTrade = SelfTrade.TAKER_AT_CROSS,
    ) -> Refusal | None:
        """Why this order would not be let in now, or None. Changes nothing. Raises ValueError as `submit` does."""
        if (
            order.remaining_lots <= 0
            or not 0 < order.price_ticks < TICKS_PER_DOLLAR
            or order.order_id in self.orders
        ):
            raise ValueError(f"not an order: {order}")
        if post_only and self.crosses(order):
            return Refusal.POST_ONLY_CROSS
        if tif is TimeInForce.FOK and not self._can_fill(order, self_trade):
            return Refusal.FOK_VOLUME
        return None

    def meet(
        self, order: Order, self_trade: SelfTrade, outcome: Outcome
    ) -> Generator[Match | Withdrawal, None, None]:
        """Match an incoming order one resting order at a time, noting each in `outcome`.

        Whoever listens may take other orders off the book between two matches, or stop listening: what is left of
        the incoming order is then for `place`.
        """
        for maker in self._crossing(order):
            if order.remaining_lots == 0:
                return
            if maker.owner == order.owner:
                if self_trade is SelfTrade.PASS_OVER:
                    continue
                if self_trade is SelfTrade.TAKER_AT_CROSS:
                    outcome.stopped_by_self_trade = True
                    return
                self._remove(maker)
                outcome.withdrawals.append(Withdrawal(maker, maker.remaining_lots))
                yield outcome.withdrawals[-1]
                continue
            lots = min(order.remaining_lots, maker.remaining_lots)
            order.remaining_lots -= lots
            self.reduce(maker.order_id, lots)
            outcome.matches.append(Match(maker, lots))
            yield outcome.matches[-1]

    def place(self, order: Order, tif: TimeInForce, outcome: Outcome) -> None:
        """Rest what is left of an order that has been matched, or drop it."""
        left = order.remaining_lots
        if tif is TimeInForce.GTC and not outcome.stopped_by_self_trade and left:
            self.rest(order)
            outcome.rested = left
        else:
            outcome.dropped = left

    def rest(self, order: Order) -> None:
        """Put an order at the back of its level's queue without matching (restoring a saved book)."""
        level = self.halves[order.side].open_level(order.price_ticks)
        level.orders[order.order_id] = order
        level.lots += order.remaining_lots
        self.orders[order.order_id] = order
        if order.expires_ms is not None:
            heappush(self._expiring, (order.expires_ms, order.order_id))

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

    def expire_at(self, order_id: str, expires_ms: int | None) -> None:
        """Give a resting order another expiry, or none; it keeps its place. Raises KeyError."""
        order = self.orders[order_id]
        order.expires_ms = expires_ms
        if expires_ms is not None:
            heappush(self._expiring, (expires_ms, order_id))

    def expired(self, now_ms: int) -> list[str]:
        """The resting orders whose time has come, earliest first. Each is told once: take them off."""
        due: dict[str, None] = {}
        while self._expiring and self._expiring[0][0] <= now_ms:
            expires_ms, order_id = heappop(self._expiring)
            order = self.orders.get(order_id)
            if order is not None and order.expires_ms == expires_ms:
                due[order_id] = None
        return list(due)

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

    def _crossing(self, order: Order) -> Iterator[Order]:
        """The resting orders that the incoming one meets, in the order of their priority; those that have left by
        their turn are skipped."""
        half = self.halves[opposite(order.side)]
        worst = order.price_ticks * half.sign
        if not half.ranks or half.ranks[-1] < worst:
            return
        for rank in reversed(half.ranks.copy()):
            if rank < worst:
                return
            level = half.levels.get(rank)
            for maker in list(level.orders.values()) if level else ():
                if maker.order_id in self.orders:
                    yield maker

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


def reduce_only_lots(side: BookSide, count_lots: Lots, position_lots: Lots) -> Lots:
    """How much of a reduce-only order may trade: at most the position it works against (signed, + YES), 0
    when none."""
    held = -position_lots if side is BookSide.BID else position_lots
    return max(0, min(count_lots, held))
