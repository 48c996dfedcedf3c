"""Rate limits: token buckets per account and tier (API.md 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trading.paper.refusals import too_many_requests

DEFAULT_COST = 10
CANCEL_COST = 2
ORDER_READ_COST = 2


@dataclass(frozen=True, slots=True)
class Tier:
    """Tokens per second and seconds of burst, for reads and writes; calls per second of the balance endpoint."""

    name: str
    read_rate: int
    write_rate: int
    read_burst: int = 1
    write_burst: int = 3
    balance_rate: int = 5


TIERS: dict[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("basic", 200, 100, read_burst=3, write_burst=1, balance_rate=1),
        Tier("advanced", 300, 300, read_burst=3, write_burst=3, balance_rate=1),
        Tier("expert", 600, 600),
        Tier("premier", 1_200, 1_200),
        Tier("paragon", 2_400, 2_400),
        Tier("prime", 4_800, 4_800),
        Tier("prestige", 12_000, 9_600),
    )
}


@dataclass(slots=True)
class Bucket:
    """Refills at `rate` tokens per second up to `capacity`; starts full."""

    rate: float
    capacity: float
    clock: Callable[[], float]
    tokens: float = field(init=False)
    seen_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens, self.seen_at = self.capacity, self.clock()

    def take(self, cost: float) -> None:
        """Spend tokens. Raises Refused (429) when they do not suffice; then none are spent."""
        now = self.clock()
        self.tokens = min(self.capacity, self.tokens + (now - self.seen_at) * self.rate)
        self.seen_at = now
        if self.tokens < cost:
            raise too_many_requests()
        self.tokens -= cost


class Limits:
    """The buckets of all accounts. `clock` is monotonic, in seconds."""

    def __init__(self, tier: Tier, clock: Callable[[], float]) -> None:
        self.tier = tier
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def read(self, account_id: str, cost: int = DEFAULT_COST) -> None:
        tier = self.tier
        self._take(account_id, "read", tier.read_rate, tier.read_rate * tier.read_burst, cost)

    def write(self, account_id: str, cost: int = DEFAULT_COST) -> None:
        tier = self.tier
        self._take(account_id, "write", tier.write_rate, tier.write_rate * tier.write_burst, cost)

    def balance(self, account_id: str) -> None:
        """The balance endpoint has a bucket of its own, without burst."""
        self._take(account_id, "balance", self.tier.balance_rate, self.tier.balance_rate, 1)

    def payload(self) -> dict[str, Any]:
        """The answer of `GET /account/limits`."""
        tier = self.tier
        return {
            "usage_tier": tier.name,
            "read": {"refill_rate": tier.read_rate, "bucket_capacity": tier.read_rate * tier.read_burst},
            "write": {"refill_rate": tier.write_rate, "bucket_capacity": tier.write_rate * tier.write_burst},
            "grants": [],
        }

    def _take(self, account_id: str, kind: str, rate: int, capacity: int, cost: int) -> None:
        bucket = self._buckets.get((account_id, kind))
        if bucket is None:
            bucket = self._buckets[account_id, kind] = Bucket(rate, capacity, self._clock)
        bucket.take(cost)
