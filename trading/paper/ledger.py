"""What all accounts own and have done. Changed by records only: live and at replay of the journal by the same
`apply`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain

from trading.domain.fees import DIRECT_GRID, FeeSchedule, estimate
from trading.domain.matching import Lots
from trading.domain.orders import BookSide
from trading.paper.definitions import fee_schedule
from trading.paper.positions import Position, own_price
from trading.paper.records import (
    ZERO,
    AccountOpened,
    FillRecord,
    MarketKept,
    OrderRecord,
    Record,
    SettlementRecord,
    SpentId,
)
from trading.paper.wire import lots_decimal, ticks_decimal


@dataclass(slots=True)
class Account:
    """One member's money, orders and positions. The balance does not deduct resting orders (API.md 12)."""

    account_id: str
    name: str
    balance: Decimal
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    open_orders: dict[str, dict[str, OrderRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # by ticker
    positions: dict[str, Position] = field(default_factory=dict)
    settled_positions: list[Position] = field(default_factory=list)
    fills: list[FillRecord] = field(default_factory=list)
    settlements: list[SettlementRecord] = field(default_factory=list)
    spent_ids: set[str] = field(default_factory=set)
    opening_costs: dict[str, Decimal] = field(default_factory=dict)  # by open order, as if it closed nothing
    opening_sums: dict[str, Decimal] = field(default_factory=dict)  # the same by ticker
    reserved: dict[str, Decimal] = field(default_factory=dict)  # by ticker

    @property
    def available(self) -> Decimal:
        """What a new order may use: the balance minus what resting orders would need."""
        return self.balance - sum(self.reserved.values(), ZERO)

    def position_lots(self, ticker: str) -> Lots:
        position = self.positions.get(ticker)
        return position.lots if position else 0

    def resting(self) -> Iterator[OrderRecord]:
        for orders in self.open_orders.values():
            yield from orders.values()


class Ledger:
    """All accounts, and the markets they touched."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.owners: dict[str, str] = {}  # open order id -> account id
        self.markets: dict[str, MarketKept] = {}
        self.history: list[FillRecord | SettlementRecord] = []
        self.schedules: dict[str, FeeSchedule] = {}
        self.last_sequence = 0

    def apply(self, record: Record) -> None:
        """Book one record. The record is taken as true: whoever wrote it has checked it."""
        match record:
            case AccountOpened():
                self.accounts[record.account_id] = Account(record.account_id, record.name, record.balance)
            case MarketKept():
                self.markets[record.ticker] = record
                self.schedules[record.ticker] = fee_schedule(record.series, record.event)
            case OrderRecord():
                self._apply_order(record)
            case FillRecord():
                self._apply_fill(record)
            case SettlementRecord():
                self._apply_settlement(record)
            case SpentId():
                self.accounts[record.account_id].spent_ids.add(record.client_order_id)

    def records(self) -> Iterator[Record]:
        """The records from which the present state can be built anew (compaction): superseded ones are left
        out."""
        for account in self.accounts.values():
            opening = account.balance - sum((fill.change for fill in account.fills), ZERO)
            opening -= sum((item.revenue for item in account.settlements), ZERO)
            yield AccountOpened(account.account_id, account.name, opening)
        yield from self.markets.values()
        for account in self.accounts.values():
            yield from account.orders.values()
            taken = {order.client_order_id for order in account.orders.values()}
            yield from (SpentId(account.account_id, spent) for spent in sorted(account.spent_ids - taken))
        yield from self.history

    def order(self, order_id: str) -> OrderRecord | None:
        """An open order by its id."""
        account_id = self.owners.get(order_id)
        return None if account_id is None else self.accounts[account_id].orders[order_id]

    def open_orders(self, ticker: str) -> list[OrderRecord]:
        """All accounts' resting orders of a market, oldest first."""
        found = [
            o for account in self.accounts.values() for o in account.open_orders.get(ticker, {}).values()
        ]
        return sorted(found, key=lambda order: order.sequence)

    def holders(self, ticker: str) -> list[Position]:
        """Unsettled positions in a market, flat ones included."""
        found = (account.positions.get(ticker) for account in self.accounts.values())
        return [position for position in found if position is not None]

    def needed(self, account: Account, order: OrderRecord, schedule: FeeSchedule) -> Decimal:
        """How much more would be reserved if this order stood beside the account's resting ones of the same
        market."""
        after = reservation(account, order.ticker, schedule, beside=order)
        return after - account.reserved.get(order.ticker, ZERO)

    def _apply_order(self, order: OrderRecord) -> None:
        account = self.accounts[order.account_id]
        account.orders[order.order_id] = order
        if order.client_order_id:
            account.spent_ids.add(order.client_order_id)
        self.last_sequence = max(self.last_sequence, order.sequence)
        if order.is_open:
            account.open_orders[order.ticker][order.order_id] = order
            self.owners[order.order_id] = order.account_id
        else:
            account.open_orders[order.ticker].pop(order.order_id, None)
            self.owners.pop(order.order_id, None)
        self._cost(account, order)
        self._reserve(account, order.ticker)

    def _cost(self, account: Account, order: OrderRecord) -> None:
        """Keep the sum of opening costs in step, so that a book of a thousand orders is not summed for each of them."""
        before = account.opening_costs.pop(order.order_id, ZERO)
        after = (
            opening_cost(order, order.remaining_lots, self._schedule(order.ticker)) if order.is_open else ZERO
        )
        if order.is_open:
            account.opening_costs[order.order_id] = after
        account.opening_sums[order.ticker] = account.opening_sums.get(order.ticker, ZERO) + after - before

    def _apply_fill(self, fill: FillRecord) -> None:
        account = self.accounts[fill.account_id]
        position = account.positions.get(fill.ticker)
        if position is None:
            position = account.positions[fill.ticker] = Position(
                fill.account_id, fill.ticker, fill.event_ticker
            )
        position.apply_fill(fill)
        account.balance += fill.change
        account.fills.append(fill)
        self.history.append(fill)
        self._reserve(account, fill.ticker)

    def _apply_settlement(self, settlement: SettlementRecord) -> None:
        account = self.accounts[settlement.account_id]
        position = account.positions.pop(settlement.ticker)
        position.apply_settlement(settlement)
        account.settled_positions.append(position)
        account.balance += settlement.revenue
        account.settlements.append(settlement)
        self.history.append(settlement)

    def _reserve(self, account: Account, ticker: str) -> None:
        if account.open_orders.get(ticker):
            account.reserved[ticker] = reservation(account, ticker, self._schedule(ticker))
        else:
            account.reserved.pop(ticker, None)

    def _schedule(self, ticker: str) -> FeeSchedule:
        return self.schedules.get(ticker, FeeSchedule())


def opening_cost(order: OrderRecord, lots: Lots, schedule: FeeSchedule) -> Decimal:
    """The most that these lots of an order may cost when they open a position: its price, a taker's fee, and one grid
    step for rounding."""
    if lots == 0:
        return ZERO
    count = lots_decimal(lots)
    fee = estimate(schedule, ticks_decimal(order.price_ticks), count)
    return own_price(order.side, order.price_ticks) * count + fee + DIRECT_GRID


def reservation(
    account: Account, ticker: str, schedule: FeeSchedule, *, beside: OrderRecord | None = None
) -> Decimal:
    """The most that an account's resting orders of one market (and one more `beside` them) may still cost.

    Older orders close the position first, and closing needs nothing, because what it pays is always more than its fee.
    """
    total = account.opening_sums.get(ticker, ZERO)
    total += opening_cost(beside, beside.remaining_lots, schedule) if beside else ZERO
    position = account.position_lots(ticker)
    against, left = (BookSide.ASK, position) if position > 0 else (BookSide.BID, -position)
    for order in chain(account.open_orders.get(ticker, {}).values(), [beside] if beside else []):
        if left == 0:
            break
        closing = min(left, order.remaining_lots) if order.side is against else 0
        if closing:
            left -= closing
            total -= opening_cost(order, order.remaining_lots, schedule)
            total += opening_cost(order, order.remaining_lots - closing, schedule)
    return total
