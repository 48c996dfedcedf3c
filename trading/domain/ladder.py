"""One side of a book: its price levels in order, and at each price a queue of orders, oldest first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass

from trading.domain.orders import BookSide

Ticks = int
Lots = int


@dataclass(slots=True, eq=False)
class Order:
    """An order on its way in, or resting. `remaining_lots` falls as it trades."""

    order_id: str
    owner: str
    side: BookSide
    price_ticks: Ticks
    remaining_lots: Lots
    expires_ms: int | None = None


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

    def lots_better(self, price_ticks: Ticks) -> Lots:
        """All that stands at prices better than this one."""
        first = bisect_right(self.ranks, price_ticks * self.sign)
        return sum(self.levels[rank].lots for rank in self.ranks[first:])

    def best_first(self) -> Iterator[tuple[Ticks, Level]]:
        for rank in reversed(self.ranks):
            yield rank * self.sign, self.levels[rank]
