"""Django's cache: it holds counts and notes that nobody must have. Out of reach it forgets, and refuses nobody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.redis import RedisCache

log = logging.getLogger(__name__)

# Seconds. A server that accepts and never answers costs a sign-in its patience once, not at each of twenty questions.
SILENCE: Final = 2.0

Answer = TypeVar("Answer")


class ForgetfulCache(RedisCache):
    """Redis as Django knows it, but for a fault of it: then nothing is found, and what is written is lost.

    allauth counts here who tries to sign in, before it looks at a password: with a cache that raises nobody could sign
    in, and whoever is out could not stop trading. Without it tries go uncounted, as requests to the API do.
    """

    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._silent_until = float("-inf")

    def add(
        self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Whether the key was not there; True where nobody can tell, for allauth takes it as a lock."""
        return self._asked(super().add, key, value, timeout, version, instead=True)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """What was kept, or the default."""
        return self._asked(super().get, key, default, version, instead=default)

    def set(
        self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Keep it, if anybody can."""
        self._asked(super().set, key, value, timeout, version, instead=None)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Whether it was there and is gone now."""
        return self._asked(super().delete, key, version, instead=False)

    def _asked(self, ask: Callable[..., Answer], *args: Any, instead: Answer) -> Answer:
        if time.monotonic() < self._silent_until:
            return instead
        try:
            return ask(*args)
        except (redis.RedisError, OSError) as error:
            log.warning("cache.forgot", extra={"error": repr(error)})
            self._silent_until = time.monotonic() + SILENCE
            return instead
