"""The engine: one exchange in memory with its journal. Worlds drive it through `world.Venue`, accounts
through `entry`.

Single-threaded, inside one asyncio loop. Every public call is one step: it takes effect before it returns,
what it changed for accounts goes to the journal as one line, and the streams hear of it in order and only
when that line is durable.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from trading.domain.markets import MarketStatus
from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Order, SelfTrade, Ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.catalog import Catalog
from trading.paper.definitions import LIVE_FIELDS, Definition
from trading.paper.events import Event, Lifecycle
from trading.paper.fee_changes import FeeChanges
from trading.paper.fill_models import FillModel
from trading.paper.floor import Floor
from trading.paper.journal import Journal
from trading.paper.ledger import Ledger
from trading.paper.lifecycle import Lives
from trading.paper.listing import DECIDED, Listing
from trading.paper.maintenance import Upkeep
from trading.paper.outside import Outside
from trading.paper.records import AccountOpened
from trading.paper.restore import restore_listings
from trading.paper.shards import Shards
from trading.paper.steps import Publish, Steps
from trading.paper.treasury import Treasury
from trading.paper.wire import to_ms
from trading.paper.world import HouseOrder, Level, Touch

_RESULTS = {"yes": TICKS_PER_DOLLAR, "no": 0}


def wall_clock() -> datetime:
    return datetime.now(UTC)


def _same(moment: datetime) -> datetime:
    return moment


class Exchange:
    """Satisfies `trading.paper.world.Venue`. Raises KeyError for unknown tickers, ValueError for illegal
    arguments."""

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Callable[[], datetime] = wall_clock,
        publish: Publish | None = None,
        shards: int = 1,
        fill_model: FillModel = FillModel.PESSIMISTIC,
    ) -> None:
        """Read the journal and rebuild accounts, orders and their markets from it. Raises JournalDamaged."""
        self._clock = clock
        self.ledger = Ledger()
        for entry in journal.read():
            for record in entry.records:
                self.ledger.apply(record)
        journal.snapshot = self.ledger.records
        self.shards = Shards(shards)
        self.shards.grow(1 + self.ledger.last_shard)
        self.catalog = Catalog(self.shards, fill_model)
        self.publish: Publish = publish or (lambda _sequence, _events: None)
        self.steps = Steps(self.ledger, journal, self.now_ms, self._publish)
        self.floor = Floor(self.steps, self.catalog.listings)
        self.outside = Outside(self.steps, self.floor, self.shards)
        self.lives = Lives(self.catalog, self.steps, self.floor, self.now())
        self.fee_changes = FeeChanges(self.catalog, self.steps, self.lives)
        self.treasury = Treasury(self.steps, self.floor, self.shards, self.now())
        self.upkeep = Upkeep(lambda active: self.set_active(trading=active))
        self._house_ids = count(1)
        restore_listings(self.catalog, self.ledger)

    def _publish(self, sequence: int, events: list[Event]) -> None:
        self.publish(sequence, events)

    def now(self) -> datetime:
        return self._clock()

    def now_ms(self) -> int:
        return to_ms(self.now())

    def listing(self, ticker: str) -> Listing:
        """Raises KeyError."""
        return self.catalog.listings[ticker]

    @property
    def exchange_active(self) -> bool:
        """Whether every shard takes changes of state."""
        return all(self.shards.exchange_active)

    @exchange_active.setter
    def exchange_active(self, active: bool) -> None:
        self.set_active(exchange=active)

    @property
    def trading_active(self) -> bool:
        """Whether every shard takes orders."""
        return all(self.shards.trading_active)

    @trading_active.setter
    def trading_active(self, active: bool) -> None:
        self.set_active(trading=active)

    def set_active(
        self, *, exchange: bool | None = None, trading: bool | None = None, shard: int | None = None
    ) -> None:
        """Pause or resume the exchange or only trading, on one shard or on all. A pause cancels the orders that asked
        for it (HaltCancel); the others stay, and may be canceled while only trading is paused (API.md 8)."""
        for index in range(len(self.shards)) if shard is None else (shard,):
            if exchange is not None:
                self.shards.exchange_active[index] = exchange
            if trading is not None:
                self.shards.trading_active[index] = trading
        with self.steps.step():
            for listing in self.catalog.listings.values():
                if self.shards.trades(listing.exchange_index):
                    self.outside.resume(listing)
                else:
                    self.lives.halt(listing)

    def open_account(self, account: AccountOpened) -> None:
        """Make an account with its first deposit, unless the journal knows it."""
        if account.account_id not in self.ledger.accounts:
            with self.steps.step():
                self.steps.book(account)

    def pass_time(self) -> None:
        """Let the clock act: openings, closings, expiries, orphaned markets."""
        with self.steps.step():
            self.lives.pass_time(self.now())
            self.upkeep.pass_time(self.now())
            self.treasury.pass_time(self.now())
            self.fee_changes.pass_time(self.now())

    def live_through(self, past: timedelta, pace: timedelta, act: Callable[[], None]) -> None:
        """Act out the `past` up to now, a step of `pace` at a time, on a clock that runs ahead of nobody.

        For a world at its first start, before anybody can watch or trade: an exchange has a past, and its trades are
        what people judge prices by. The clock is the real one again afterwards, also when `act` raises.
        """
        real, end = self._clock, self._clock()
        moments = [end - past + pace * n for n in range(int(past / pace))]
        try:
            for moment in moments:
                self._clock = functools.partial(_same, moment)
                self.pass_time()
                act()
        finally:
            self._clock = real

    # For worlds, listing and lifecycle

    def add_series(self, definition: Definition) -> None:
        self.catalog.add_series(self.fee_changes.over_series(definition), self.now_ms())

    def add_event(self, definition: Definition) -> None:
        if not self.catalog.add_event(self.fee_changes.over_event(definition), self.now_ms()):
            return
        event = self.catalog.events[definition["event_ticker"]]
        body = {
            "event_ticker": event["event_ticker"],
            "exchange_index": event["exchange_index"],
            "title": event["title"],
            "subtitle": event["sub_title"],
            "collateral_return_type": event["collateral_return_type"],
            "series_ticker": event["series_ticker"],
        }
        if event.get("strike_period"):
            body["strike_period"] = event["strike_period"]
        if event.get("strike_date"):  # Unix seconds here, a text in the REST answer
            body["strike_date"] = int(datetime.fromisoformat(event["strike_date"]).timestamp())
        with self.steps.step():
            self.steps.tell(Lifecycle("event_lifecycle", body))

    def add_market(self, definition: Definition) -> None:
        with self.steps.step():
            known = self.catalog.listings.get(str(definition.get("ticker")))
            if known is not None and known.status in DECIDED and not known.adopted:
                self.lives.wind_up(known)  # the earlier run fixed its outcome: pay it, then list it anew
            listing = self.catalog.add_market(definition, self.now())
            listing.adopted = True
            if listing.status is MarketStatus.CLOSED and self.now() < listing.closes_at:
                listing.status = MarketStatus.INITIALIZED
            self.lives.changed(listing)
            if listing is not known:
                self.lives.listed(listing)
            self.lives.pass_time_for(listing, self.now())

    def update_market(self, ticker: str, fields: Definition) -> None:
        listing = self.listing(ticker)
        lasting = {key: value for key, value in fields.items() if key not in LIVE_FIELDS}
        with self.steps.step():
            listing.rebase(dict(fields))
            if lasting:
                closes_at = listing.closes_at
                listing.define({**listing.definition, **lasting})
                self.lives.redefined(listing, lasting, moved=closes_at != listing.closes_at)

    def open_market(self, ticker: str) -> None:
        with self.steps.step():
            self.outside.forget(self.listing(ticker))
            self.lives.open(self.listing(ticker))

    def pause_market(self, ticker: str) -> None:
        with self.steps.step():
            self.lives.pause(self.listing(ticker))

    def close_market(self, ticker: str) -> None:
        with self.steps.step():
            self.lives.close(self.listing(ticker))

    def determine(
        self, ticker: str, result: str, value_ticks: Ticks | None = None, expiration_value: str = ""
    ) -> None:
        value = _RESULTS.get(result, value_ticks)
        if value is None or result not in {*_RESULTS, "scalar"} or not 0 <= value <= TICKS_PER_DOLLAR:
            raise ValueError(f"no outcome: {result!r} at {value_ticks!r}")
        with self.steps.step():
            self.lives.determine(self.listing(ticker), result, value, expiration_value)

    def void(self, ticker: str) -> None:
        with self.steps.step():
            self.lives.void(self.listing(ticker))

    def dispute(self, ticker: str) -> None:
        with self.steps.step():
            self.lives.dispute(self.listing(ticker))

    def settle(self, ticker: str) -> None:
        with self.steps.step():
            self.lives.settle(self.listing(ticker))

    def change_series_fee(self, ticker: str, fee_type: str, multiplier: Decimal, at: datetime) -> None:
        with self.steps.step():
            self.fee_changes.of_series(ticker, fee_type, multiplier, at)

    def change_event_fee(
        self, ticker: str, fee_type: str | None, multiplier: Decimal | None, at: datetime
    ) -> None:
        with self.steps.step():
            self.fee_changes.of_event(ticker, fee_type, multiplier, at)

    # For worlds, the house

    def house_submit(
        self,
        participant: str,
        ticker: str,
        side: BookSide,
        price_ticks: Ticks,
        count_lots: Lots,
        tif: TimeInForce = TimeInForce.GTC,
        *,
        post_only: bool = False,
    ) -> HouseOrder:
        listing = self.listing(ticker)
        if listing.status is not MarketStatus.ACTIVE:
            raise ValueError(f"{ticker} is {listing.status}")
        if not listing.on_grid(price_ticks):
            raise ValueError(f"{price_ticks} ticks is off the grid of {ticker}")
        order = Order(f"house-{next(self._house_ids)}", f"house:{participant}", side, price_ticks, count_lots)
        if not self.shards.trades(listing.exchange_index):
            return HouseOrder(order.order_id, 0, 0)
        with self.steps.step():
            outcome = self.floor.execute(listing, order, tif, post_only=post_only, self_trade=SelfTrade.MAKER)
        return HouseOrder(order.order_id, outcome.filled, outcome.rested)

    def house_cancel(self, ticker: str, order_id: str) -> Lots:
        listing = self.listing(ticker)
        order = listing.book.orders.get(order_id)
        if order is None or not order.owner.startswith("house:"):
            return 0
        with self.steps.step():
            return self.floor.remove(listing, order_id, None)

    def house_cancel_all(self, participant: str, ticker: str) -> Lots:
        listing = self.listing(ticker)
        owner = f"house:{participant}"
        mine = [order.order_id for order in listing.book.orders.values() if order.owner == owner]
        with self.steps.step():
            return sum(self.floor.remove(listing, order_id, None) for order_id in mine)

    # For worlds, recorded liquidity

    def replace_external_book(self, ticker: str, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        with self.steps.step():
            self.outside.replace_book(self.listing(ticker), bids, asks)

    def lose_external_book(self, ticker: str) -> None:
        with self.steps.step():
            self.outside.lose_book(self.listing(ticker))

    def external_delta(self, ticker: str, side: BookSide, price_ticks: Ticks, delta_lots: Lots) -> None:
        with self.steps.step():
            self.outside.change(self.listing(ticker), side, price_ticks, delta_lots)

    def external_trade(
        self,
        ticker: str,
        price_ticks: Ticks,
        count_lots: Lots,
        taker_side: BookSide,
        *,
        trade_id: str | None = None,
        at: datetime | None = None,
    ) -> None:
        with self.steps.step():
            self.outside.trade(self.listing(ticker), price_ticks, count_lots, taker_side, trade_id, at)

    # For worlds, looking

    def touch(self, ticker: str) -> Touch:
        listing = self.listing(ticker)
        bid, bid_lots, ask, ask_lots = listing.best()
        return Touch(bid, bid_lots, ask, ask_lots, listing.last_ticks)

    def status(self, ticker: str) -> str:
        return self.listing(ticker).status.value

    def restored(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            ticker: listing.definition
            for ticker, listing in self.catalog.listings.items()
            if not listing.adopted and listing.status is not MarketStatus.FINALIZED
        }
