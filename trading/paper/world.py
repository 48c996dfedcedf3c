"""What a world may do to the paper exchange, and what a world is.

A world is the rest of mankind: it lists markets, quotes, trades, and tells how each market ends. `simulate`
invents one, `replay` plays a recorded one. The engine (`trading.paper.exchange.Exchange`) satisfies `Venue`;
worlds are written against this Protocol alone.

Rules for a world
-----------------
1. Everything runs in one asyncio loop and one thread; calls are plain functions that take effect before they
   return. A world must `await asyncio.sleep(...)` often: a call never yields, and the server shares the loop.
2. Prices are ticks of $0.0001 **on the YES scale for both sides** (a NO bid at 0.34 is an ask at 6600); counts
   are lots of 0.01 contract. `trading.domain.matching.to_ticks/to_lots` convert strings and Decimals.
3. Definitions are dicts with the fields of the REST payload (API.md 9: Series, Event, Market). The engine owns and
   overwrites the live fields (status, bids, asks, last price, volumes, open interest, result, settlement fields,
   updated_time, see `definitions.LIVE_FIELDS`); everything else is served as given. Required fields that are
   missing get neutral values. Times are RFC 3339 strings on the wall clock: `open_time` and `close_time` are obeyed.
4. A market opens at its `open_time` and closes at its `close_time` by itself (the engine looks ten times a
   second); `close_market` may come earlier. `determine` and `settle` are the world's to call: nothing is paid
   before `settle`.
5. After a restart the engine still holds markets in which an account has an order, a position or a history
   (`restored()`). A world that knows such a ticker calls `add_market` again and goes on; the accounts' resting
   orders and positions are still there. Markets that no world adopts are ended by the engine: orders canceled at
   `close_time`, positions paid `settlement_timer_seconds` later at the determined value or, without one, at the
   last traded price (`market_result: scalar`), but not within 30 s after the start.
6. House orders (`house_submit`) have unlimited funds, no fees and no journal. Recorded liquidity (`external_*`)
   never matches other recorded liquidity, only orders of accounts and of the house; do not mix the house's orders
   and recorded liquidity in one market.
7. While trading is paused for the exchange, house orders are dropped (0 filled, 0 remaining), recorded changes are held
   back until it resumes, and recorded prints are passed over: nothing trades in a pause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide, TimeInForce

Definition = Mapping[str, Any]
Level = tuple[Ticks, Lots]


@dataclass(frozen=True, slots=True)
class HouseOrder:
    """What became of a house order at entry. `order_id` is for `house_cancel`; counts in lots."""

    order_id: str
    filled_lots: Lots
    remaining_lots: Lots  # what rests now (0 for IOC and FOK)


@dataclass(frozen=True, slots=True)
class Touch:
    """The top of one market's book as the public sees it, YES scale; None and 0 where a side is empty."""

    bid_ticks: Ticks | None
    bid_lots: Lots
    ask_ticks: Ticks | None
    ask_lots: Lots
    last_ticks: Ticks | None  # the last trade


