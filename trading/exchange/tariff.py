"""What requests cost and how many tokens there are (API.md 7): published defaults until the exchange has told its own.

Two buckets per account, read and write, and a third for the balance endpoint. Writes to a shard k >= 1 have that
shard's bucket; shard 0 has the unscoped one; a write that is routed by its ticker is billed to all of them. Requests
without a signature belong to no account and have a bucket of their own, whose size is not published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from trading.exchange.account_reports import EndpointCosts
from trading.exchange.contract import contract
from trading.exchange.reports import AccountLimits

Kind = Literal["read", "write", "balance", "public"]
ROUTE_BY_TICKER: Final = -1
SHARDS: Final = (0, 1, 2, 3)  # as published in October 2026 (API.md 12)
DEFAULT_COST: Final = 10
_BALANCE: Final = "/portfolio/balance"
_ORDERS: Final = "/portfolio/events/orders"
_BATCH: Final = f"{_ORDERS}/batched"
_GROUP: Final = "/portfolio/order_groups/{}"
_PUBLISHED_COSTS: Final[Mapping[tuple[str, str], int]] = {
    ("DELETE", _ORDERS): 2,
    ("DELETE", f"{_ORDERS}/{{}}"): 2,
    ("DELETE", _BATCH): 2,
    ("GET", "/portfolio/orders/{}"): 2,
}
# Writes that take risk away: they may use what is kept back for them, and are never held up for long.
_WAYS_OUT: Final = frozenset(
    {
        ("DELETE", _ORDERS),
        ("DELETE", f"{_ORDERS}/{{}}"),
        ("DELETE", _BATCH),
        ("POST", f"{_ORDERS}/{{}}/decrease"),
        ("DELETE", _GROUP),
        ("PUT", f"{_GROUP}/trigger"),
    }
)
_SLOW_BALANCE_TIERS: Final = frozenset({"basic", "advanced"})
_NAME: Final = re.compile(r"\{[^/}]*\}|(?<=/):[^/]+")


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket's tokens per second and the most that it holds."""

    per_second: float
    capacity: float


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request takes: `cost` tokens from each of `buckets` ("write:2": of shard 2)."""

    kind: Kind
    buckets: tuple[str, ...]
    cost: int
    is_way_out: bool = False


@dataclass(frozen=True, slots=True)
class Tariff:
    """Rates and costs of one account. The defaults are those of the tier Basic."""

    tier: str = "basic"
    read: Rate = Rate(200, 600)
    write: Rate = Rate(100, 100)
    default_cost: int = DEFAULT_COST
    costs: Mapping[tuple[str, str], int] = field(default_factory=lambda: dict(_PUBLISHED_COSTS))

    @classmethod
    def told(cls, limits: AccountLimits, costs: EndpointCosts) -> Tariff:
        """The account's own, as it was read. A rate of nothing would stop us for good: it is not believed."""
        return cls(
            tier=limits.tier,
            read=_rate(limits.read_per_second, limits.read_capacity, cls().read),
            write=_rate(limits.write_per_second, limits.write_capacity, cls().write),
            default_cost=costs.default,
            costs={(each.method.upper(), _template(each.path)): each.cost for each in costs.exceptions},
        )

    def rate(self, kind: Kind) -> Rate:
        if kind == "balance":
            calls = 1 if self.tier.lower() in _SLOW_BALANCE_TIERS else 5
            return Rate(calls, calls)
        if kind == "public":
            return Tariff().read
        return self.read if kind == "read" else self.write

    def charge(
        self,
        method: str,
        resource: str,
        *,
        is_signed: bool = True,
        items: int = 1,
        exchange_index: int | None = None,
    ) -> Charge:
        """What a request costs. `items` is the size of a batch, `exchange_index` the shard that a write names."""
        operation = contract().operation(method, resource)
        key = (method.upper(), _template(resource if operation is None else operation.path))
        cost = self.costs.get(key, self.default_cost)
        if method == "GET":
            if not is_signed:
                return Charge("public", ("public",), cost)
            return (
                Charge("balance", ("balance",), 1) if key[1] == _BALANCE else Charge("read", ("read",), cost)
            )
        shards = _shards(key, exchange_index)
        return Charge("write", shards, cost * items, key in _WAYS_OUT)


def _shards(key: tuple[str, str], exchange_index: int | None) -> tuple[str, ...]:
    """The buckets of a write. Only single order writes can be routed; everything else is unscoped unless it says."""
    if key[1] == _BATCH or key == ("DELETE", _ORDERS):
        return ("write",)
    if exchange_index is None or exchange_index == ROUTE_BY_TICKER:
        routed = key[1].startswith(_ORDERS)
        return tuple(_bucket(shard) for shard in SHARDS) if routed else ("write",)
    return (_bucket(exchange_index),)


def _bucket(shard: int) -> str:
    return f"write:{shard}" if shard else "write"


def _rate(per_second: int, capacity: int, otherwise: Rate) -> Rate:
    return Rate(per_second, max(capacity, per_second)) if per_second > 0 else otherwise


def _template(path: str) -> str:
    """A path with its names left blank, so that ours and the exchange's spelling of it are one."""
    below = path[path.index("/v2/") + 3 :] if "/v2/" in path else path
    return _NAME.sub("{}", below).rstrip("/")
