"""What a pause or a stop covers: everything, one strategy, one series, or one market.

A scope is written `` (everything), `strategy:NAME`, `series:TICKER` or `market:TICKER`; so it stands in the database,
in REST and on the command line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from portfolio.domain.limits import TradingMode

ALL: Final = ""
KINDS: Final = ("strategy", "series", "market")
LONGEST: Final = 130
_STRICTNESS: Final = (TradingMode.ACTIVE, TradingMode.REDUCING, TradingMode.HALTED)


class UnknownScope(ValueError):
    """A scope that names nothing: a typo must not pass for a stop."""

    code = "E012"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text[:60]!r} is no scope; write all, strategy:NAME, series:TICKER or market:TICKER"
        )


def parse(text: str) -> str:
    """A scope as somebody wrote it; `all` and nothing mean everything. Raises UnknownScope.

    The exchange writes its tickers in capitals: a series or a market in small letters is the same one.
    """
    if text in {"", "all"}:
        return ALL
    kind, _, name = text.partition(":")
    written = name.strip() if kind == "strategy" else name.strip().upper()
    scope = f"{kind}:{written}"  # measured as it is kept: ß in capitals are two letters
    if kind not in KINDS or not written or len(scope) > LONGEST or not name.isprintable():
        raise UnknownScope(text)
    return scope


def covering(*, strategy: str, series: str, market: str) -> tuple[str, ...]:
    """Every scope that an order of this strategy in this market is in."""
    named = zip(KINDS, (strategy, series, market), strict=True)
    return (ALL, *(f"{kind}:{name}" for kind, name in named if name))


def strictest(modes: Iterable[TradingMode]) -> TradingMode:
    """The mode in force where several scopes cover the same order; ACTIVE where none says anything."""
    return max(modes, key=_STRICTNESS.index, default=TradingMode.ACTIVE)


def in_words(scope: str) -> str:
    """`everything`, `the series KXGOLD15M`, `the market …`, `the strategy …`."""
    kind, _, name = scope.partition(":")
    return f"the {kind} {name}" if name else "everything"
