"""What the analyst is told of each open market: its rows and its recent trades, put together.

Nothing but what the exchange's public API shows goes in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from trading.agent.schemas import MarketBrief, Print, Rung
from trading.domain.markets import MarketFacts
from trading.exchange.reports import PublicTrade
from trading.models import Market
from trading.models.quote import Around, facts_from


def prints_of(trades: Iterable[PublicTrade]) -> dict[str, list[Print]]:
    by_market: dict[str, list[Print]] = defaultdict(list)
    for trade in sorted(trades, key=lambda each: each.at, reverse=True):
        by_market[trade.ticker].append(Print(trade.price, trade.quantity, trade.taker_side, trade.at))
    return by_market


def briefs_of(markets: list[Market], prints: Mapping[str, list[Print]]) -> list[MarketBrief]:
    around = Around.of(markets)
    facts = {row.ticker: facts_from(row, around) for row in markets}
    rows: dict[str, list[Market]] = defaultdict(list)
    for row in markets:
        rows[row.event_ticker].append(row)
    return [
        MarketBrief(
            facts=facts[row.ticker],
            rules_text=row.rules_text,
            category=row.category,
            mutually_exclusive=row.mutually_exclusive,
            bids=_levels(row, "bids"),
            asks=_levels(row, "asks"),
            prints=tuple(prints.get(row.ticker, ())),
            siblings=tuple(facts[r.ticker] for r in rows[row.event_ticker] if r is not row),
            strike=_strike(row),
            ladder=_ladder(row, rows[row.event_ticker], facts),
        )
        for row in markets
    ]


def _strike(row: Market) -> Decimal | None:
    """The strike of a market that resolves YES at or above it; None for every other kind."""
    rises = row.strike_type in ("greater", "greater_or_equal") and not row.mutually_exclusive
    return Decimal(row.floor_strike) if rises and row.floor_strike else None


def _ladder(row: Market, event: list[Market], facts: Mapping[str, MarketFacts]) -> tuple[Rung, ...]:
    others = [(_strike(other), facts[other.ticker].book.mid) for other in event if other is not row]
    return tuple(Rung(strike, mid) for strike, mid in others if strike is not None and mid is not None)


def _levels(row: Market, side: str) -> tuple[tuple[Decimal, Decimal], ...]:
    levels = row.quote.levels if hasattr(row, "quote") else {}
    return tuple((Decimal(price), Decimal(count)) for price, count in levels.get(side, ()))
