"""The account's tokens shared by all its processes over Redis: one atomic script on the server's own clock.

With Redis away each process goes on alone with a quarter of the account's tokens. Nothing here raises for Redis.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from trading.exchange.account import Account
from trading.exchange.budget import (
    FIRST_PAUSE,
    FORGIVEN_AFTER,
    MOST_STRIKES,
    NEVER,
    SLOWEST,
    START,
    LocalBudget,
    Terms,
    wait_for,
)
from trading.exchange.errors import ExchangeError
from trading.exchange.tariff import Charge, Rate, Tariff

log = logging.getLogger(__name__)

ALONE: Final = (
    0.25  # of the account's tokens for a process that cannot ask the others: feed, worker, execution, spare
)
_REDIS_WITHIN: Final = 0.2  # seconds, to connect and to answer
_REDIS_RESTS: Final = (
    2.0  # seconds after a failure until it is asked again: a hanging one must not slow each request
)
_TARIFF_LIVES: Final = 24 * 3600
_LOOK_AT_TARIFF: Final = 60.0
_BUCKET_LIVES_MS: Final = 600_000
_MICRO: Final = 1_000_000

# ARGV: cost, 1 for a way out, first share; then per bucket tokens a second, capacity, reserve.
# Returns the microseconds to wait: 0 when the tokens were taken. A way out takes them in any case.
_TAKE: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local cost, out, start = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local forgiven, slowest, lives = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local wait, levels, floors = 0, {}, {}
for i, key in ipairs(KEYS) do
  local rate, capacity, reserve = tonumber(ARGV[4 + 3*i]), tonumber(ARGV[5 + 3*i]), tonumber(ARGV[6 + 3*i])
  local told = redis.call('HMGET', key, 'tokens', 'at', 'until', 'strikes', 'struck')
  local tokens = tonumber(told[1] or math.max(capacity * start, math.min(capacity, cost)))
  local at = tonumber(told[2] or now)
  local strikes = tonumber(told[4] or 0) - (now - tonumber(told[5] or now)) / forgiven
  rate = rate * 0.5 ^ math.min(math.max(strikes, 0), slowest)
  tokens = math.min(capacity, tokens + math.max(0, now - at) * rate / 1000000)
  local need = cost
  if not out then
    need = cost + reserve
    wait = math.max(wait, tonumber(told[3] or 0) - now)
  end
  if tokens < need then wait = math.max(wait, (need - tokens) / rate * 1000000) end
  levels[i], floors[i] = tokens, -capacity
end
if wait <= 0 or out then
  for i, key in ipairs(KEYS) do
    redis.call('HSET', key, 'tokens', tostring(math.max(levels[i] - cost, floors[i])), 'at', string.format('%.0f', now))
    redis.call('PEXPIRE', key, lives)
  end
end
return math.ceil(math.max(wait, 0))
"""
# ARGV: first pause and time of forgiveness in microseconds, most strikes, life of the key in ms.
_STRIKE: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
for _, key in ipairs(KEYS) do
  local told = redis.call('HMGET', key, 'tokens', 'until', 'strikes', 'struck')
  if tonumber(told[2] or 0) <= now then
    local strikes = math.max(tonumber(told[3] or 0) - (now - tonumber(told[4] or now)) / tonumber(ARGV[2]), 0)
    strikes = math.min(strikes + 1, tonumber(ARGV[3]))
    local pause = tonumber(ARGV[1]) * 2 ^ (strikes - 1)
    redis.call('HSET', key, 'tokens', tostring(math.min(tonumber(told[1] or 0), 0)), 'at', string.format('%.0f', now),
      'until', string.format('%.0f', now + pause), 'strikes', tostring(strikes), 'struck', string.format('%.0f', now))
    redis.call('PEXPIRE', key, ARGV[4])
  end
