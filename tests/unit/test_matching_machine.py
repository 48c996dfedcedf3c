"""The matching engine with its accounts against a naive second exchange: anything that members and time can do, in any
order, and after each step both must agree to the last unit.

The size is set by the environment, for `pytest tests/unit/test_matching_machine.py`:

    MATCHING_EXAMPLES=5000 MATCHING_STEPS=50   the nightly run; its examples are drawn at random
    (unset)                                    the usual run: always the same examples, well below a minute
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from tests.naive_exchange import GRID, ZERO, Group, NaiveExchange, Order
from tests.paper_floor import START, TICKER, Floor
from trading.domain.matching import Lots, opposite, to_lots
from trading.domain.orders import BookSide, TimeInForce
from trading.paper import entry, group_entry
from trading.paper.amends import Amendment, amend, decrease
from trading.paper.floor import Floor as TradingFloor
from trading.paper.guards import Guards
from trading.paper.listing import Listing
from trading.paper.queues import queue_position, queue_positions
from trading.paper.records import AccountOpened, FillRecord, OrderRecord
from trading.paper.refusals import Refused
from trading.paper.steps import Steps
from trading.paper.tickets import Ticket
from trading.paper.wire import lots_decimal, rfc3339, ticks_decimal, to_ms

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("MATCHING_EXAMPLES", "50"))
PART = 500  # examples that are drawn together: what was drawn is remembered, half a megabyte for each
STEPS = int(os.environ.get("MATCHING_STEPS", "40"))
NIGHTLY = "MATCHING_EXAMPLES" in os.environ

DEPOSITS = {"alice": Decimal(1000), "bob": Decimal(1000), "carol": Decimal(4)}  # carol's money often ends
MAKER_SHARES = {"quadratic": ZERO, "quadratic_with_maker_fees": Decimal("0.25")}
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK

members = st.sampled_from(sorted(DEPOSITS))
# Few prices, so that orders meet; off the cent, so that hundredths of contracts round; and the ends.
prices = st.sampled_from([110, 4800, 4900, 4950, 4950, 5000, 5000, 5030, 5100, 9890])
counts = st.one_of(st.integers(1, 9), st.sampled_from([50, 100, 250, 333, 1000, 2000]))
picks = st.integers(0, 1_000)


CROSSING = -1


@dataclass(frozen=True)
class Plan:
    """An order to be sent."""

    owner: str
    side: BookSide
    price: int
    count: Lots
    tif: TimeInForce
    self_trade: str
    flag: str
    lasts: int  # seconds, when it expires
    group: int | None


@dataclass(frozen=True)
class Change:
    """Something done to an order that is there: `share` of it is what shall rest, in percent."""

    pick: int
    verb: str
    price: int | None  # None: its own; CROSSING: the best of the other side
    share: int
    lasts: int | None


plans = st.builds(
    Plan,
    owner=members,
    side=st.sampled_from(BookSide),
    price=prices,
    count=counts,
    tif=st.sampled_from([GTC, GTC, GTC, GTC, IOC, FOK]),
    self_trade=st.sampled_from(["taker_at_cross", "maker"]),
    flag=st.sampled_from(["", "", "", "", "post_only", "reduce_only", "on_pause", "expires", "all_in"]),
    lasts=st.integers(1, 20),
    group=st.one_of(st.none(), picks),
)
changes = st.builds(
    Change,
    pick=picks,
    verb=st.sampled_from(["amend", "amend", "amend", "decrease", "cancel"]),
    price=st.one_of(st.none(), st.just(CROSSING), prices),
    share=st.one_of(st.just(100), st.integers(0, 100), st.integers(101, 400)),
    lasts=st.one_of(st.none(), st.integers(1, 20)),
)
some_plans = st.lists(plans, max_size=4)


class Trio(Floor):
    """Three members, one of them poor, and one market after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.market = 0
        self.exchange.open_account(AccountOpened("carol", "carol", DEPOSITS["carol"]))

    @property
    def ticker(self) -> str:
        return f"{TICKER}{self.market}"

    def open(self, market: int) -> Trio:
        """List a market that lasts longer than any run of the machine."""
        self.market = market
        closes = rfc3339(START + timedelta(days=30))
        ranges = [{"start": "0.0000", "end": "1.0000", "step": "0.0010"}]
        self.list_market(ticker=self.ticker, close_time=closes, price_ranges=ranges)
        return self

    def reopen(self) -> Trio:
        again = super().reopen()
        return Trio(again.path, again.clock, again.fee_type, again.deposit, again.numbers).open(self.market)

    @property
    def listing(self) -> Listing:
        return self.exchange.listing(self.ticker)


