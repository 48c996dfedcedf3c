"""Rate limits: token buckets per account, tier and shard (API.md 7).

Reads and writes have a bucket each; the balance endpoint has its own, without burst. A single write that names
a shard k >= 1 is billed to that shard's bucket (the full budget each); shard 0, batches and whatever names nothing
are billed to the unscoped bucket, which is shard 0's; a write that is routed by its ticker is billed to every
shard's bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trading.paper.refusals import too_many_requests

DEFAULT_COST = 10
CANCEL_COST = 2
ORDER_READ_COST = 2
UPGRADE_COST = 30
UNSCOPED = 0
ROUTED_BY_TICKER = None
Route = int | None

# What costs other than DEFAULT_COST, as `GET /account/endpoint_costs` lists it. Batches cost so much per item.
ENDPOINT_COSTS: tuple[tuple[str, str, int], ...] = (
    ("GET", "/portfolio/orders/{order_id}", ORDER_READ_COST),
    ("DELETE", "/portfolio/events/orders/{order_id}", CANCEL_COST),
    ("DELETE", "/portfolio/events/orders", CANCEL_COST),
    ("DELETE", "/portfolio/events/orders/batched", CANCEL_COST),
    ("POST", "/account/api_usage_level/upgrade", UPGRADE_COST),
)


@dataclass(frozen=True, slots=True)
class Tier:
    """Tokens per second and seconds of burst, for reads and writes; calls per second of the balance endpoint."""

    name: str
    read_rate: int
    write_rate: int
    read_burst: int = 1
    write_burst: int = 3
    balance_rate: int = 5
    counted: bool = True  # False: nothing is ever refused

    @property
    def write_capacity(self) -> int:
        """The tokens of a full write bucket: no batch may cost more."""
        return self.write_rate * self.write_burst


UNLIMITED_RATE = 1_000_000_000  # what `GET /account/limits` tells where nothing is counted
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
        # Not a tier of the real exchange: for benchmarks, where the limit would be what is measured.
        Tier("unlimited", UNLIMITED_RATE, UNLIMITED_RATE, counted=False),
    )
}
LEVELS = tuple(TIERS)  # lowest first


def at_least(level: str, wanted: str) -> bool:
    """Whether one tier is as high as another."""
    return LEVELS.index(level) >= LEVELS.index(wanted)


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

    def holds(self, cost: float) -> bool:
        """Whether the bucket can pay now."""
        now = self.clock()
        self.tokens = min(self.capacity, self.tokens + (now - self.seen_at) * self.rate)
        self.seen_at = now
        return self.tokens >= cost

    def take(self, cost: float) -> None:
        """Spend tokens. Raises Refused (429) when they do not suffice; then none are spent."""
        if not self.holds(cost):
            raise too_many_requests()
        self.tokens -= cost


class Limits:
    """The buckets of all accounts. `clock` is monotonic, in seconds."""

    def __init__(self, tier: Tier, clock: Callable[[], float], *, shards: int = 1) -> None:
        self.tier = tier
        self.shards = shards
        self._clock = clock
        self._granted: dict[str, Tier] = {}
        self._buckets: dict[tuple[str, str, int], Bucket] = {}

    def tier_of(self, account_id: str) -> Tier:
        """The tier that an account works with: the exchange's, or a higher one that it was granted."""
        return self._granted.get(account_id, self.tier)

    def grant(self, account_id: str, level: str) -> None:
        """Lift an account to a level, unless it stands higher already."""
        if not at_least(self.tier_of(account_id).name, level):
            self._granted[account_id] = TIERS[level]
            for key in [key for key in self._buckets if key[0] == account_id]:
                del self._buckets[key]

    def read(self, account_id: str, cost: int = DEFAULT_COST) -> None:
        """Bill a read. Raises Refused (429)."""
        tier = self.tier_of(account_id)
        if tier.counted:
            self._bucket(account_id, "read", tier.read_rate, tier.read_rate * tier.read_burst).take(cost)

    def write(self, account_id: str, cost: int = DEFAULT_COST, route: Route = UNSCOPED) -> None:
        """Bill a write to the shard it names, or (`ROUTED_BY_TICKER`) to every shard. A batch is billed once for all
        its items: it fits whole or not at all. Raises Refused (429); then nothing is spent anywhere."""
        tier = self.tier_of(account_id)
        if not tier.counted:
            return
        shards = range(self.shards) if route is ROUTED_BY_TICKER else (route if route < self.shards else 0,)
        buckets = [self._bucket(account_id, "write", tier.write_rate, tier.write_capacity, n) for n in shards]
        if not all(bucket.holds(cost) for bucket in buckets):
            raise too_many_requests()
        for bucket in buckets:
            bucket.tokens -= cost

    def balance(self, account_id: str) -> None:
        """The balance endpoint has a bucket of its own, without burst. Raises Refused (429)."""
        tier = self.tier_of(account_id)
        if tier.counted:
            self._bucket(account_id, "balance", tier.balance_rate, tier.balance_rate).take(1)

    def payload(self, account_id: str) -> dict[str, Any]:
        """The answer of `GET /account/limits`."""
        tier = self.tier_of(account_id)
        level = self._granted.get(account_id)
        grants = [_grant(level.name)] if level else []
        return {
            "usage_tier": tier.name,
            "read": {"refill_rate": tier.read_rate, "bucket_capacity": tier.read_rate * tier.read_burst},
            "write": {"refill_rate": tier.write_rate, "bucket_capacity": tier.write_capacity},
            "grants": grants,
        }

    def _bucket(self, account_id: str, kind: str, rate: int, capacity: int, shard: int = 0) -> Bucket:
        key = (account_id, kind, shard)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(rate, capacity, self._clock)
        return bucket


def endpoint_costs(prefix: str) -> dict[str, Any]:
    """The answer of `GET /account/endpoint_costs`."""
    listed = [
        {"method": method, "path": prefix + path, "cost": cost} for method, path, cost in ENDPOINT_COSTS
    ]
    return {"default_cost": DEFAULT_COST, "endpoint_costs": listed}


def route_of(query: Mapping[str, str], body: Mapping[str, Any]) -> Route:
    """Which shard a single write is billed to: the one it names, every one when its ticker routes it, else the
    unscoped one (API.md 7, 11)."""
    named = query.get("exchange_index") or body.get("exchange_index")
    index = int(named) if isinstance(named, int) or (isinstance(named, str) and named.isdecimal()) else None
    if index is not None and index >= 0:
        return index
    by_ticker = query.get("market_ticker") or body.get("ticker") or body.get("market_ticker")
    return ROUTED_BY_TICKER if by_ticker or named in (-1, "-1") else UNSCOPED


def _grant(level: str) -> dict[str, Any]:
    return {"exchange_instance": "event_contract", "level": level, "source": "manual"}
