"""A nudge to the execution process, so that it looks at the database now and not at its next second.

The nudge carries nothing. Lost, it costs at most one scan interval.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

CHANNEL = "execution.wake"


def wake() -> bool:
    """Nudge execution. False when Redis is out of reach: the scan repairs that."""
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, "1")
    except (redis.RedisError, OSError) as error:
        log.warning("execution.wake.failed", extra={"error": repr(error)})
        return False
    return True


@cache
def _client(url: str) -> redis.Redis:
    """One warm connection per process: a new one for each nudge costs more than the nudge.

    The one repeat is for a connection that a restarted Redis has hung up.
    """
    return redis.Redis.from_url(
        url, socket_connect_timeout=0.5, socket_timeout=0.5, retry=Retry(NoBackoff(), 1)
    )


def nudges(timeout: float, stop: threading.Event) -> Iterator[bool]:
    """Yield True at a nudge and False after `timeout` seconds without one, until `stop`, with or without Redis."""
    while not stop.is_set():
        try:
            # A Redis that accepts and never answers must not hold the loop either.
            with redis.Redis.from_url(
                settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=0.5
            ) as client:
                listener = client.pubsub(ignore_subscribe_messages=True)
                listener.subscribe(CHANNEL)
                while not stop.is_set():
                    yield _drain(listener, timeout)
        except (redis.RedisError, OSError):
            stop.wait(timeout)
            yield False


def _drain(listener: redis.client.PubSub, timeout: float) -> bool:
    """Wait for one nudge, then swallow those that came with it."""
    message = listener.get_message(timeout=timeout)
    while message is not None and listener.get_message(timeout=0) is not None:
        pass
    return message is not None