class MatchingMachine(RuleBasedStateMachine):
    """What members and time do, told to both exchanges."""

    def spoil(self, floor: Trio) -> None:
        """A place for errors: the controls below build them in."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="kops-machine-"))
        self.ids: dict[Order, str] = {}
        self.group_ids: dict[Group, str] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @initialize(fee_type=st.sampled_from(sorted(MAKER_SHARES)))
    def begin(self, fee_type: str) -> None:
        self.floor = Trio(self.home / "journal.jsonl", fee_type=fee_type).open(0)
        self.naive = NaiveExchange(DEPOSITS, MAKER_SHARES[fee_type])
        self.spoil(self.floor)

    # Orders

    @rule(orders=st.lists(plans, min_size=1, max_size=8))
    def orders_come(self, orders: list[Plan]) -> None:
        self.send(orders)

    @rule(orders=some_plans, made=st.lists(changes, min_size=1, max_size=6))
    def orders_change(self, orders: list[Plan], made: list[Change]) -> None:
        self.send(orders)
        self.change(made)

    @rule(
        price=st.sampled_from([110, 4950]),
        sizes=st.lists(st.integers(1, 3), min_size=3, max_size=8),
        tif=st.sampled_from([GTC, IOC, FOK]),
        rests_beside=st.booleans(),
    )
    def the_last_cent_is_spent(
        self, price: int, sizes: list[Lots], tif: TimeInForce, rests_beside: bool
    ) -> None:
        """Carol takes many small orders with all she has: each fill rounds up, so that her money ends before the order
        does."""
        small = [Plan("bob", BookSide.ASK, price, lots, GTC, "maker", "", 1, None) for lots in sizes]
        beside = [Plan("carol", BookSide.BID, 110, 50, GTC, "maker", "", 1, None)] if rests_beside else []
        self.send([*beside, *small, Plan("carol", BookSide.BID, price, 1, tif, "maker", "all_in", 1, None)])

    @rule(owner=members, orders=some_plans)
    def everything_is_canceled(self, owner: str, orders: list[Plan]) -> None:
        self.send(orders)
        self.tick()
        self.naive.cancel_all(owner)
        entry.cancel_all(self.floor.exchange, owner)

    # Groups

    @rule(owner=members, limit=counts, orders=some_plans)
    def a_group_is_made(self, owner: str, limit: Lots, orders: list[Plan]) -> None:
        if len(self.living_groups()) < 4:
            self.tick()
            record = group_entry.create_group(self.floor.exchange, owner, limit, 0, 0)
            self.group_ids[Group(owner, lots_decimal(limit))] = record.group_id
        self.send(orders)

    @precondition(lambda self: self.living_groups())
    @rule(
        pick=picks,
        verb=st.sampled_from(["trigger", "reset", "reset", "relimit", "delete"]),
        limit=counts,
        orders=some_plans,
    )
    def a_group_changes(self, pick: int, verb: str, limit: Lots, orders: list[Plan]) -> None:
        self.send(orders)
        self.tick()
        living = self.living_groups()
        group = living[pick % len(living)]
        exchange = self.floor.exchange
        known = group_entry.find_group(exchange, group.owner, self.group_ids[group], 0, 0)
        if verb == "relimit":
            self.naive.relimit(group, lots_decimal(limit))
            group_entry.limit_group(exchange, known, limit)
            return
        getattr(self.naive, verb)(group)
        verbs = {
            "trigger": group_entry.trigger_group,
            "reset": group_entry.reset_group,
            "delete": group_entry.delete_group,
        }
        verbs[verb](exchange, known)

    # Time, pauses, the end, restarts

    @rule(ms=st.integers(1, 20_000), looks=st.booleans(), orders=some_plans)
    def time_passes(self, ms: int, looks: bool, orders: list[Plan]) -> None:
        """The engine looks at its clock now and then; between two looks nothing may depend on it."""
        self.send(orders)
        self.tick(ms)
        if looks:
            self.naive.expire()
            self.floor.exchange.pass_time()

    @rule(of_market=st.booleans(), before=some_plans, orders=some_plans, made=st.lists(changes, max_size=4))
    def trading_is_paused(
        self, of_market: bool, before: list[Plan], orders: list[Plan], made: list[Change]
    ) -> None:
        """Of the market or of the exchange; some try to trade meanwhile, and some withdraw."""
        self.send(before)
        self.tick()
        exchange = self.floor.exchange
        self.naive.pause(market=of_market)
        if of_market:
            exchange.pause_market(self.floor.ticker)
        else:
            exchange.trading_active = False
        self.send(orders)
        self.change(made)
        self.tick()
        self.naive.reopen_market()
        self.naive.trading_paused = False
        exchange.open_market(self.floor.ticker)
        exchange.trading_active = True

    @precondition(lambda self: any(self.naive.position.values()))
    @rule(
        outcome=st.sampled_from([("yes", 10_000), ("no", 0), ("scalar", 3_333), ("scalar", 9_999)]),
        orders=st.lists(plans, max_size=8),
    )
    def the_market_ends(self, outcome: tuple[str, int], orders: list[Plan]) -> None:
        self.tick()
        result, value = outcome
        self.naive.settle(ticks_decimal(value))
        self.floor.exchange.determine(self.floor.ticker, result, value)
        self.floor.exchange.settle(self.floor.ticker)
        self.floor.open(self.floor.market + 1)
        self.send(orders)

    @rule(orders=some_plans)
    def the_exchange_is_killed_and_starts_again(self, orders: list[Plan]) -> None:
        self.tick()
        self.floor = self.floor.reopen()
        self.naive.expire()  # listing the market again looks at the clock
        self.spoil(self.floor)
        self.send(orders)

    # Doing it to both

    def send(self, orders: list[Plan]) -> None:
        for plan in orders:
            self.tick()
            self.create(plan)
            self.everything_agrees()

    def create(self, plan: Plan) -> None:
        count = self.all_in(plan) if plan.flag == "all_in" else plan.count
        tif = IOC if plan.flag == "reduce_only" else plan.tif
        rests = tif is GTC
        expires = (
            int(self.floor.clock().timestamp()) + plan.lasts if plan.flag == "expires" and rests else None
        )
        group = self.group_of(plan.owner, plan.group)
        ticket = Ticket(
            ticker=self.floor.ticker,
            side=plan.side,
            price=f"{ticks_decimal(plan.price):.4f}",
            count=f"{lots_decimal(count):.2f}",
            time_in_force=tif,
            self_trade_prevention_type=plan.self_trade,  # type: ignore[arg-type]
            post_only=plan.flag == "post_only" and rests,
            reduce_only=plan.flag == "reduce_only",
            cancel_order_on_pause=plan.flag == "on_pause",
            expiration_time=expires,
            order_group_id=None if group is None else self.group_ids[group],
        )
        order = Order(
            owner=plan.owner,
            side=plan.side.value,
            price=ticks_decimal(plan.price),
            remaining=ZERO,
            tif=tif.value,
            self_trade=plan.self_trade,
            post_only=ticket.post_only,
            reduce_only=ticket.reduce_only,
            expires_ms=None if expires is None else expires * 1000,
            on_pause=ticket.cancel_order_on_pause,
            group=group,
        )
        expected = self.naive.create(order, lots_decimal(count))
        made = self.agree_on(expected, lambda: entry.create(self.floor.exchange, plan.owner, ticket))
        if expected is None:
            self.ids[order] = made.order_id

    def change(self, made: list[Change]) -> None:
        for each in made:
            if self.naive.orders:
                self.tick()
                self.change_one(each)
                self.everything_agrees()

    def change_one(self, made: Change) -> None:
        order, exchange = self.picked(made.pick), self.floor.exchange
        record = exchange.ledger.accounts[order.owner].orders[self.ids[order]]
        left = record.remaining_lots * made.share // 100
        if made.verb == "cancel":
            self.agree_on(self.naive.cancel(order), lambda: entry.cancel(exchange, record))
        elif made.verb == "decrease":
            expected = self.naive.decrease(order, lots_decimal(left))
            self.agree_on(expected, lambda: decrease(exchange, record, by=None, to=left))
        else:
            expires_ms = record.expires_ms
            if made.lasts is not None:
                expires_ms = (int(self.floor.clock().timestamp()) + made.lasts) * 1000
            price, total = self.price_of(made, record), record.filled_lots + left
            wanted = Amendment(
                record.side, price, total, expires_ms=expires_ms, keeps_expiry=made.lasts is None
            )
            expected = self.naive.amend(order, ticks_decimal(price), lots_decimal(total), expires_ms)
            self.agree_on(expected, lambda: amend(exchange, record, wanted))

    # Agreement

    @invariant()
    def everything_agrees(self) -> None:
        if hasattr(self, "floor"):
            self.accounts_agree()
            self.orders_agree()
            self.groups_agree()
            self.the_book_is_the_same_and_not_crossed()
            self.no_money_is_made_or_lost()

    def accounts_agree(self) -> None:
        for name, account in self.floor.exchange.ledger.accounts.items():
            purse = account.purse()
            assert purse.balance == self.naive.balance[name], name
            assert purse.available == self.naive.available(name), name
            assert purse.position_lots(self.floor.ticker) == to_lots(self.naive.position[name])
            mine = [fill for fill in self.naive.fills if fill.owner == name]
            assert [_told(fill) for fill in account.fills] == [
                (self.ids[fill.order], fill.price, fill.count, fill.is_taker, fill.fee, fill.change)
                for fill in mine
            ], "the same fills in the same order"
        assert sum(len(a.orders) for a in self.floor.exchange.ledger.accounts.values()) == len(self.ids)

    def orders_agree(self) -> None:
        for order, order_id in self.ids.items():
            record = self.floor.exchange.ledger.accounts[order.owner].orders[order_id]
            assert (record.status, record.reason) == (order.status, order.reason)
            counts = (lots_decimal(record.remaining_lots), lots_decimal(record.filled_lots))
            assert counts == (order.remaining, order.filled)
            assert (ticks_decimal(record.price_ticks), record.expires_ms) == (order.price, order.expires_ms)
            fees = (record.taker_fees + record.maker_fees, record.accumulator)
            assert fees == (order.fees, order.gathered)
        told = {order.order_id: lots for order, lots in queue_positions(self.floor.listing)}
        resting = {self.ids[order]: to_lots(self.naive.ahead_of(order)) for order in self.naive.queue}
        assert told == resting, "the same places in the queue"
        assert told == {order_id: queue_position(self.floor.listing, order_id) for order_id in told}

    def groups_agree(self) -> None:
        for group, group_id in self.group_ids.items():
            known = self.floor.exchange.ledger.groups.get(group_id)
            assert (known is None) is group.deleted
            if known is not None:
                assert known.record.is_triggered is group.triggered
                assert lots_decimal(known.matched(to_ms(self.floor.clock()))) == self.naive.matched(group)

    def the_book_is_the_same_and_not_crossed(self) -> None:
        book = self.floor.listing.book
        for side in BookSide:
            levels = [(ticks_decimal(price), lots_decimal(lots)) for price, lots in book.levels(side)]
            assert levels == self.naive.levels(side.value)
        bid, ask = book.best(BookSide.BID), book.best(BookSide.ASK)
        assert bid is None or ask is None or bid[0] < ask[0], "never crossed"

    def no_money_is_made_or_lost(self) -> None:
        """All deposits are cash, fees, what payouts rounded off, and one dollar per open pair: to the last unit."""
        accounts = self.floor.exchange.ledger.accounts.values()
        cash = sum((account.balance for account in accounts), ZERO)
        fees = sum((fill.fee for account in accounts for fill in account.fills), ZERO)
        held = [account.position_lots(self.floor.ticker) for account in accounts]
        assert sum(held) == 0
        pairs = lots_decimal(sum(lots for lots in held if lots > 0))
        assert cash + fees + pairs + self.naive.dust == sum(DEPOSITS.values())
        for account in accounts:
            assert account.balance >= 0
            assert account.purse().available >= 0
            assert account.balance % GRID == 0

    # Small matters

    def tick(self, ms: int = 1) -> None:
        """Nothing happens at the same millisecond as something else."""
        self.floor.clock.pass_by(milliseconds=ms)
        self.naive.now_ms = to_ms(self.floor.clock())

    def agree_on(self, expected: str | None, call: Callable[[], Any]) -> Any:
        """Both accept, or both refuse with the same code."""
        made, code = None, None
        try:
            made = call()
        except Refused as refused:
            code = refused.body["error"]["code"]
        assert code == expected
        return made

    def all_in(self, plan: Plan) -> Lots:
        """As many lots as the member can just pay for (who is rich: no more than twenty contracts)."""
        price = ticks_decimal(plan.price)
        own = price if plan.side is BookSide.BID else 1 - price
        each = own + Decimal("0.07") * price * (1 - price)
        afforded = int((self.naive.available(plan.owner) - 2 * GRID) / each * 100)
        return max(afforded, 1) if plan.owner == "carol" else min(max(afforded, 1), 2_000)

    def price_of(self, made: Change, record: OrderRecord) -> int:
        if made.price != CROSSING:
            return made.price or record.price_ticks
        best = self.floor.listing.book.best(opposite(record.side))
        return record.price_ticks if best is None else best[0]

    def picked(self, pick: int) -> Order:
        """An order of this market; mostly one that rests."""
        resting = self.naive.queue
        among = resting if resting and pick % 8 else self.naive.orders
        return among[pick % len(among)]

    def living_groups(self) -> list[Group]:
        return [group for group in self.group_ids if not group.deleted]

    def group_of(self, owner: str, pick: int | None) -> Group | None:
        own = [group for group in self.group_ids if group.owner == owner]
        return own[pick % len(own)] if own and pick is not None else None


def _told(fill: FillRecord) -> tuple[str, Decimal, Decimal, bool, Decimal, Decimal]:
    price, count = ticks_decimal(fill.price_ticks), lots_decimal(fill.lots)
    return fill.order_id, price, count, fill.is_taker, fill.fee, fill.change


USUAL = settings(
    max_examples=min(EXAMPLES, PART),
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=not NIGHTLY,
    print_blob=NIGHTLY,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("part", range(max(1, EXAMPLES // PART)))
def test_the_engine_and_the_naive_exchange_agree_whatever_happens(part: int) -> None:
    run_machine(MatchingMachine, settings=USUAL)


# Controls: the machine sees what it is there to see


class _LosesPlaces(TradingFloor):
    """Puts an order that was made smaller at the back of its queue."""

    def shrink(self, listing: Listing, order: OrderRecord, lots: Lots) -> None:
        super().shrink(listing, order, lots)
        standing = listing.book.cancel(order.order_id)
        if standing is not None:
            listing.book.rest(standing)


class _ForgetsFees(TradingFloor):
    """Gives every fill's fee back, in memory only."""

    def _fill_owner(self, *args: Any, **kwargs: Any) -> list[FillRecord]:
        fills = super()._fill_owner(*args, **kwargs)
        for fill in fills:
            self._ledger.purse_of(fill).cash += fill.fee
        return fills


class _Blind(Guards):
    """Sees neither money nor groups."""

    def after_fills(self, fills: Iterable[FillRecord], incoming: str | None = None) -> None:
        pass


class _LooksAtNothing(TradingFloor):
    """Matches on, whatever a fill has done to an account or a group."""

    def __init__(self, steps: Steps, listings: Mapping[str, Listing]) -> None:
        super().__init__(steps, listings)
        self.guards = _Blind(steps, self.withdraw)


@pytest.mark.parametrize("broken", [_LosesPlaces, _ForgetsFees, _LooksAtNothing])
def test_a_broken_engine_is_found_out(broken: type[TradingFloor]) -> None:
    class Spoiled(MatchingMachine):
        def spoil(self, floor: Trio) -> None:
            exchange = floor.exchange
            exchange.floor = broken(exchange.steps, exchange.catalog.listings)

    quick = settings(USUAL, max_examples=200, derandomize=True, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_machine(Spoiled, settings=quick)
