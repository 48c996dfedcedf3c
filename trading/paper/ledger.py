"""What all accounts own and have done. Changed by records only: live and at replay of the journal by the same
`apply`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any

from trading.domain.fees import FeeSchedule
from trading.domain.markets import MarketStatus
from trading.domain.matching import Lots
from trading.paper.collateral import left_for_yes
from trading.paper.definitions import fee_schedule
from trading.paper.groups import Groups
from trading.paper.positions import Position
from trading.paper.purses import Purse
from trading.paper.records import (
    ZERO,
    AccountOpened,
    AllocationSet,
    FeeChange,
    FillRecord,
    GroupRecord,
    LevelGranted,
    MarketKept,
    NettingSet,
    OrderRecord,
    Record,
    SettlementRecord,
    SpentId,
    SubaccountOpened,
    TransferRecord,
)


@dataclass(slots=True)
class Account:
    """One member: its purses (by subaccount and shard), and everything it has done."""

    account_id: str
    name: str
    opening: Decimal  # the first deposit, on shard 0
    opened_ms: int = 0
    purses: dict[tuple[int, int], Purse] = field(default_factory=dict)
    subaccounts: set[int] = field(default_factory=lambda: {0})
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    settled_positions: list[Position] = field(default_factory=list)
    fills: list[FillRecord] = field(default_factory=list)
    settlements: list[SettlementRecord] = field(default_factory=list)
    spent_ids: set[str] = field(default_factory=set)
    level: str = ""  # the usage level it was granted, if any
    transfers: dict[str, TransferRecord] = field(default_factory=dict)
    transfer_ids: set[tuple[int, str]] = field(default_factory=set)  # spent ones, by source shard
    netting: dict[int, NettingSet] = field(default_factory=dict)  # by subaccount; absent means off
    allocation: AllocationSet | None = None

    def nets(self, subaccount: int) -> bool:
        """Whether collateral return is on for a subaccount: it is off until somebody switches it on."""
        setting = self.netting.get(subaccount)
        return setting is not None and setting.enabled

    @property
    def balance(self) -> Decimal:
        """All money of all subaccounts on all shards."""
        return sum((purse.balance for purse in self.purses.values()), ZERO)

    def purse(self, subaccount: int = 0, exchange_index: int = 0) -> Purse:
        """The purse of a subaccount on a shard, to look into; an empty one where nothing has moved yet."""
        known = self.purses.get((subaccount, exchange_index))
        return Purse(subaccount, exchange_index) if known is None else known

    def kept_purse(self, subaccount: int = 0, exchange_index: int = 0) -> Purse:
        """The same purse, to change: made where nothing has moved yet."""
        purse = self.purse(subaccount, exchange_index)
        return self.purses.setdefault((subaccount, exchange_index), purse)

    def purses_of(self, subaccount: int | None) -> list[Purse]:
        """The purses of one subaccount, or (None) of all."""
        return [p for p in self.purses.values() if subaccount is None or p.subaccount == subaccount]

    def positions(self, subaccount: int | None = None) -> Iterator[Position]:
        """Unsettled positions, flat ones included."""
        for purse in self.purses_of(subaccount):
            yield from purse.positions.values()

    def position_lots(self, ticker: str, subaccount: int = 0) -> Lots:
        return sum(purse.position_lots(ticker) for purse in self.purses_of(subaccount))

    def resting(self, subaccount: int | None = None) -> Iterator[OrderRecord]:
        """Open orders of one subaccount or of all."""
        for purse in self.purses_of(subaccount):
            yield from purse.resting()

    @property
    def open_count(self) -> int:
        """How many orders rest."""
        return sum(len(purse.opening_costs) for purse in self.purses.values())


class Ledger:
    """All accounts, and the markets they touched."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.owners: dict[str, str] = {}  # open order id -> account id
        self.markets: dict[str, MarketKept] = {}
        self.history: list[FillRecord | SettlementRecord | SubaccountOpened] = []
        self.events: dict[str, dict[str, MarketKept]] = {}  # kept markets by event
        self.schedules: dict[str, FeeSchedule] = {}
        self.fee_changes: dict[str, FeeChange] = {}
        self.pending_transfers: dict[str, TransferRecord] = {}
        self.groups = Groups()
        self.last_sequence = 0
        self._appliers: dict[type[Record], Callable[[Any], None]] = {
            AccountOpened: self._apply_account,
            MarketKept: self._apply_market,
            OrderRecord: self._apply_order,
            FillRecord: self._apply_fill,
            SettlementRecord: self._apply_settlement,
            SubaccountOpened: self._apply_subaccount,
            TransferRecord: self._apply_transfer,
            GroupRecord: self.groups.keep,
            FeeChange: self._apply_fee_change,
            LevelGranted: self._apply_note,
            NettingSet: self._apply_note,
            AllocationSet: self._apply_note,
            SpentId: self._apply_note,
        }

    def apply(self, record: Record) -> None:
        """Book one record. The record is taken as true: whoever wrote it has checked it."""
        self._appliers[type(record)](record)

    def records(self) -> Iterator[Record]:
        """The records from which the present state can be built anew (compaction): superseded ones are left
        out."""
        for account in self.accounts.values():
            yield AccountOpened(account.account_id, account.name, account.opening, account.opened_ms)
            yield from _settings(account)
        yield from self.fee_changes.values()
        yield from self.markets.values()
        yield from self.groups.records()
        for account in self.accounts.values():
            yield from account.orders.values()
            taken = {order.client_order_id for order in account.orders.values()}
            yield from (SpentId(account.account_id, spent) for spent in sorted(account.spent_ids - taken))
        yield from self.history

    @property
    def last_shard(self) -> int:
        """The highest shard on which a market or an account's money stands."""
        markets = (market.exchange_index for market in self.markets.values())
        purses = (shard for account in self.accounts.values() for _, shard in account.purses)
        return max(chain(markets, purses), default=0)

    def order(self, order_id: str) -> OrderRecord | None:
        """An open order by its id."""
        account_id = self.owners.get(order_id)
        return None if account_id is None else self.accounts[account_id].orders[order_id]

    def purse_of(self, order: OrderRecord | FillRecord) -> Purse:
        """The purse that pays for an order, to look into."""
        return self.accounts[order.account_id].purse(order.subaccount, order.exchange_index)

    def open_orders(self, ticker: str) -> list[OrderRecord]:
        """All accounts' resting orders of a market, oldest first."""
        found = [
            order
            for account in self.accounts.values()
            for purse in account.purses.values()
            for order in purse.open_orders.get(ticker, {}).values()
        ]
        return sorted(found, key=lambda order: order.sequence)

    def holders(self, ticker: str) -> list[Position]:
        """Unsettled positions in a market, flat ones included."""
        purses = (purse for account in self.accounts.values() for purse in account.purses.values())
        found = (purse.positions.get(ticker) for purse in purses)
        return [position for position in found if position is not None]

    def needed(self, account: Account, order: OrderRecord, schedule: FeeSchedule) -> Decimal:
        """How much more would be reserved if this order stood beside the resting ones of the same market, in the
        purse that pays for it."""
        return account.purse(order.subaccount, order.exchange_index).needed(order, schedule)

    def _apply_account(self, record: AccountOpened) -> None:
        account = Account(record.account_id, record.name, record.balance, record.at_ms)
        self.accounts[record.account_id] = account
        account.kept_purse().move(record.balance, record.at_ms)

    def _apply_market(self, market: MarketKept) -> None:
        self.markets[market.ticker] = market
        schedule = fee_schedule(market.series, market.event)
        changed = schedule != self._schedule(market.ticker)
        self.schedules[market.ticker] = schedule
        if changed:
            for account in self.accounts.values():
                for purse in account.purses.values():
                    purse.recost(market.ticker, schedule)
        event_ticker = str(market.event["event_ticker"])
        self.events.setdefault(event_ticker, {})[market.ticker] = market
        if market.is_mecnet:
            for account in self.accounts.values():
                for purse in account.purses.values():
                    if event_ticker in purse.netted:
                        self._net(account, purse, event_ticker)

    def _net(self, account: Account, purse: Purse, event_ticker: str) -> None:
        """Compute collateral return in one event anew, and with it what orders need that would take it back."""
        markets = self.events.get(event_ticker, {})
        applies = account.nets(purse.subaccount) and any(market.is_mecnet for market in markets.values())
        if not applies and event_ticker not in purse.netted:
            return
        paid = (m.value_ticks or 0 for m in markets.values() if m.status == MarketStatus.FINALIZED)
        purse.net(event_ticker, left_for_yes(paid) if applies else None)
        for ticker in markets:
            purse.reserve(ticker, self._schedule(ticker))

    def _apply_netting(self, account: Account, record: NettingSet) -> None:
        account.netting[record.subaccount] = record
        for purse in account.purses_of(record.subaccount):
            for event_ticker in {position.event_ticker for position in purse.positions.values()}:
                self._net(account, purse, event_ticker)

    def _apply_subaccount(self, record: SubaccountOpened) -> None:
        account = self.accounts[record.account_id]
        account.subaccounts.add(record.subaccount)
        account.kept_purse(record.subaccount, record.exchange_index).move(ZERO, record.at_ms)
        self.history.append(record)

    def _apply_fee_change(self, change: FeeChange) -> None:
        self.fee_changes[change.change_id] = change

    def _apply_transfer(self, transfer: TransferRecord) -> None:
        """The money leaves when the transfer is first heard of, and arrives once."""
        account = self.accounts[transfer.account_id]
        before = account.transfers.get(transfer.transfer_id)
        account.transfers[transfer.transfer_id] = transfer
        account.transfer_ids.add((transfer.from_shard, transfer.client_transfer_id))
        if transfer.status == "complete":
            self.pending_transfers.pop(transfer.transfer_id, None)
        else:
            self.pending_transfers[transfer.transfer_id] = transfer
        if before is None:
            source = account.kept_purse(transfer.from_subaccount, transfer.from_shard)
            source.move(-transfer.amount, transfer.created_ms)
        destination = account.kept_purse(transfer.to_subaccount, transfer.to_shard)
        if transfer.status == "complete" and (before is None or before.status != "complete"):
            destination.move(transfer.amount, transfer.at_ms)

    def _apply_note(self, record: LevelGranted | NettingSet | AllocationSet | SpentId) -> None:
        """What is remembered of an account and moves neither money nor orders."""
        account = self.accounts[record.account_id]
        match record:
            case LevelGranted():
                account.level = record.level
            case NettingSet():
                self._apply_netting(account, record)
            case AllocationSet():
                account.allocation = record
            case SpentId():
                account.spent_ids.add(record.client_order_id)

    def _apply_order(self, order: OrderRecord) -> None:
        account = self.accounts[order.account_id]
        account.orders[order.order_id] = order
        if order.client_order_id:
            account.spent_ids.add(order.client_order_id)
        self.last_sequence = max(self.last_sequence, order.sequence)
        if order.is_open:
            self.owners[order.order_id] = order.account_id
        else:
            self.owners.pop(order.order_id, None)
        self.groups.follow(order)
        purse = account.kept_purse(order.subaccount, order.exchange_index)
        purse.keep_order(order, self._schedule(order.ticker))

    def _apply_fill(self, fill: FillRecord) -> None:
        account = self.accounts[fill.account_id]
        purse = account.kept_purse(fill.subaccount, fill.exchange_index)
        position = purse.positions.get(fill.ticker)
        if position is None:
            position = purse.positions[fill.ticker] = Position(
                fill.account_id, fill.ticker, fill.event_ticker, fill.subaccount, fill.exchange_index
            )
        position.apply_fill(fill)
        purse.move(fill.change, fill.at_ms)
        self.groups.count(fill)
        account.fills.append(fill)
        self.history.append(fill)
        self._net(account, purse, fill.event_ticker)
        purse.reserve(fill.ticker, self._schedule(fill.ticker))

    def _apply_settlement(self, settlement: SettlementRecord) -> None:
        account = self.accounts[settlement.account_id]
        purse = account.kept_purse(settlement.subaccount, settlement.exchange_index)
        position = purse.positions.pop(settlement.ticker)
        position.apply_settlement(settlement)
        account.settled_positions.append(position)
        purse.move(settlement.revenue, settlement.at_ms)
        account.settlements.append(settlement)
        self._net(account, purse, settlement.event_ticker)
        self.history.append(settlement)

    def _schedule(self, ticker: str) -> FeeSchedule:
        return self.schedules.get(ticker, FeeSchedule())


def _settings(account: Account) -> Iterator[Record]:
    """An account's settings and transfers, for compaction."""
    if account.level:
        yield LevelGranted(account.account_id, account.level)
    yield from account.netting.values()
    if account.allocation is not None:
        yield account.allocation
    yield from account.transfers.values()
