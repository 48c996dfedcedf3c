"""Where breakers' memories lie: in Redis for all processes, beside it a copy of our own for when Redis is dead.

A dead Redis never raises here and never blocks anything by itself: the copy decides, and Redis is left alone for two
seconds, so that a silent one costs a caller one short wait and no more.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, NamedTuple, TypeVar

import redis
from django.conf import settings

from kalshi_site.breakers.law import Memory, State

log = logging.getLogger(__name__)

LEFT_ALONE: Final = 2.0  # seconds without Redis after it failed
FRESH: Final = 1.0  # seconds for which a memory that was read counts as the present one
_WAIT: Final = 0.25  # seconds for one answer of Redis: breakers stand before orders
_TRIES: Final = 5

Answer = TypeVar("Answer")
Move = Callable[[Memory], Memory]


class Changed(NamedTuple):
    """What a move found and left; `is_shared` is False when only our copy was changed."""

    before: Memory
    after: Memory
    is_shared: bool


class Unshared(Exception):
    """Redis is out of reach: the other processes cannot be told."""

    code = "E902"


class Shelf:
    """The memories by name. Thread-safe."""

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
        self._redis = redis.Redis.from_url(url, socket_connect_timeout=_WAIT, socket_timeout=_WAIT)
        self._lock = threading.Lock()
        self._copies: dict[str, Memory] = {}
        self._read_at: dict[str, float] = {}
        self._alone_until = 0.0

    @property
    def _may_ask(self) -> bool:
        return time.monotonic() >= self._alone_until

    def peek(self, name: str, *, within: float | None = None) -> Memory:
        """The memory as it was at most `within` (FRESH) seconds ago."""
        within = FRESH if within is None else within
        if time.monotonic() - self._read_at.get(name, float("-inf")) > within and self._may_ask:
            self._try(lambda: self._keep(name, self._read(self._redis, name)))
        return self._copies.get(name, Memory())

    def change(self, name: str, move: Move) -> Changed:
        """Make a move by compare-and-set; without Redis in our copy alone."""
        changed = self._try(lambda: self._change_shared(name, move)) if self._may_ask else None
        if changed is not None:
            return changed
        with self._lock:
            before = self._copies.get(name, Memory())
            self._copies[name] = after = move(before)
            return Changed(before, after, is_shared=False)

    def _change_shared(self, name: str, move: Move) -> Changed:
        key = self._key(name)
        with self._redis.pipeline() as pipe:
            for _ in range(_TRIES):
                try:
                    pipe.watch(key)  # type: ignore[no-untyped-call]
                    before = self._read(pipe, name)
                    after = move(before)
                    if after != before:
                        pipe.multi()
                        pipe.set(key, json.dumps(asdict(after)))
                        pipe.execute()
                    return Changed(before, self._keep(name, after), is_shared=True)
                except redis.WatchError:
                    continue
        raise redis.RedisError(f"{key} is changed by too many at once")

    def _read(self, client: Any, name: str) -> Memory:
        """What Redis has; after it was emptied, what we remember."""
        told = client.get(self._key(name))
        if told is None:
            return self._copies.get(name, Memory())
        try:
            fields = json.loads(told)
            return Memory(**{**fields, "state": State(fields["state"])})
        except (ValueError, TypeError, KeyError):  # of another release: as if there were none
            return Memory()

    def _keep(self, name: str, memory: Memory) -> Memory:
        with self._lock:
            self._copies[name], self._read_at[name] = memory, time.monotonic()
        return memory

    def _try(self, ask: Callable[[], Answer]) -> Answer | None:
        try:
            return ask()
        except (redis.RedisError, OSError) as error:
            self._alone_until = time.monotonic() + LEFT_ALONE
            log.warning("breaker.redis.failed", extra={"error": repr(error)})
            return None

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


_shelves: dict[tuple[str, str], Shelf] = {}


def shelf() -> Shelf:
    """The one of this process and profile."""
    at = (settings.REDIS_URL, f"breaker:{settings.KALSHI_PROFILE}")
    found = _shelves.get(at)
    # Made only where there is none: a client of Redis costs more to make than to ask.
    return _shelves.setdefault(at, Shelf(*at)) if found is None else found


def forget() -> None:
    """Drop what this process remembers, as its end would."""
    _shelves.clear()
