"""The product's time constants divided, so that a suite waits seconds where the desk waits minutes.

Their order stays what it is: an approval's send is over before the exchange's fence closes, and that closes before an
order may be called absent. What depends on the machine alone (how long a process needs from the claim to the first
byte, or between two renewals of its lease) is not shortened beyond what a busy one can do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from trading.execution import claims, process, router
from trading.execution.process import Execution
from trading.execution.reconcile import Evidence
from trading.paper import auth

FENCE_MS: Final = auth.OLDEST_MS
SLACK: Final = 0.75  # of the fence's time: the latest first byte
QUICKEST_LEASE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Tempo:
    """`divisor` 1 is the product's own. `fence_divisor`: of the exchange's fence, where the suite is not about it."""

    divisor: int
    fence_divisor: int = 0

    @property
    def fence_ms(self) -> int:
        """How old a signature the exchange lets in."""
        return FENCE_MS // (self.fence_divisor or self.divisor)

    @property
    def evidence(self) -> Evidence:
        usual = Evidence()
        return replace(
            usual,
            latest_arrival=usual.latest_arrival / self.divisor,
            scan_gap=usual.scan_gap / self.divisor,
        )

    @property
    def send_within(self) -> float:
        """Seconds from the signed time to the first byte: always within the fence."""
        return min(router.SEND_WITHIN, SLACK * self.fence_ms / 1000)

    @property
    def lease(self) -> timedelta:
        return max(process.LEASE_TTL / self.divisor, min(QUICKEST_LEASE, process.LEASE_TTL))

    def set(self, execution: Execution) -> Execution:
        """Let this process, which is a fork, and its execution go by the shortened times."""
        if self.divisor == 1:
            return execution
        execution.reconciler = replace(execution.reconciler, evidence=self.evidence)
        execution.lease_ttl = self.lease
        execution.news.again /= self.divisor
        claims.ANSWER_WITHIN = max(claims.ANSWER_WITHIN / self.divisor, timedelta(seconds=self.send_within))
        router.SEND_WITHIN = self.send_within
        process.SCAN_EVERY /= self.divisor
        process.ASK_EVERY /= self.divisor
        return execution
