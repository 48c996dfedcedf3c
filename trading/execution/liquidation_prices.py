"""What the held side of a market is bid now: by our own quote while it is young, else by the exchange's own book.

A feed that died leaves its last prices behind. Older than the limit of the risk rules (`data_age`) they are no prices.
But a way out does not wait for the feed: execution reads the books itself. A page, which may not, says that it is old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.db import Error as DatabaseError
from django.utils import timezone

from portfolio import risk
from portfolio.domain.limits import PAPER_LIMITS
from portfolio.models import Position
from trading.domain.book import Book, BookFault
from trading.domain.markets import MarketFacts, TopOfBook
from trading.domain.orders import Side
from trading.exchange.gateway import MarketDataGateway
from trading.exchange.reports import BookReport

log = logging.getLogger(__name__)

NO_PRICE: Final = "no price yet"
IN_A_REQUEST: Final = 100  # books
BEGIN_WITHIN: Final = 1.0  # seconds; later no further request is begun: cancels and our lease wait meanwhile


@dataclass(frozen=True, slots=True)
class Price:
    """The held side's best bid: None where nobody bids, and where `doubt` says in words why it is not known.

    `is_awaited`: it may be known at the next look.
    """

    bid: Decimal | None = None
    doubt: str = ""
    is_awaited: bool = False


def side_of(row: Position) -> Side:
    return Side.YES if row.quantity > 0 else Side.NO


def prices_of(held: Sequence[Position], exchange: MarketDataGateway | None = None) -> dict[str, Price]:
    """The price of each holding; `exchange` is asked where our own quote is none. What is wrong with one market keeps
    no other from its price."""
    prices = _judged(held, _most_age())
    doubtful = [row for row in held if prices[row.ticker].is_awaited]
    return prices if exchange is None else prices | _asked(exchange, doubtful, prices)


def _judged(held: Sequence[Position], most: timedelta) -> dict[str, Price]:
    """By our own quotes: all at once, and each by itself where one of them cannot be judged."""
    try:
        facts = risk.market_facts([row.ticker for row in held])
        return {row.ticker: _own(row, facts.get(row.ticker), most) for row in held}
    except DatabaseError:
        raise
    except Exception as fault:
        if len(held) > 1:
            return {ticker: price for row in held for ticker, price in _judged([row], most).items()}
        ticker = held[0].ticker
        log.warning("liquidation.price.unjudged", extra={"ticker": ticker, "error": repr(fault)})
        return {ticker: Price(doubt=f"could not be judged: {str(fault) or type(fault).__name__}")}


def _own(row: Position, facts: MarketFacts | None, most: timedelta) -> Price:
    if facts is None:
        return Price(doubt=str(risk.UnknownMarket(row.ticker)))
    if doubt := _doubt(facts.book, most):
        return Price(doubt=doubt, is_awaited=True)
    return Price(facts.book.bid(side_of(row)))


def _most_age() -> timedelta:
    try:
        seconds = risk.limits()["data_age"]
    except risk.UnknownLimit:  # an odd row stops all that opens; it keeps nobody in
        seconds = PAPER_LIMITS["data_age"].value
    return timedelta(seconds=float(seconds))


def _doubt(book: TopOfBook, most: timedelta) -> str:
    """Why this book is no price; empty where it is one. Stays the same for a while: each change of words is a step."""
    age = book.age(timezone.now())
    if age is None:
        return NO_PRICE
    if abs(age) <= most:
        return ""
    if age < timedelta(0):
        return "the price is from the future: a clock is wrong"
    minutes = int(age.total_seconds()) // 60
    if not minutes:
        return f"the price is more than {most.total_seconds():.0f} s old"
    return f"the price is {minutes} min old" if minutes < 120 else f"the price is {minutes // 60} h old"


def _asked(
    exchange: MarketDataGateway, held: Sequence[Position], prices: Mapping[str, Price]
) -> dict[str, Price]:
    """The same by the exchange's own books, and where it shows none, why it is not known in both places."""
    asked: dict[str, Price] = {}
    began = time.monotonic()
    for first in range(0, len(held), IN_A_REQUEST):
        if time.monotonic() - began > BEGIN_WITHIN:
            break
        some = held[first : first + IN_A_REQUEST]
        try:
            told = {report.ticker: report for report in exchange.order_books([row.ticker for row in some])}
        except DatabaseError:
            raise
        except Exception as error:
            log.warning("liquidation.books.unread", extra={"error": repr(error)})
            return asked | dict(_still_unknown(some, prices, f"cannot be read: {_short(error)}"))
        asked |= dict(_still_unknown([r for r in some if r.ticker not in told], prices, "is not shown"))
        asked |= {row.ticker: _shown(row, told[row.ticker], prices) for row in some if row.ticker in told}
    return asked


def _short(error: Exception) -> str:
    """The code alone, which stays the same from look to look."""
    return str(getattr(error, "code", type(error).__name__))


def _still_unknown(
    held: Sequence[Position], prices: Mapping[str, Price], why: str
) -> Iterator[tuple[str, Price]]:
    for row in held:
        doubt = f"{prices[row.ticker].doubt}; the exchange's own book {why}"
        yield row.ticker, Price(doubt=doubt, is_awaited=True)


def _shown(row: Position, told: BookReport, prices: Mapping[str, Price]) -> Price:
    book = Book(row.ticker)
    try:
        book.apply_snapshot(told.bids, told.asks)
    except BookFault as fault:
        return dict(_still_unknown([row], prices, f"cannot be read: {fault.code}"))[row.ticker]
    return Price(book.top().bid(side_of(row)))
