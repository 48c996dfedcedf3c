"""SIGSTOP of whoever holds a lease, beyond its time: what wakes writes nothing over what another has written since.

Our own clock would stop the sleeper too; a virtual machine's may have stood still. So it is taken away here, and the
fence in the database is alone. Without the fence every sleeper writes stale data.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from kalshi_site import locks
from kalshi_site.models import Lease, TopicHead
from tests.reliability.conftest import Figure
from tests.reliability.desk import signal_self
from tests.reliability.sizes import size
from trading.engine.update_cycle import TTL as REAL

SHORT = REAL / 30
LOOP, TOPIC = "paused", "paused"
NAIVE = 10

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def write(held: locks.Held, *, fenced: bool) -> None:
    """What a loop does at the end of its work: one row, by the fence that it holds."""
    with transaction.atomic():
        if fenced:
            held.require()
        TopicHead.objects.filter(topic=TOPIC).update(version=held.fence)


def sleep_and_write(pipe: Any, fenced: bool, ttl: timedelta) -> None:
    with locks.lease(LOOP, ttl=ttl) as held:
        pipe.send("held")
        signal_self(signal.SIGSTOP)
        try:
            write(replace(held, stop_at=math.inf), fenced=fenced)
            pipe.send("wrote")
        except locks.Outrun:
            pipe.send("outrun")
    connections.close_all()


def one_pause(*, fenced: bool, ttl: timedelta) -> str:
    """Freeze a holder, let the next one work, wake it. What it did; `stale` when the row went back."""
    connections.close_all()
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    sleeper = context.Process(target=sleep_and_write, args=(theirs, fenced, ttl))
    sleeper.start()
    try:
        assert mine.poll(30)
        mine.recv()
        _outrun(ttl)
        newest = TopicHead.objects.get(topic=TOPIC).version
        assert sleeper.pid is not None
        os.kill(sleeper.pid, signal.SIGCONT)
        assert mine.poll(30)
        did = str(mine.recv())
        return "stale" if TopicHead.objects.get(topic=TOPIC).version < newest else did
    finally:
        sleeper.kill()
        sleeper.join(10)


def _outrun(ttl: timedelta) -> None:
    """Take the lease as soon as it has run out, and write."""
    while True:
        try:
            with locks.lease(LOOP, ttl=ttl) as held:
                write(replace(held, stop_at=math.inf), fenced=True)
                return
        except locks.Busy:
            time.sleep(0.02)


def pause_holders(count: int, ttl: timedelta, figure: Figure) -> None:
    TopicHead.objects.create(topic=TOPIC)
    did = Counter(one_pause(fenced=True, ttl=ttl) for _ in range(count))
    figure(
        f"{did.total()} holders paused beyond their lease of {ttl.total_seconds():g} s: {did['stale']} stale"
        f" writes, {did['outrun']} refused"
    )
    assert did == {"outrun": count}
    assert Lease.objects.get(name=LOOP).fence == 2 * count


def test_no_paused_holder_writes_over_its_successor(figure: Figure) -> None:
    pause_holders(size("paused_holders"), SHORT, figure)


@pytest.mark.skipif(not size("paused_holders_at_real_times"), reason="a lease's time each: RELIABILITY=full")
def test_nor_with_the_lease_that_the_loops_have(figure: Figure) -> None:
    pause_holders(size("paused_holders_at_real_times"), REAL, figure)


def test_without_the_fence_each_of_them_does(figure: Figure) -> None:
    TopicHead.objects.create(topic=TOPIC)
    did = Counter(one_pause(fenced=False, ttl=SHORT) for _ in range(NAIVE))
    figure(f"{did['stale']} of {did.total()} holders without a fence wrote stale data")
    assert did["stale"] == NAIVE
