"""What a proposal rests on beside the market's quote, by version; compared after an analyst has thought.

No lock is held meanwhile, so everything may have changed. The gateway judges again on fresh numbers; what it cannot
see is that the idea itself was another one: sized for money that is spent, an exit from a position that is gone,
thought up before a stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portfolio.domain.scopes import covering, in_words
from portfolio.models import Position, RiskLimit, TradingState
from trading.domain.markets import MarketFacts


@dataclass(frozen=True, slots=True)
class World:
    """Versions of the trading state by scope, of positions by ticker, of limits by name; and the epoch of stops."""

    states: dict[str, int]
    kill_epoch: int
    positions: dict[str, int]
    limits: dict[str, int]

    @classmethod
    def now(cls, venue: str, *, ticker: str | None = None) -> World:
        """As it stands: four reads. What is written between them shows as a change afterwards.

        With `ticker` of the positions only that market's, for whoever wants no other.
        """
        states, positions = TradingState.objects.filter(venue=venue), Position.objects.filter(venue=venue)
        if ticker is not None:
            positions = positions.filter(ticker=ticker)
        return cls(
            states=dict(states.values_list("scope", "version")),
            kill_epoch=max(states.filter(scope="").values_list("kill_epoch", flat=True), default=0),
            positions=dict(positions.values_list("ticker", "version")),
            limits=dict(RiskLimit.objects.values_list("name", "version")),
        )

    def seen(self, market: MarketFacts) -> dict[str, Any]:
        """What a proposal for this market, by these facts of it, says that it saw; plain JSON."""
        return {
            "quote_as_of": str(market.book.as_of),
            "trading_state": self.states.get("", 0),
            "kill_epoch": self.kill_epoch,
            "position": self.positions.get(market.ticker, 0),
            "limits": self.limits,
        }

    def change(self, later: World, market: MarketFacts, strategy: str) -> str:
        """Why an idea for this market that was seen in this world is void in the later one; "" when it stands.

        Changed limits void nothing: the gateway asks the new ones.
        """
        if later.kill_epoch != self.kill_epoch:
            return "trading was stopped meanwhile"
        for scope in covering(strategy=strategy, series=market.series_ticker, market=market.ticker):
            if later.states.get(scope) != self.states.get(scope):
                return f"the trading state of {in_words(scope)} changed meanwhile"
        if later.positions.get(market.ticker) != self.positions.get(market.ticker):
            return "the position changed meanwhile"
        return ""
