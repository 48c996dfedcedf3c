"""How often a caller may ask: 20 reads and 5 writes a second on average, counted per token over ten seconds."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.core.cache import cache
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
        """Count this request and leave its quota on the request for the answer's headers."""
        kind, limit = ("read", READS) if request.method in SAFE else ("write", WRITES)
        now = time.time()
        reset = WINDOW - int(now) % WINDOW
        used = _count(f"api:{kind}:{_caller(request)}:{int(now) // WINDOW}")
        self.reset = reset
        request._request.quota = Quota(kind, limit, max(limit - used, 0), reset)  # type: ignore[attr-defined]
        return used <= limit

    def wait(self) -> float:
        """Seconds until the next window."""
        return float(self.reset)


def _caller(request: Request) -> str:
    token = request.auth
    return f"token-{token.pk}" if isinstance(token, ApiToken) else f"user-{request.user.pk}"


def _count(key: str) -> int:
    try:
        cache.add(key, 0, timeout=2 * WINDOW)
        return int(cache.incr(key))
    except Exception as error:  # any fault of the cache: load is not worth an outage
        log.warning("api.throttle.uncounted", extra={"error": repr(error)})
        return 0