end
return 1
"""


class SharedBudget:
    """One account's budget. `account` names it for all processes; thread-safe."""

    def __init__(
        self,
        redis_url: str,
        account: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # The client's own repeats would make a dead Redis slow instead of away.
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_timeout=_REDIS_WITHIN,
            socket_connect_timeout=_REDIS_WITHIN,
            retry=Retry(NoBackoff(), 0),
        )
        self._take = self._redis.register_script(_TAKE)
        self._strike = self._redis.register_script(_STRIKE)
        self._prefix = f"exchange-budget:{account}"
        self._monotonic, self._sleep = monotonic, sleep
        self._alone = LocalBudget(share=ALONE, monotonic=monotonic, sleep=sleep)
        self._rests_until = 0.0
        self._lock = threading.Lock()
        self._tariff_looked_at = -_LOOK_AT_TARIFF

    @property
    def tariff(self) -> Tariff:
        """The account's tariff: what a process of it has read lately, or the published defaults."""
        now = self._monotonic()
        with self._lock:
            is_due = now - self._tariff_looked_at >= _LOOK_AT_TARIFF
            if is_due:
                self._tariff_looked_at = now
        if is_due:
            told: bytes | None = self._asked(lambda: self._redis.get(f"{self._prefix}:tariff"))
            if told:
                self._alone.tariff = _tariff(told, self._alone.tariff)
        return self._alone.tariff

    def learn(self, tariff: Tariff) -> None:
        """Tell all processes of the account what was read."""
        self._alone.tariff = tariff
        self._asked(lambda: self._redis.set(f"{self._prefix}:tariff", _text(tariff), ex=_TARIFF_LIVES))

    def take(self, charge: Charge, *, patience: float) -> None:
        """Wait for the tokens, `patience` seconds at most. Raises OverBudget."""
        wait_for(
            lambda: self._ask(charge),
            charge,
            patience=patience,
            sleep=self._sleep,
            monotonic=self._monotonic,
        )

    def throttled(self, charge: Charge) -> None:
        """Empty the buckets and slow down, all processes together."""
        log.warning("exchange.budget.throttled", extra={"bucket": charge.buckets[0], "cost": charge.cost})
        self._alone.throttled(charge)
        arguments = [FIRST_PAUSE * _MICRO, FORGIVEN_AFTER * _MICRO, MOST_STRIKES, _BUCKET_LIVES_MS]
        self._asked(lambda: self._strike(keys=self._keys(charge), args=arguments))

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()

    def _ask(self, charge: Charge) -> float:
        terms = Terms.of(charge.kind, self.tariff.rate(charge.kind))
        if charge.cost + terms.reserve > terms.capacity and not charge.is_way_out:
            return NEVER
        each = [terms.per_second, terms.capacity, terms.reserve] * len(charge.buckets)
        fixed = [
            charge.cost,
            int(charge.is_way_out),
            START,
            FORGIVEN_AFTER * _MICRO,
            SLOWEST,
            _BUCKET_LIVES_MS,
        ]
        wait: int | None = self._asked(lambda: self._take(keys=self._keys(charge), args=[*fixed, *each]))
        return self._alone.ask(charge) if wait is None else -(-wait // 1_000) / 1_000  # whole ms, up

    def _keys(self, charge: Charge) -> list[str]:
        return [f"{self._prefix}:{name}" for name in charge.buckets]

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Redis's answer, or None when it is away; then it is left alone for a while."""
        if self._monotonic() < self._rests_until:
            return None
        try:
            return ask()
        except (redis.RedisError, OSError) as error:
            self._rests_until = self._monotonic() + _REDIS_RESTS
            log.warning("exchange.budget.alone", extra={"error": repr(error)})
            return None


def read_tariff(account: Account, budget: SharedBudget) -> None:
    """Ask the exchange what the account may do and what it costs, and tell all its processes. When that fails, what
    was known before, or published, goes on."""
    try:
        budget.learn(Tariff.told(account.limits(), account.endpoint_costs()))
    except ExchangeError as error:
        log.warning("exchange.tariff.unread", extra={"code": error.code, "error": str(error)})


def _text(tariff: Tariff) -> str:
    costs = [[method, path, cost] for (method, path), cost in tariff.costs.items()]
    return json.dumps(
        {
            "tier": tariff.tier,
            "read": [tariff.read.per_second, tariff.read.capacity],
            "write": [tariff.write.per_second, tariff.write.capacity],
            "default_cost": tariff.default_cost,
            "costs": costs,
        }
    )


class _Told(msgspec.Struct):
    tier: str
    read: tuple[float, float]
    write: tuple[float, float]
    default_cost: int
    costs: list[tuple[str, str, int]]


def _tariff(text: bytes, otherwise: Tariff) -> Tariff:
    """A tariff that another process has left; one that cannot be read changes nothing."""
    try:
        told = msgspec.json.decode(text, type=_Told)
    except msgspec.DecodeError:
        return otherwise
    return Tariff(
        told.tier,
        Rate(*told.read),
        Rate(*told.write),
        told.default_cost,
        {(method, path): cost for method, path, cost in told.costs},
    )
