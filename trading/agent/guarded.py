"""An analyst behind a breaker: a model that fails in a row is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass

from trading.agent.schemas import Analyst, Forecast, MarketBrief, Refusal
from trading.domain.breaker import Breaker


@dataclass(frozen=True, slots=True)
class Guarded:
    """Passes every brief on to `inner`, unless its breaker is open: then it has no idea, and says why."""

    inner: Analyst
    breaker: Breaker

    @property
    def name(self) -> str:
        """The analyst's own."""
        return self.inner.name

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        """As the analyst. Raises what it raises; a refusal is an answer."""
        if not self.breaker.allows():
            return Refusal("the model is left alone after failures in a row")
        try:
            told = self.inner.study(brief)
        except Exception as error:
            self.breaker.failed(repr(error))
            raise
        self.breaker.succeeded()
        return told
