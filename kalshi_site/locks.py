"""Who may run a loop: a Redis lock saves work, a fenced lease in the database prevents harm.

A Redis lock alone protects nothing against a paused holder (RELIABILITY.md, finding 7). So each write of a guarded
loop names its fence: `held.require()` inside the writing transaction raises Outrun once somebody else has taken over.
`kalshi_site.fenced` does that for every write of a block.

Whether a holder is heard is read off the lease's end, by the clock of whoever asks. An end behind us, or further ahead
than any living holder could write, says that nobody holds it. Two living hosts whose clocks lie that far apart take it
from each other in turn: the fence grows each time, what the outrun one had begun is dropped, nothing is doubled. Nor
does much get done, until one of the clocks is set (ADR 13).
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from kalshi_site.models import Lease
from kalshi_site.prepared import prepared

log = logging.getLogger(__name__)

SAFE_SHARE = 0.8  # stop working before the lease ends, by our own monotonic clock
# By how much the clocks of two hosts may differ before a lease's end is not believed.
CLOCKS_APART = timedelta(minutes=1)
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Busy(Exception):
    """Somebody else holds the lock, or it could not be taken: either way it is not ours."""


class Outrun(Exception):
    """The lease went to somebody else, or ran out, while we worked. The work must be dropped."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease in hand. `fence` grows with every holder, also across an emptied Redis."""

    name: str
    holder: str
    fence: int
    stop_at: float  # monotonic seconds

    def require(self) -> None:
        """Raise Outrun unless this lease is still ours. Call inside the transaction that writes."""
        if time.monotonic() > self.stop_at:
            raise Outrun(f"{self.name}: fence {self.fence} has run out")
        self.require_fence()

    def require_fence(self) -> None:
        """Raise Outrun once somebody else has taken it. Locks the row, so nobody can until the transaction ends.

        For writes to the database alone: there the fence decides, however late it is. What leaves the database asks
        `require`, which also knows its time.
        """
        if not _locked(self.name, self.holder, self.fence):
            raise Outrun(f"{self.name}: fence {self.fence} is no longer ours")

    def require_so_far(self) -> None:
        """Raise Outrun when somebody else has taken it by now. A plain look, which keeps nobody from taking it.

        For what is told outside of the database by a holder whose lease is `kept`: date it first, then ask, so that
        what a frozen holder says all the same is as old as it says.
        """
        if not _seen(self.name, self.holder, self.fence):
            raise Outrun(f"{self.name}: fence {self.fence} is no longer ours")

    def renewed(self, ttl: timedelta) -> Held:
        """The same lease for another `ttl` from now. Raises Outrun when it is no longer ours."""
        started = time.monotonic()
        rows = Lease.objects.filter(name=self.name, holder=self.holder, fence=self.fence)
        if not rows.update(expires_at=timezone.now() + ttl):
            raise Outrun(f"{self.name}: fence {self.fence} is no longer ours")
        return replace(self, stop_at=started + ttl.total_seconds() * SAFE_SHARE)


@prepared
def _locked(name: str, holder: str, fence: int) -> QuerySet[Lease, str]:
    rows = Lease.objects.select_for_update().filter(name=name, holder=holder, fence=fence)
    return rows.values_list("name", flat=True)


@prepared
def _seen(name: str, holder: str, fence: int) -> QuerySet[Lease, str]:
    return Lease.objects.filter(name=name, holder=holder, fence=fence).values_list("name", flat=True)


def furthest_end(ttl: timedelta) -> datetime:
    """The furthest end that a living holder can have written. One beyond is of a clock that was wrong: it says nothing.

    Else a host whose clock was an hour ahead when it died would keep everybody out for that hour.
    """
    return timezone.now() + ttl + CLOCKS_APART


def silent(ttl: timedelta, *, unheard_for: timedelta) -> Q:
    """The leases that nobody holds, or whose holder has not been heard for so long; each renewal is for `ttl`."""
    unheard = Q(expires_at__lte=timezone.now() + ttl - unheard_for)
    return Q(holder="") | unheard | Q(expires_at__gt=furthest_end(ttl))