class Venue(Protocol):
    """The engine as a world sees it. Unknown tickers raise KeyError, illegal arguments ValueError."""

    def now(self) -> datetime:
        """The exchange's clock, UTC."""

    def live_through(self, past: timedelta, pace: timedelta, act: Callable[[], None]) -> None:
        """Act out the past up to now in steps, before anybody can watch or trade; `now` tells the acted time."""

    # Listing and lifecycle

    def add_series(self, definition: Definition) -> None:
        """List a series (fields of `GET /series/{ticker}`), or replace its definition."""

    def add_event(self, definition: Definition) -> None:
        """List an event (its series must be listed), or replace its definition. A nested `markets` key is
        ignored."""

    def add_market(self, definition: Definition) -> None:
        """List a market (its event must be listed), or replace its definition and adopt it after a restart.

        It is `initialized` until its `open_time`. A finalized market of the same ticker is listed anew
        (history stays). Publishes `created`.
        """

    def update_market(self, ticker: str, fields: Definition) -> None:
        """Change definition fields (title, rules, `close_time`, price_ranges …) or replayed live figures:
        `volume_fp`, `open_interest_fp` and `last_price_dollars` given here become the base to which the
        engine's own trades are added."""

    def open_market(self, ticker: str) -> None:
        """Start trading now: status active."""

    def pause_market(self, ticker: str) -> None:
        """Status inactive: no orders, cancels allowed. `open_market` ends it and cancels all resting orders."""

    def close_market(self, ticker: str) -> None:
        """Stop trading for good: status closed, all resting orders canceled (CloseCancel). Idempotent."""

    def determine(
        self, ticker: str, result: str, value_ticks: Ticks | None = None, expiration_value: str = ""
    ) -> None:
        """Fix the outcome: result yes, no or scalar; `value_ticks` is the YES contract's value (needed for
        scalar only). Closes the market first if it is open. Status determined. Nothing is paid yet. An outcome that
        stands is not changed."""

    def void(self, ticker: str) -> None:
        """Determine a market whose question cannot be answered: scalar, at the last traded price (the middle when
        nothing traded)."""

    def dispute(self, ticker: str) -> None:
        """Question a determined outcome: `settle` does nothing until `determine` has fixed it anew. The engine settles
        it `settlement_timer_seconds` later, unless the world does so earlier."""

    def settle(self, ticker: str) -> None:
        """Pay the positions of all accounts: YES the value, NO 1 - value. Status finalized. Needs
        `determine`; idempotent."""

    def change_series_fee(self, ticker: str, fee_type: str, multiplier: Decimal, at: datetime) -> None:
        """Schedule new fees of a series; `GET /series/fee_changes` tells of them."""

    def change_event_fee(
        self, ticker: str, fee_type: str | None, multiplier: Decimal | None, at: datetime
    ) -> None:
        """Schedule an event's override of its series' fees; None for both clears it. Publishes `event_fee_update` when
        it comes."""

    def set_active(self, *, exchange: bool | None = None, trading: bool | None = None) -> None:
        """Pause or resume the whole exchange, or only trading, in all markets (API.md 8)."""

    # The house: simulated participants

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
        """Enter an order of a named participant. A participant never trades with itself: its own resting
        order at the cross is canceled. A crossing `post_only` order is dropped (0 filled, 0 remaining).
        Off-grid prices raise ValueError."""

    def house_cancel(self, ticker: str, order_id: str) -> Lots:
        """Cancel a house order; the lots that were taken off the book (0 when it was no longer there)."""

    def house_cancel_all(self, participant: str, ticker: str) -> Lots:
        """Cancel everything a participant rests in one market."""

    # Recorded liquidity: replay

    def replace_external_book(self, ticker: str, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """A recorded snapshot. Own orders keep their place in the queue as far as the new sizes allow."""

    def lose_external_book(self, ticker: str) -> None:
        """The recorded book is not known any more: it is emptied, and until the next `replace_external_book` new orders
        are refused (`trading_is_paused`). Our resting orders stay, with what stood ahead of them as the bound of what
        may stand there afterwards."""

    def external_delta(self, ticker: str, side: BookSide, price_ticks: Ticks, delta_lots: Lots) -> None:
        """A recorded signed change of one level. New size joins behind our orders and hits ours when it crosses
        them; of removed size the fill model guesses what stood ahead of our orders (`fill_models`)."""

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
        """A recorded print. It uses up the recorded size ahead of our orders at its price, then fills ours; ours
        at prices better for the taker fill whole, up to the print's count. The matching `external_delta` may
        come before or after it and is not counted twice."""

    # Looking

    def touch(self, ticker: str) -> Touch:
        """Best prices and the last trade."""

    def status(self, ticker: str) -> str:
        """The market's status word (trading.domain.markets.MarketStatus)."""

    def restored(self) -> Mapping[str, Mapping[str, Any]]:
        """Markets of an earlier run, not finalized and not yet adopted by a world: ticker -> market
        definition."""


class World(Protocol):
    """The rest of mankind. One world per exchange process."""

    async def run(self, exchange: Venue) -> None:
        """Drive the exchange until canceled (or until the recording ends). Lists the first markets before the
        first await, so that the exchange is never seen empty."""

    def describe(self) -> str:
        """One line for the start-up banner, such as `simulation, seed 7`."""
