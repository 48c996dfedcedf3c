"""One purse: the money, resting orders and positions of one subaccount on one shard (API.md 12).

Cash is not shared: an order needs collateral in the purse of its subaccount on its market's shard, even if
the account's total suffices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from trading.domain.fees import DIRECT_GRID, FeeSchedule, estimate
from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide
from trading.paper.collateral import released, taken_back
from trading.paper.positions import Position, own_price
from trading.paper.records import ZERO, OrderRecord
from trading.paper.wire import lots_decimal, ticks_decimal


@dataclass(slots=True)
class Purse:
    """What one subaccount has on one shard. The balance does not deduct resting orders (API.md 12)."""

    subaccount: int = 0
    exchange_index: int = 0
    cash: Decimal = ZERO
    open_orders: dict[str, dict[str, OrderRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # by ticker
    by_side: dict[tuple[str, BookSide], dict[str, OrderRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # the same by ticker and side
    positions: dict[str, Position] = field(default_factory=dict)  # unsettled ones, by ticker
    opening_costs: dict[str, Decimal] = field(default_factory=dict)  # by open order, as if it closed nothing
    opening_sums: dict[str, Decimal] = field(default_factory=dict)  # the same by ticker
    reserved: dict[str, Decimal] = field(default_factory=dict)  # by ticker
    netted: dict[str, Ticks] = field(default_factory=dict)  # events with collateral return: left for YES
    released: dict[str, Decimal] = field(default_factory=dict)  # by such event
    updated_ms: int = 0

    @property
    def balance(self) -> Decimal:
        """The money of this purse in dollars: what was paid in and out, and what collateral return has released."""
        return self.cash + sum(self.released.values(), ZERO)

    @property
    def available(self) -> Decimal:
        """What a new order may use: the balance minus what resting orders would need."""
        return self.balance - sum(self.reserved.values(), ZERO)

    def move(self, amount: Decimal, at_ms: int) -> None:
        """Pay in, or out when negative."""
        self.cash += amount
        self.updated_ms = max(self.updated_ms, at_ms)

    def position_lots(self, ticker: str) -> Lots:
        position = self.positions.get(ticker)
        return position.lots if position else 0

    def short(self, event_ticker: str) -> dict[str, Lots]:
        """NO positions in an event: lots by market."""
        held = (p for p in self.positions.values() if p.event_ticker == event_ticker and p.lots < 0)
        return {position.ticker: -position.lots for position in held}

    def net(self, event_ticker: str, left_ticks: Ticks | None) -> None:
        """Release anew what the NO positions in an event guarantee; None: collateral return does not apply to it."""
        self.netted.pop(event_ticker, None)
        self.released.pop(event_ticker, None)
        if left_ticks is None or all(p.event_ticker != event_ticker for p in self.positions.values()):
            return
        self.netted[event_ticker] = left_ticks
        amount = released(self.short(event_ticker), left_ticks)
        if amount:
            self.released[event_ticker] = amount

    def resting(self) -> Iterator[OrderRecord]:
        for orders in self.open_orders.values():
            yield from orders.values()

    def keep_order(self, order: OrderRecord, schedule: FeeSchedule) -> None:
        """Take an order as it stands now: rest it or forget it, and reserve for what rests."""
        for orders in (self.open_orders[order.ticker], self.by_side[order.ticker, order.side]):
            if order.is_open:
                orders[order.order_id] = order
            else:
                orders.pop(order.order_id, None)
        self._cost(order, schedule)
        self.reserve(order.ticker, schedule)

    def reserve(self, ticker: str, schedule: FeeSchedule) -> None:
        """Reserve anew for the resting orders of one market."""
        if self.open_orders.get(ticker):
            self.reserved[ticker] = reservation(self, ticker, schedule)
        else:
            self.reserved.pop(ticker, None)

    def recost(self, ticker: str, schedule: FeeSchedule) -> None:
        """Reserve anew under changed fees."""
        for order in self.open_orders.get(ticker, {}).values():
            self._cost(order, schedule)
        self.reserve(ticker, schedule)

    def needed(self, order: OrderRecord, schedule: FeeSchedule) -> Decimal:
        """How much more would be reserved if this order stood beside the resting ones of the same market, or in place
        of the one of its own id."""
        after = reservation(self, order.ticker, schedule, beside=order)
        return after - self.reserved.get(order.ticker, ZERO)

    def _cost(self, order: OrderRecord, schedule: FeeSchedule) -> None:
        """Keep the sum of opening costs in step, so that a book of a thousand orders is not summed for each of them."""
        before = self.opening_costs.pop(order.order_id, ZERO)
        after = opening_cost(order, order.remaining_lots, schedule) if order.is_open else ZERO
        if order.is_open:
            self.opening_costs[order.order_id] = after
        self.opening_sums[order.ticker] = self.opening_sums.get(order.ticker, ZERO) + after - before


def opening_cost(order: OrderRecord, lots: Lots, schedule: FeeSchedule) -> Decimal:
    """The most that these lots of an order may cost when they open a position: its price, a taker's fee, and one grid
    step for rounding. A reduce-only order opens none."""
    if lots == 0 or order.reduce_only:
        return ZERO
    count = lots_decimal(lots)
    fee = estimate(schedule, ticks_decimal(order.price_ticks), count)
    return own_price(order.side, order.price_ticks) * count + fee + DIRECT_GRID


def reservation(
    purse: Purse, ticker: str, schedule: FeeSchedule, *, beside: OrderRecord | None = None
) -> Decimal:
    """The most that a purse's resting orders of one market may still cost, with one more `beside` them or in place of
    the one that has its id.

    Older orders close the position first, and closing needs nothing, because what it pays is always more than its fee,
    unless it takes back released collateral. Of several legs that could be closed each is taken to go first: that
    covers whatever order they fill in, because a leg takes back less the fewer others are left.
    """
    total = purse.opening_sums.get(ticker, ZERO)
    if beside is not None:
        total += opening_cost(beside, beside.remaining_lots, schedule)
        total -= purse.opening_costs.get(beside.order_id, ZERO)
    position = purse.position_lots(ticker)
    against, left = (BookSide.ASK, position) if position > 0 else (BookSide.BID, -position)
    for order in _oldest_first(purse, (ticker, against), beside):
        if left == 0:
            break
        closing = min(left, order.remaining_lots)
        total -= opening_cost(order, order.remaining_lots, schedule)
        total += opening_cost(order, order.remaining_lots - closing, schedule)
        total += closing_cost(purse, order, abs(position) - left, closing, schedule)
        left -= closing
    return total


def closing_cost(
    purse: Purse, order: OrderRecord, before: Lots, lots: Lots, schedule: FeeSchedule
) -> Decimal:
    """The most that an order may cost by closing `lots` of a position of which `before` are already closed: the
    collateral that it takes back beyond what it brings."""
    left_ticks = purse.netted.get(order.event_ticker)
    if left_ticks is None or order.side is BookSide.ASK:
        return ZERO
    back = taken_back(purse.short(order.event_ticker), left_ticks, order.ticker, before, lots)
    if back == 0:
        return ZERO
    count = lots_decimal(lots)
    fee = estimate(schedule, ticks_decimal(order.price_ticks), count)
    return max(ZERO, back - (1 - ticks_decimal(order.price_ticks)) * count + fee + DIRECT_GRID)


def _oldest_first(
    purse: Purse, place: tuple[str, BookSide], beside: OrderRecord | None
) -> Iterator[OrderRecord]:
    """The orders of one market and side, with the one `beside` them or in place of the one that has its id."""
    standing = purse.by_side.get(place, {})
    if beside is None or beside.side is not place[1]:
        yield from standing.values()
        return
    for order in standing.values():
        yield beside if order.order_id == beside.order_id else order
    if beside.order_id not in standing:
        yield beside
