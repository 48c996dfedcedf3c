"""What is known of a market at one moment, by value: the form in which rules, analyst and pages get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from trading.domain.fees import FeeSchedule
from trading.domain.hours import ExchangeFacts
from trading.domain.orders import Action, Side
from trading.domain.prices import PriceGrid, complement, linear_grid


class MarketStatus(StrEnum):
    """The status in a market's payload (API.md 9); filters use other words."""

    INITIALIZED = "initialized"
    ACTIVE = "active"
    INACTIVE = "inactive"
    CLOSED = "closed"
    DETERMINED = "determined"
    DISPUTED = "disputed"
    AMENDED = "amended"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True)
class TopOfBook:
    """Best bid and ask on the YES scale with their quantities; None where a side is empty.

    `as_of` is the exchange's time of the last message that proved this book current.
    """

    yes_bid: Decimal | None
    yes_ask: Decimal | None
    yes_bid_quantity: Decimal = Decimal(0)
    yes_ask_quantity: Decimal = Decimal(0)
    as_of: datetime | None = None

    @property
    def mid(self) -> Decimal | None:
        """The middle of bid and ask, or None while a side is missing: a missing price is missing."""
        if self.yes_bid is None or self.yes_ask is None:
            return None
        return (self.yes_bid + self.yes_ask) / 2

    def bid(self, side: Side) -> Decimal | None:
        if side is Side.YES:
            return self.yes_bid
        return None if self.yes_ask is None else complement(self.yes_ask)

    def ask(self, side: Side) -> Decimal | None:
        if side is Side.YES:
            return self.yes_ask
        return None if self.yes_bid is None else complement(self.yes_bid)

    def ask_quantity(self, side: Side) -> Decimal:
        return self.yes_ask_quantity if side is Side.YES else self.yes_bid_quantity

    def bid_quantity(self, side: Side) -> Decimal:
        return self.yes_bid_quantity if side is Side.YES else self.yes_ask_quantity

    def touch(self, action: Action, side: Side) -> Decimal | None:
        """The price at which an order would trade at once."""
        return self.ask(side) if action is Action.BUY else self.bid(side)

    def age(self, now: datetime) -> timedelta | None:
        return None if self.as_of is None else now - self.as_of


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """Everything that the risk rules may know of one market. Prices in dollars on the YES scale, times UTC."""

    ticker: str
    event_ticker: str
    series_ticker: str
    title: str
    status: MarketStatus
    open_at: datetime
    close_at: datetime
    book: TopOfBook
    grid: PriceGrid = field(default_factory=linear_grid)
    fees: FeeSchedule = field(default_factory=FeeSchedule)
    exchange_index: int = 0
    exchange: ExchangeFacts = field(default_factory=ExchangeFacts)  # unknown until somebody asked

    def is_open(self, now: datetime) -> bool:
        return self.status is MarketStatus.ACTIVE and self.open_at <= now < self.close_at
