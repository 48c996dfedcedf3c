"""How often a caller may ask: 20 reads and 5 writes a second on average, counted per token over ten seconds."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import redis
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from kalshi_site.models import ApiToken

if TYPE_CHECKING:  # DRF loads this module while it loads its own views
    from rest_framework.views import APIView

log = logging.getLogger(__name__)

WINDOW: Final = 10  # seconds; short bursts are fine, the average counts
READS: Final = 20 * WINDOW
WRITES: Final = 5 * WINDOW
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a caller's window; becomes the headers RateLimit and RateLimit-Policy."""

    name: str
    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.limit};w={WINDOW}',
            "RateLimit": f'"{self.name}";r={self.remaining};t={self.reset}',
        }


class PerCaller(BaseThrottle):
    """Counts in the cache, in fixed windows. With the cache out of reach all pass: this guards load, not money."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count this request and leave its quota on the request for the answer's headers. A way out is not counted."""
        if not is_counted(view, request.method or ""):
            return True
        kind, limit = ("read", READS) if request.method in SAFE else ("write", WRITES)
        now = time.time()
        reset = WINDOW - int(now) % WINDOW
        used = _count(key_of(kind, _caller(request), now))
        self.reset = reset
        request._request.quota = Quota(kind, limit, max(limit - used, 0), reset)  # type: ignore[attr-defined]
        return used <= limit

    def wait(self) -> float:
        """Seconds until the next window."""
        return float(self.reset)


def is_counted(view: APIView, method: str) -> bool:
    """Whether requests of this method count towards a caller's rate.

    A view that cancels, sells or stops names its method in `uncounted`: who has spent his writes still gets out.
    """
    return method not in getattr(view, "uncounted", ())


def _caller(request: Request) -> str:
    token = request.auth
    return f"token-{token.pk}" if isinstance(token, ApiToken) else f"user-{request.user.pk}"


def key_of(kind: str, caller: str, now: float) -> str:
    """Where the requests of this window are counted."""
    return f"api:{kind}:{caller}:{int(now) // WINDOW}"


def _count(key: str) -> int:
    try:
        with client(settings.REDIS_CACHE_URL).pipeline(transaction=False) as pipe:
            pipe.incr(key)
            pipe.expire(key, 2 * WINDOW)
            return int(pipe.execute()[0])
    except Exception as error:  # any fault of it: load is not worth an outage
        log.warning("api.throttle.uncounted", extra={"error": repr(error)})
        return 0


@cache
def client(url: str) -> redis.Redis:
    """One for the whole process: Django's cache connects anew for each request, which costs more than the count."""
    return redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
