"""A lease whose end was written by a clock that is wrong keeps nobody out: dead holders an hour ahead, and behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from kalshi_site import locks
from kalshi_site.locks import Busy, Held, Outrun
from kalshi_site.models import Lease
from trading.execution import stand_in
from trading.execution.process import LEASE, LEASE_TTL

TTL, HOUR, MOMENT = timedelta(seconds=10), timedelta(hours=1), timedelta(seconds=10)
Begin = Callable[[], AbstractContextManager[Held]]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean_redis")]


def leased() -> AbstractContextManager[Held]:
    return locks.lease("a loop", ttl=TTL)


def behind_the_gate() -> AbstractContextManager[Held]:
    return locks.hold("a loop", ttl=TTL, needs_redis=True)


def taken_over() -> AbstractContextManager[Held]:
    return locks.take_over("a loop", ttl=TTL, unheard_for=TTL / 2)


def held_by_a_clock_that_is(off: timedelta, name: str = "a loop") -> None:
    """A holder that renewed just now, by its own clock, and was killed."""
    Lease.objects.create(name=name, holder="killed", fence=7, expires_at=timezone.now() + off + TTL)


@pytest.mark.parametrize(
    "off", [HOUR, locks.CLOCKS_APART + MOMENT, -HOUR, -TTL], ids=["+1h", "+70s", "-1h", "-10s"]
)
@pytest.mark.parametrize("begin", [leased, behind_the_gate, taken_over])
def test_one_who_died_with_a_wrong_clock_keeps_nobody_out(begin: Begin, off: timedelta) -> None:
    """Naive: wait until our clock has reached the end that it wrote: an hour without execution."""
    held_by_a_clock_that_is(off)
    with begin() as held:
        assert held.fence == 8
        with transaction.atomic():
            held.require()
        assert timezone.now() < Lease.objects.get().expires_at <= timezone.now() + TTL


@pytest.mark.parametrize("off", [timedelta(0), locks.CLOCKS_APART - MOMENT], ids=["right", "50 s fast"])
@pytest.mark.parametrize("begin", [leased, behind_the_gate, taken_over])
def test_one_whose_clock_is_a_little_ahead_is_waited_for(begin: Begin, off: timedelta) -> None:
    held_by_a_clock_that_is(off)
    with pytest.raises(Busy), begin():
        pass
    assert Lease.objects.get().fence == 7


def test_a_living_fast_host_is_outrun_and_writes_nothing_more() -> None:
    with locks.lease("a loop", ttl=TTL) as fast:
        Lease.objects.update(expires_at=timezone.now() + HOUR + TTL)
        with locks.lease("a loop", ttl=TTL) as ours:
            with pytest.raises(Outrun), transaction.atomic():
                fast.require_fence()
            with pytest.raises(Outrun):
                fast.renewed(TTL)
            assert ours.fence == fast.fence + 1
    assert Lease.objects.get().fence == 2, "the fence never falls"


@pytest.mark.parametrize(
    ("off", "lives"),
    [
        *((timedelta(0), True), (locks.CLOCKS_APART - MOMENT, True), (locks.CLOCKS_APART + MOMENT, False)),
        *((HOUR, False), (-HOUR, False)),
    ],
)
def test_execution_lives_only_by_a_heartbeat_that_can_be_of_now(off: timedelta, lives: bool) -> None:
    held_by_a_clock_that_is(off, LEASE)
    assert stand_in.is_execution_alive() is lives


def test_a_page_tells_no_time_to_come_as_when_execution_was_heard() -> None:
    assert stand_in.execution_heard_at() is None
    held_by_a_clock_that_is(HOUR, LEASE)
    assert stand_in.execution_heard_at() is None
    Lease.objects.update(holder="")
    assert stand_in.execution_heard_at() is None
    with locks.lease(LEASE, ttl=LEASE_TTL):
        heard_at = stand_in.execution_heard_at()
    assert heard_at is not None and timezone.now() - timedelta(seconds=5) < heard_at <= timezone.now()