@contextlib.contextmanager
def hold(name: str, *, ttl: timedelta, needs_redis: bool) -> Iterator[Held]:
    """Hold the loop `name` for the block: the Redis gate, then the lease. Raises Busy when it is taken.

    With `needs_redis`, any Redis fault counts as not held; without, the database lease alone decides.
    """
    holder = uuid.uuid4().hex
    with _redis_gate(name, holder, ttl, needs_redis=needs_redis), lease(name, ttl=ttl, holder=holder) as held:
        yield held


@contextlib.contextmanager
def lease(name: str, *, ttl: timedelta, holder: str | None = None) -> Iterator[Held]:
    """Hold the database lease alone: what execution does, which must work with Redis dead. Raises Busy."""
    holder = holder or uuid.uuid4().hex
    started = time.monotonic()
    fence = _take(name, holder, ttl)
    try:
        yield Held(name, holder, fence, started + ttl.total_seconds() * SAFE_SHARE)
    finally:
        Lease.objects.filter(name=name, holder=holder, fence=fence).update(
            holder="", expires_at=timezone.now()
        )


@contextlib.contextmanager
def take_over(name: str, *, ttl: timedelta, unheard_for: timedelta) -> Iterator[Held]:
    """Take a lease away from a holder that has not renewed it for so long, though it has not run out yet.

    For the way out alone: the fence grows, so the old holder, frozen or cut off, can write nothing more. Raises Busy
    while the holder is heard.
    """
    holder, started = uuid.uuid4().hex, time.monotonic()
    Lease.objects.get_or_create(name=name, defaults={"expires_at": timezone.now()})
    with transaction.atomic():
        taken = Lease.objects.filter(silent(ttl, unheard_for=unheard_for), name=name).update(
            holder=holder, fence=F("fence") + 1, expires_at=timezone.now() + ttl
        )
        fence = Lease.objects.values_list("fence", flat=True).get(name=name)
    if not taken:
        raise Busy(f"{name} is held by a process that lives")
    log.error("lease.taken_over", extra={"lease": name, "fence": fence})
    try:
        yield Held(name, holder, fence, started + ttl.total_seconds() * SAFE_SHARE)
    finally:
        Lease.objects.filter(name=name, holder=holder, fence=fence).update(
            holder="", expires_at=timezone.now()
        )


@transaction.atomic
def _take(name: str, holder: str, ttl: timedelta) -> int:
    now = timezone.now()
    free = Lease.objects.filter(silent(ttl, unheard_for=ttl), name=name)  # its end has passed
    ours = {"holder": holder, "fence": F("fence") + 1, "expires_at": now + ttl}
    if not free.update(**ours):
        # The first time ever there is no row; it begins free.
        _, is_new = Lease.objects.get_or_create(name=name, defaults={"expires_at": now})
        if not (is_new and free.update(**ours)):
            raise Busy(f"{name} is held by another process")
    return Lease.objects.values_list("fence", flat=True).get(name=name)


@contextlib.contextmanager
def _redis_gate(name: str, token: str, ttl: timedelta, *, needs_redis: bool) -> Iterator[None]:
    """The cheap gate in front of the lease. Any fault of it means: not taken."""
    key, client = f"lock:{name}", _client(settings.REDIS_URL)
    try:
        if not _set(client, key, token, ttl):
            raise Busy(f"{name} is held by another process")
    except (redis.RedisError, OSError) as error:
        log.warning("lock.redis.failed", extra={"lock": name, "error": repr(error)})
        if needs_redis:
            raise Busy(f"{name}: the lock could not be taken") from error
    try:
        yield
    finally:
        with contextlib.suppress(redis.RedisError, OSError):  # it runs out by itself
            client.eval(_RELEASE, 1, key, token)


@cache
def _client(url: str) -> redis.Redis:
    """One for the whole process, which is never asked twice for one answer: the second could come after our term."""
    return redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0))


def _set(client: redis.Redis, key: str, token: str, ttl: timedelta) -> bool:
    """Whether the gate is ours for most of its term still: an answer that comes later says nothing of now."""
    asked = time.monotonic()
    answer = client.set(key, token, nx=True, px=int(ttl.total_seconds() * 1000))
    if time.monotonic() - asked > ttl.total_seconds() * SAFE_SHARE:
        raise redis.TimeoutError(f"{key}: the answer came after its term")
    return answer is True
