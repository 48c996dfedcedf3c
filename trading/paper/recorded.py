"""Recorded liquidity of one market, and the place of our orders in its queues.

The recorded size of a level stands in the matching book as one order. We remember

* `consumed`: what our orders have taken of the level. It stays subtracted until the recording itself removes
  that size (a print takes from the front, where ours was taken too), so the same liquidity is never hit twice;
* per order of ours the recorded lots `ahead` of it. A print at the price uses them up. A removal without a
  print may have been anywhere in the queue, and which part of it stood ahead of us is the fill model's guess
  (`fill_models`); never can more stand ahead than is left. The recording tells a trade twice, as a change of
  the book and as a print, in either order: `credit` is how far a removal has already moved an order, so that
  its print does not move it again. Size that joins proves that earlier removals were no trades: then the
  credit is void.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from trading.domain.matching import Book, Lots, Order, Ticks, opposite
from trading.domain.orders import BookSide
from trading.paper.fill_models import AHEAD_AFTER_REMOVAL, FillModel

RECORDED = "recorded"  # the owner of all recorded liquidity
UNKNOWN_AHEAD: Lots = (
    1 << 60
)  # an order from before a restart: all that the snapshot shows stands ahead of it

Key = tuple[BookSide, Ticks]


@dataclass(slots=True)
class RecordedLevel:
    """One recorded level, in lots."""

    order_id: str
    size: Lots = 0
    consumed: Lots = 0
    printed: Lots = 0  # prints whose change of the book is still to come
    removed: Lots = 0  # removals whose print may still come

    @property
    def visible(self) -> Lots:
        return self.size - self.consumed

    def release(self, lots: Lots) -> None:
        self.consumed -= min(self.consumed, lots)

    def shrink(self, lots: Lots) -> Lots:
        """Take recorded size away; returns what of it no print has explained and anybody could see."""
        before, printed = self.visible, min(lots, self.printed)
        self.printed -= printed
        self.removed += lots - printed
        self.size -= lots
        self.release(printed)
        self.consumed = min(self.consumed, self.size)
        return min(lots - printed, max(0, before - self.visible))


@dataclass(slots=True)
class Place:
    """Where an order of ours stands among recorded lots at its price."""

    ahead: Lots
    credit: Lots = 0

    def clamp(self, visible: Lots) -> None:
        """No more can stand ahead than is left of the level."""
        if visible < self.ahead:
            self.credit += self.ahead - visible
            self.ahead = visible

    def pass_removal(self, lots: Lots, left: Lots, model: FillModel) -> None:
        """So many lots left the level without a print and `left` are still there: guess how many stood ahead."""
        if self.ahead <= left + lots:  # else the place is not known yet
            self.clamp(AHEAD_AFTER_REMOVAL[model](self.ahead, lots, left))

    def advance(self, lots: Lots) -> Lots:
        """A print of so many lots: returns what of it reaches this order."""
        known = min(self.credit, lots)
        self.credit -= known
        left = lots - known
        used = min(self.ahead, left)
        self.ahead -= used
        return left - used


@dataclass(slots=True)
class Recorded:
    """The recorded levels of one market and our places in them. Keeps the matching book in step."""

    book: Book
    model: FillModel = FillModel.PESSIMISTIC
    levels: dict[Key, RecordedLevel] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=lambda: count(1))

    def arriving(self, side: BookSide, price_ticks: Ticks, lots: Lots) -> Order | None:
        """Recorded size as an incoming order, or None when nothing of ours is in its way."""
        best = self.book.best(opposite(side))
        if best is None or (best[0] > price_ticks if side is BookSide.BID else best[0] < price_ticks):
            return None
        return Order(f"{RECORDED}-in-{next(self._ids)}", RECORDED, side, price_ticks, lots)

    def change(self, side: BookSide, price_ticks: Ticks, delta: Lots, consumed: Lots = 0) -> Lots:
        """Book a recorded change; `consumed` of an increase was taken by our orders on arrival. Returns the
        visible change."""
        key = (side, price_ticks)
        level = self._level(key)
        if delta >= 0:
            level.size += delta
            level.consumed += consumed
            level.removed = 0
            for place in self._places_at(key):
                place.credit = 0
        else:
            unexplained = level.shrink(min(-delta, level.size))
            for place in self._places_at(key):
                place.pass_removal(unexplained, level.visible, self.model)
        return self._sync(key)

    def consume(self, side: BookSide, price_ticks: Ticks, lots: Lots) -> None:
        """Our order has just taken this much of a recorded level (the book shows it already)."""
        level = self._level((side, price_ticks))
        level.consumed += lots
        self._clamp_places((side, price_ticks), level.visible)
        self._sync((side, price_ticks))

    def differences(
        self, bids: Sequence[tuple[Ticks, Lots]], asks: Sequence[tuple[Ticks, Lots]]
    ) -> list[tuple[BookSide, Ticks, Lots]]:
        """What a recorded snapshot changes, decreases first so that the book is not crossed in passing."""
        sizes = {(BookSide.BID, price): lots for price, lots in bids} | {
            (BookSide.ASK, price): lots for price, lots in asks
        }
        changes = [(key, sizes.get(key, 0) - self._size(key)) for key in self.levels.keys() | sizes.keys()]
        return [
            (side, price, delta)
            for (side, price), delta in sorted(changes, key=lambda item: item[1])
            if delta
        ]

    def settle_places(self) -> None:
        """After a snapshot: nothing ahead that the snapshot does not show, no half-told trades."""
        for level in self.levels.values():
            level.printed = level.removed = 0
        for order_id, place in self.places.items():
            order = self.book.orders[order_id]
            place.ahead = min(place.ahead, self._visible((order.side, order.price_ticks)))
            place.credit = 0

    def lots_before(self) -> dict[str, Lots]:
        """What stands ahead of each order of ours now."""
        return {order_id: place.ahead for order_id, place in self.places.items()}

    def remember(self, lots_before: dict[str, Lots]) -> None:
        """After the book was emptied because nobody knows it: nobody has left the queues for that. What stood ahead can
        only have become less, so the next snapshot decides within that bound."""
        for order_id, ahead in lots_before.items():
            if order_id in self.places:
                self.places[order_id] = Place(ahead)

    def enqueue(self, order: Order) -> None:
        """An order of ours has begun to rest: all recorded size at its price stands ahead of it."""
        self.places[order.order_id] = Place(self._visible((order.side, order.price_ticks)))

    def restore(self, order: Order) -> None:
        """An order of ours rests since before a restart: its place is not known until the first snapshot."""
        self.places[order.order_id] = Place(UNKNOWN_AHEAD)

    def printed(self, side: BookSide, price_ticks: Ticks, lots: Lots) -> Lots:
        """A recorded print took these lots from a maker side: note it; returns the visible change (released
        size)."""
        level = self.levels.get((side, price_ticks))
        if level is None:
            return 0
        explained = min(lots, level.removed)
        level.removed -= explained
        level.release(explained)
        level.printed += lots - explained
        return self._sync((side, price_ticks))

    def reached(self, side: BookSide, price_ticks: Ticks, lots: Lots) -> Iterator[tuple[Order, Lots]]:
        """Our resting orders that a print at this price fills, with how much: better prices whole, its own by
        place."""
        budget = lots
        for price, level in list(self.book.halves[side].best_first()):
            if price < price_ticks if side is BookSide.BID else price > price_ticks:
                return
            ours = [order for order in level.orders.values() if order.owner != RECORDED]
            taken = 0
            for order in ours:
                reach = budget if price != price_ticks else self._place(order).advance(budget) - taken
                filled = max(0, min(order.remaining_lots, reach))
                if filled:
                    taken += filled
                    budget -= filled if price != price_ticks else 0
                    yield order, filled

    def lots_ahead(self, order: Order) -> Lots:
        """What trades before this resting order of ours at its price: recorded lots and our older orders."""
        ahead = self.recorded_ahead(order)
        for other in self.book.queue(order.side, order.price_ticks):
            if other is order:
                break
            ahead += 0 if other.owner == RECORDED else other.remaining_lots
        return ahead

    def recorded_ahead(self, order: Order) -> Lots:
        """The recorded lots at its price that trade before this resting order of ours."""
        # A place from before a restart is known no better than that everything shown stands ahead of it.
        return min(self._place(order).ahead, self._visible((order.side, order.price_ticks)))

    def clear(self) -> None:
        """The book has been emptied."""
        self.levels.clear()
        self.places.clear()

    def forget(self, order_id: str) -> None:
        """An order of ours no longer rests."""
        self.places.pop(order_id, None)

    def _level(self, key: Key) -> RecordedLevel:
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = RecordedLevel(f"{RECORDED}-{next(self._ids)}")
        return level

    def _place(self, order: Order) -> Place:
        return self.places.setdefault(order.order_id, Place(0))

    def _size(self, key: Key) -> Lots:
        level = self.levels.get(key)
        return level.size if level else 0

    def _visible(self, key: Key) -> Lots:
        level = self.levels.get(key)
        return level.visible if level else 0

    def _sync(self, key: Key) -> Lots:
        """Let the matching book show the level's visible size; returns the change."""
        level = self.levels[key]
        standing = self.book.orders.get(level.order_id)
        before = standing.remaining_lots if standing else 0
        change = level.visible - before
        if standing is None and change:
            self.book.rest(Order(level.order_id, RECORDED, key[0], key[1], change))
        elif change > 0:
            self.book.grow(level.order_id, change)
        elif change < 0:
            self.book.reduce(level.order_id, -change)
        if change < 0:
            self._clamp_places(key, level.visible)
        if level.size == 0 and level.printed == 0:
            del self.levels[key]
        return change

    def _places_at(self, key: Key) -> list[Place]:
        """The places of our orders at one price, oldest first."""
        if not self.places:
            return []
        return [self._place(order) for order in self.book.queue(*key) if order.owner != RECORDED]

    def _clamp_places(self, key: Key, visible: Lots) -> None:
        for place in self._places_at(key):
            place.clamp(visible)
