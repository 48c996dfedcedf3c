"""Mutually exclusive collateral return (MECNET; API.md 12, "Cross-market netting").

At most one market of such an event resolves YES. NO positions of q_i contracts in its markets therefore pay at
least `sum(q_i) - R * max(q_i)`, where R is what YES may still be worth over all of them: one dollar, less what
settled markets of the event have already paid to YES. That much is released at once: it belongs to the balance and
may be spent.

Released money is never booked: it is computed from the positions, grows when a leg is bought, and falls when a leg
is sold or paid. A leg whose sale takes back more than it brings needs funds, like an order that opens. When more
than one market pays YES after all (void and scalar outcomes), the payment falls short of what was released; the
difference is the member's debt, and the balance may go below zero.

YES positions release nothing, because no market is bound to resolve YES. DIRECNET (ordered strikes) is not offered:
the sources do not say what it releases, so its events release nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_FLOOR, Decimal

from trading.domain.matching import LOTS_PER_CONTRACT, TICKS_PER_DOLLAR, Lots, Ticks
from trading.paper.wire import MONEY_GRID


def released(short: Mapping[str, Lots], left_ticks: Ticks) -> Decimal:
    """What NO positions (lots by market) of one event are sure to pay, in dollars on the balance grid; `left_ticks` is
    what YES may still be worth over the event's open markets."""
    if len(short) < 2 and left_ticks == TICKS_PER_DOLLAR:  # one leg guarantees nothing
        return Decimal(0)
    sure = sum(short.values()) * TICKS_PER_DOLLAR - left_ticks * max(short.values(), default=0)
    exact = Decimal(sure) / (TICKS_PER_DOLLAR * LOTS_PER_CONTRACT)
    return exact.quantize(MONEY_GRID, ROUND_FLOOR)


def taken_back(
    short: Mapping[str, Lots], left_ticks: Ticks, ticker: str, before: Lots, lots: Lots
) -> Decimal:
    """How much less is released when `lots` of one leg are closed after `before` of it have been."""
    held = short.get(ticker, 0)
    first = released(_without(short, ticker, held - before), left_ticks)
    return first - released(_without(short, ticker, held - before - lots), left_ticks)


def left_for_yes(settled: Iterable[Ticks]) -> Ticks:
    """What YES may still be worth over an event's open markets, given what its settled ones paid to YES."""
    return max(0, TICKS_PER_DOLLAR - sum(settled))


def _without(short: Mapping[str, Lots], ticker: str, lots: Lots) -> dict[str, Lots]:
    kept = {name: held for name, held in short.items() if name != ticker}
    return {**kept, ticker: lots} if lots > 0 else kept
