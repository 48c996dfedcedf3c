"""A second exchange, written as naively as the rules can be read: lists, Decimals and loops, one market at a time.

It shares no code with the engine and exists to disagree with it. Prices are dollars on the YES scale, counts are
contracts, times are Unix milliseconds. Rules: API.md 5, 8, 11, 12, 13, 14.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

ZERO = Decimal(0)
STEP = Decimal("0.000001")
GRID = Decimal("0.0001")
WINDOW_MS = 15_000


def up(amount: Decimal, step: Decimal) -> Decimal:
    return (amount / step).to_integral_value(ROUND_CEILING) * step


def down(amount: Decimal, step: Decimal) -> Decimal:
    return (amount / step).to_integral_value(ROUND_FLOOR) * step


@dataclass(eq=False)
class Group:
    owner: str
    limit: Decimal
    matches: list[tuple[int, Decimal]] = field(default_factory=list)
    triggered: bool = False
    deleted: bool = False


@dataclass(eq=False)
class Order:
    owner: str
    side: str  # bid, ask
    price: Decimal
    remaining: Decimal
    tif: str
    self_trade: str
    post_only: bool = False
    reduce_only: bool = False
    expires_ms: int | None = None
    on_pause: bool = False
    group: Group | None = None
    filled: Decimal = ZERO
    status: str = "resting"
    reason: str | None = None
    fees: Decimal = ZERO
    gathered: Decimal = ZERO  # the accumulator
    age: int = 0  # rises with every entry, so the newest has the highest

    @property
    def own_price(self) -> Decimal:
        return self.price if self.side == "bid" else 1 - self.price


@dataclass(frozen=True)
class Fill:
    owner: str
    order: Order
    price: Decimal
    count: Decimal
    is_taker: bool
    fee: Decimal
    change: Decimal


class NaiveExchange:
    """Every method answers None or an order when the exchange accepts, the code of the refusal when it does not."""

    def __init__(self, deposits: dict[str, Decimal], maker_share: Decimal) -> None:
        self.balance = dict(deposits)
        self.position = dict.fromkeys(deposits, ZERO)
        self.maker_share = maker_share
        self.orders: list[Order] = []  # all that ever were in this market, in order of creation
        self.queue: list[Order] = []  # what rests, in order of time priority
        self.fills: list[Fill] = []
        self.groups: list[Group] = []
        self.dust = ZERO  # what payouts lost by rounding
        self.now_ms = 0
        self.entries = 0
        self.market_paused = False
        self.trading_paused = False

    # Orders

    def create(self, order: Order, count: Decimal) -> str | None:
        refused = self._not_now() or self._group_refuses(order.group)
        if refused:
            return refused
        self.expire()
        allowed = min(count, self._held_against(order)) if order.reduce_only else count
        order.remaining = allowed
        needed = self._reserve(order.owner, order) - self._reserve(order.owner)
        if order.tif == "fill_or_kill":
            needed += GRID * self._makers_met(order, count)
        if needed > max(self.available(order.owner), ZERO):
            return "insufficient_balance"
        if order.post_only and self._crossing(order):
            return "invalid_order"
        if order.tif == "fill_or_kill" and not self._can_fill(order):
            return "fill_or_kill_insufficient_resting_volume"
        self.entries += 1
        order.age = self.entries
        self.orders.append(order)
        order.remaining = count
        self._enter(order, allowed)
        return None

    def amend(self, order: Order, price: Decimal, total: Decimal, expires_ms: int | None) -> str | None:
        refused = "not_found" if order.status != "resting" else self._not_now()
        if refused:
            return refused
        self.expire()
        if order.status != "resting":
            return "not_found"
        if total <= order.filled:
            return "invalid_amend_qty_for_order"
        left = total - order.filled
        if price == order.price and left <= order.remaining:
            order.remaining, order.expires_ms, order.reason = left, expires_ms, "Amend"
            return None
        return self._move(order, price, left, expires_ms)

    def _move(self, order: Order, price: Decimal, left: Decimal, expires_ms: int | None) -> str | None:
        before, was = self._reserve(order.owner), (order.price, order.remaining)
        order.price, order.remaining = price, left
        refused = None
        if self._reserve(order.owner) - before > max(self.balance[order.owner] - before, ZERO):
            refused = "insufficient_balance"
        elif order.self_trade == "taker_at_cross" and self._meets_itself(order):
            refused = "self_cross_attempt"
        if refused:
            order.price, order.remaining = was
            return refused
        order.expires_ms, order.reason = expires_ms, "Amend"
        self.queue.remove(order)
        self.entries += 1
        order.age = self.entries
        if order.post_only and self._crossing(order):
            self._end(order, "PostOnlyCrossCancel")
        else:
            self._enter(order, left)
        return None

    def decrease(self, order: Order, to: Decimal) -> str | None:
        if order.status != "resting":
            return "not_found"
        if to > order.remaining:
            return "invalid_order_size"
        if to == order.remaining:
            return None
        order.remaining, order.reason = to, "Decrease"
        if to == 0:
            self._end(order, "Decrease")
        return None

    def cancel(self, order: Order) -> str | None:
        if order.status != "resting":
            return "not_found"
        self._end(order, None)
        return None

    def cancel_all(self, owner: str) -> None:
        for order in list(self.queue):
            if order.owner == owner:
                self._end(order, None)

    # Groups

    def trigger(self, group: Group) -> None:
        group.triggered = True
        self._empty(group)

    def reset(self, group: Group) -> None:
        group.triggered = False
        group.matches.clear()

    def relimit(self, group: Group, limit: Decimal) -> None:
        group.limit = limit
        if self.matched(group) > limit and not group.triggered:
            self.trigger(group)

    def delete(self, group: Group) -> None:
        group.deleted = True
        self._empty(group)

    def matched(self, group: Group) -> Decimal:
        recent = [count for at_ms, count in group.matches if at_ms > self.now_ms - WINDOW_MS]
        return sum(recent, ZERO)

    # Time, pauses, the end

    def expire(self) -> None:
        for order in list(self.queue):
            if order.expires_ms is not None and order.expires_ms <= self.now_ms:
                self._end(order, "ExpiryCancel")

    def pause(self, *, market: bool) -> None:
        if market:
            self.market_paused = True
        else:
            self.trading_paused = True
        for order in list(self.queue):
            if order.on_pause:
                self._end(order, "HaltCancel")

    def reopen_market(self) -> None:
        if self.market_paused:
            for order in list(self.queue):
                self._end(order, "HaltCancel")
        self.market_paused = False

    def settle(self, value: Decimal) -> None:
        """Close, pay everybody, and begin the next market with nothing held."""
        for order in list(self.queue):
            self._end(order, "CloseCancel")
        for owner, held in self.position.items():
            exact = held * value if held > 0 else -held * (1 - value)
            self.balance[owner] += down(exact, GRID)
            self.dust += exact - down(exact, GRID)
            self.position[owner] = ZERO
        self.orders.clear()
        self.market_paused = False

    # Looking

    def levels(self, side: str) -> list[tuple[Decimal, Decimal]]:
        """Price and total, best first."""
        totals: dict[Decimal, Decimal] = {}
        for order in self.queue:
            if order.side == side:
                totals[order.price] = totals.get(order.price, ZERO) + order.remaining
        return sorted(totals.items(), reverse=side == "bid")

    def ahead_of(self, order: Order) -> Decimal:
        """The contracts that trade before a resting order."""
        better = [
            other
            for other in self.queue
            if other.side == order.side and self._rank(other, order.side) < self._rank(order, order.side)
        ]
        return sum((other.remaining for other in better), ZERO)

    def available(self, owner: str) -> Decimal:
        return self.balance[owner] - self._reserve(owner)

    # Inside

    def _not_now(self) -> str | None:
        return "trading_is_paused" if self.market_paused or self.trading_paused else None

    def _group_refuses(self, group: Group | None) -> str | None:
        if group is None:
            return None
        if group.deleted:
            return "order_group_not_found"
        return "exceeded_order_group_risk_limit" if group.triggered else None

    def _rank(self, order: Order, side: str) -> tuple[Decimal, int]:
        return (-order.price if side == "bid" else order.price, self.queue.index(order))

    def _crossing(self, order: Order) -> list[Order]:
        other = "ask" if order.side == "bid" else "bid"
        fits = [
            each
            for each in self.queue
            if each.side == other
            and (each.price <= order.price if order.side == "bid" else each.price >= order.price)
        ]
        return sorted(fits, key=lambda each: self._rank(each, other))

    def _makers_met(self, order: Order, count: Decimal) -> int:
        met, left = 0, count
        for maker in self._crossing(order):
            if left <= 0:
                break
            met, left = met + 1, left - maker.remaining
        return met

    def _can_fill(self, order: Order) -> bool:
        there = ZERO
        for maker in self._crossing(order):
            if maker.owner != order.owner:
                there += maker.remaining
            elif order.self_trade == "taker_at_cross":
                return True  # let in, and behaves like immediate-or-cancel
            if there >= order.remaining:
                return True
        return False

    def _meets_itself(self, order: Order) -> bool:
        left = order.remaining
        for maker in self._crossing(order):
            if left <= 0:
                return False
            if maker.owner == order.owner:
                return True
            left -= maker.remaining
        return False

    def _held_against(self, order: Order) -> Decimal:
        held = self.position[order.owner]
        return max(ZERO, -held if order.side == "bid" else held)

    def _enter(self, order: Order, left: Decimal) -> None:
        """Match `left` of an order, then rest what is still left of it or end it."""
        capped = left < order.remaining
        told: list[Fill] = []
        stopped = False
        for maker in self._crossing(order):
            if left == 0 or order.status != "resting":
                break
            if maker.status != "resting":
                continue
            if maker.owner == order.owner:
                if order.self_trade == "taker_at_cross":
                    stopped = True
                    break
                self._end(maker, "SelfTradeCancel")
                continue
            count = min(left, maker.remaining)
            left -= count
            told += [self._fill(order, maker.price, count, is_taker=True)]
            told += [self._fill(maker, maker.price, count, is_taker=False)]
            if order.tif != "fill_or_kill":
                self._watch(told, order)
                told = []
        if order.status == "resting":
            if order.tif == "good_till_canceled" and left > 0 and not stopped:
                self.queue.append(order)
            else:
                self._end(order, "SelfTradeCancel" if stopped else "ReduceOnlyCancel" if capped else None)
        self._watch(told, order)

    def _fill(self, order: Order, price: Decimal, count: Decimal, *, is_taker: bool) -> Fill:
        """One side of a trade: what it costs, what the fee is, and what is left of the order."""
        held = self.position[order.owner]
        paired = min(count, max(ZERO, -held if order.side == "bid" else held))
        paid = (price if order.side == "bid" else 1 - price) * count - paired  # each pair returns its dollar
        share = Decimal(1) if is_taker else self.maker_share
        trade_fee = up(Decimal("0.07") * share * count * price * (1 - price), STEP)
        change = down(-paid - trade_fee, GRID)
        rounding = -paid - trade_fee - change
        order.gathered += rounding
        rebate = down(min(order.gathered, trade_fee + rounding), GRID)
        order.gathered -= rebate
        fee = trade_fee + rounding - rebate
        fill = Fill(order.owner, order, price, count, is_taker, fee, change + rebate)
        self.fills.append(fill)
        self.balance[order.owner] += fill.change
        self.position[order.owner] += count if order.side == "bid" else -count
        order.fees += fee
        order.filled += count
        order.remaining -= count
        order.reason = "Trade"
        if order.remaining == 0:
            order.status = "executed"
            if order in self.queue:
                self.queue.remove(order)
        if order.group is not None and not order.group.deleted:
            order.group.matches.append((self.now_ms, count))
        return fill

    def _watch(self, fills: list[Fill], incoming: Order) -> None:
        """Groups over their limit end; then whoever cannot fund what rests loses the newest of it."""
        for fill in fills:
            group = fill.order.group
            if group and not group.deleted and not group.triggered and self.matched(group) > group.limit:
                self.trigger(group)
            standing = [o for o in self.orders if o.owner == fill.owner and o.status == "resting"]
            standing.sort(key=lambda each: (each is incoming, -each.age))
            while standing and self.available(fill.owner) < 0:
                self._end(standing.pop(0), "MarginCancel")

    def _empty(self, group: Group) -> None:
        for order in self.orders:
            if order.group is group and order.status == "resting":
                self._end(order, None)

    def _end(self, order: Order, reason: str | None) -> None:
        order.status, order.reason, order.remaining = "canceled", reason, ZERO
        if order in self.queue:
            self.queue.remove(order)

    def _reserve(self, owner: str, beside: Order | None = None) -> Decimal:
        """What an owner's open orders may still cost: the oldest close the position for nothing, the others open at
        their price with a taker's fee and a step for rounding."""
        held = self.position[owner]
        closes, left = ("ask", held) if held > 0 else ("bid", -held)
        total = ZERO
        for order in [o for o in self.orders if o.owner == owner and o.status == "resting"] + (
            [beside] if beside else []
        ):
            closing = min(left, order.remaining) if order.side == closes else ZERO
            left -= closing
            opening = order.remaining - closing
            if opening > 0 and not order.reduce_only:
                fee = up(Decimal("0.07") * opening * order.price * (1 - order.price), STEP)
                total += order.own_price * opening + up(fee, GRID) + GRID
        return total
