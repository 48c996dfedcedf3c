"""The watchdog hears execution by its lease and has the exchange end our orders when it hears nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError

from kalshi_site import locks
from kalshi_site.models import AuditEntry, Lease
from portfolio import risk
from tests import factories
from tests.fakes import FakeGroups
from trading.exchange.outcomes import Unknown
from trading.execution import watchdog as room
from trading.execution.nets import Nets
from trading.execution.watchdog import Watchdog
from trading.models import OrderGroup

VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def groups() -> FakeGroups:
    found = FakeGroups()
    assert Nets(VENUE, found, found, Decimal(100)).ensure(0)  # type: ignore[arg-type]
    return found


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def held() -> Iterator[locks.Held]:
    with suppress(locks.Outrun), locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        yield lease


@pytest.fixture
def dog(groups: FakeGroups, clock: Seconds) -> Watchdog:
    return Watchdog(VENUE, groups, threading.Event(), lambda: None, monotonic=clock)


def working() -> None:
    factories.OrderFactory()


def after(clock: Seconds, seconds: float, dog: Watchdog) -> bool:
    clock.now += seconds
    return dog.look()


def test_a_silent_execution_has_its_orders_ended_and_trading_paused(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    working()
    assert not dog.look()
    assert not after(clock, 10, dog)
    assert after(clock, 0.5, dog)
    assert groups.tripped == {"group-1"}
    state = risk.trading_state(VENUE)
    assert (state.mode, state.changed_by) == ("REDUCING", "watchdog")
    assert "execution was not heard for 10 seconds" in state.reason
    assert AuditEntry.objects.get(verb="order_group.tripped").actor == "watchdog"
    after(clock, 1, dog)
    assert groups.calls == ["create", "trigger"]


def test_an_execution_that_renews_its_lease_is_left_alone(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    working()
    for _ in range(30):
        held = held.renewed(timedelta(seconds=10))
        assert not after(clock, 1, dog)
    assert groups.tripped == set()


def test_without_an_order_that_may_rest_there_is_nothing_to_end(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    dog.look()
    after(clock, 60, dog)
    assert groups.tripped == set()
    working()  # one that was claimed before it froze, and would leave when it wakes
    after(clock, 1, dog)
    assert groups.tripped == {"group-1"}


def test_an_execution_that_was_never_heard_gets_its_time_from_our_start(
    dog: Watchdog, clock: Seconds, groups: FakeGroups
) -> None:
    working()
    assert not dog.look()
    assert not after(clock, 9, dog)
    assert after(clock, 2, dog)
    assert groups.tripped == {"group-1"}


def test_an_execution_that_ended_in_order_and_does_not_come_back_is_silent_too(
    dog: Watchdog, clock: Seconds, groups: FakeGroups
) -> None:
    working()
    with locks.lease("execution", ttl=timedelta(seconds=10)):
        dog.look()
    after(clock, 11, dog)
    assert groups.tripped == {"group-1"}


def test_a_trigger_without_an_answer_is_repeated_until_the_exchange_confirms(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    working()
    dog.look()
    groups.failing = Unknown("no answer")
    after(clock, 11, dog)
    assert not OrderGroup.objects.tripped(VENUE).exists()
    groups.failing = None
    after(clock, 1, dog)
    assert (groups.tripped, groups.calls.count("trigger")) == ({"group-1"}, 2)
    assert OrderGroup.objects.tripped(VENUE).exists()


@pytest.mark.parametrize("fault", [OperationalError, InterfaceError])
def test_a_database_that_does_not_answer_is_silence_and_the_row_follows_later(
    dog: Watchdog,
    clock: Seconds,
    groups: FakeGroups,
    held: locks.Held,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[Exception],
) -> None:
    """Naive: when the database cannot be read, wait for it. Execution cannot renew its lease there either.

    A connection that was closed under us says InterfaceError, which is no DatabaseError.
    """
    assert issubclass(fault, DatabaseError) is (fault is OperationalError)
    working()
    dog.look()

    def gone(*_: Any, **__: Any) -> Any:
        raise fault("the database is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Lease.objects, "filter", gone)
        patch.setattr(room, "trip", gone)
        after(clock, 11, dog)
        assert groups.tripped == {"group-1"}
    assert risk.trading_state(VENUE).mode == "ACTIVE"
    after(clock, 1, dog)
    assert risk.trading_state(VENUE).mode == "REDUCING"
    assert groups.calls.count("trigger") == 1


def test_an_execution_that_comes_back_finds_the_net_tripped_and_trading_paused(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    """Naive: reset it when execution is heard again. Nobody would know why it froze."""
    working()
    dog.look()
    after(clock, 11, dog)
    held.renewed(timedelta(seconds=10))
    assert not after(clock, 1, dog)
    assert groups.tripped == {"group-1"}
    with pytest.raises(risk.ResumeRefused, match="watchdog"):
        risk.resume(venue=VENUE, actor="operator", reason="it is back")
