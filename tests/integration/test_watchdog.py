"""The watchdog hears execution by its lease and has the exchange end our orders when it hears nothing any more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from kalshi_site import locks
from kalshi_site.models import AuditEntry, Lease
from portfolio import risk
from tests import factories
from tests.fakes import FakeGroups
from trading.exchange.outcomes import Unknown
from trading.execution import watchdog as room
from trading.execution.nets import Nets
from trading.execution.watchdog import Line, Unanswered, Watchdog
from trading.models import OrderGroup

VENUE = factories.VENUE
IN_TIME = 20.0  # seconds that looks may take here; a database that hangs would keep them for ever
on_postgresql = pytest.mark.skipif(
    not settings.DATABASES["default"]["ENGINE"].endswith("postgresql"), reason="SQLite has no server"
)

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
def dog(groups: FakeGroups, clock: Seconds) -> Iterator[Watchdog]:
    found = Watchdog(VENUE, groups, threading.Event(), lambda: None, monotonic=clock)
    yield found
    found.close()


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


class Hangs:
    """Stands in the way of whoever calls it until it is let go, then does what it stands for."""

    def __init__(self, instead_of: Callable[..., Any]) -> None:
        self.instead_of, self.calls, self.let_go = instead_of, 0, threading.Event()

    def __call__(self, *args: Any, **how: Any) -> Any:
        self.calls += 1
        assert self.let_go.wait(60)
        return self.instead_of(*args, **how)


@contextmanager
def hanging(where: object, name: str) -> Iterator[Hangs]:
    with pytest.MonkeyPatch.context() as patch:
        hangs = Hangs(getattr(where, name))
        patch.setattr(where, name, hangs)
        try:
            yield hangs
        finally:
            hangs.let_go.set()


def until(look: Callable[[], Any]) -> None:
    """Wait until it is so."""
    began = time.monotonic()
    while not look():
        assert time.monotonic() - began < IN_TIME, "it did not come"
        time.sleep(0.05)


def test_a_database_that_hangs_is_silence_and_is_asked_one_question_at_a_time(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    """Naive: ask in our own thread. The first question that is never answered is the last look."""
    working()
    dog.look()
    dog.answer_within = 0.3
    with hanging(Lease.objects, "filter") as hangs:
        assert not after(clock, 5, dog)
        assert after(clock, 6, dog)
        assert groups.tripped == {"group-1"}
        assert after(clock, 1, dog)
        assert hangs.calls == 1
    dog.answer_within = IN_TIME
    held = held.renewed(timedelta(seconds=10))
    until(lambda: not dog.look())
    assert risk.trading_state(VENUE).mode == "REDUCING"


def test_a_line_takes_no_errand_while_one_is_open_and_drops_an_answer_that_comes_too_late() -> None:
    """What was read long ago is no news of now."""
    line, let_go, answers = Line(), threading.Event(), []

    def again() -> bool:
        with suppress(Unanswered):
            answers.append(line.ask(lambda: "new", within=IN_TIME))
        return bool(answers)

    with pytest.raises(Unanswered, match="no answer"):
        line.ask(lambda: "old" if let_go.wait(60) else "", within=0.1)
    with pytest.raises(Unanswered, match="still due"):
        line.ask(lambda: "too soon", within=IN_TIME)
    let_go.set()
    until(again)
    line.close()
    assert answers == ["new"]


def test_a_note_that_hangs_keeps_no_group_from_being_ended_at_the_next_look(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    working()
    dog.look()
    dog.answer_within = 0.5
    with hanging(room, "trip") as hangs:
        assert after(clock, 11, dog)
        assert Nets(VENUE, groups, groups, Decimal(100)).ensure(1)  # type: ignore[arg-type]
        until(lambda: after(clock, 1, dog) and groups.tripped == {"group-1", "group-2"})
        assert hangs.calls == 1
        assert risk.trading_state(VENUE).mode == "ACTIVE"
    dog.answer_within = IN_TIME
    until(lambda: after(clock, 1, dog) and OrderGroup.objects.tripped(VENUE).count() == 2)
    assert groups.calls.count("trigger") == 2


def backends() -> list[int]:
    """The server's processes that serve others than this thread."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        )
        return [pid for (pid,) in cursor.fetchall()]


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    except OSError as error:
        pytest.skip(f"the server's processes are not ours: {error}")
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@on_postgresql
def test_a_server_process_that_is_frozen_costs_a_look_and_no_order(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held
) -> None:
    """It enforces no timeout and its kernel goes on acknowledging. We hang up, and ask another."""
    working()
    dog.look()
    held = held.renewed(timedelta(seconds=10))
    dog.answer_within = 1.0
    with frozen(backends()):
        began = time.monotonic()
        assert not after(clock, 9, dog)
        assert time.monotonic() - began >= 1.0, "nothing was frozen"
        dog.answer_within = IN_TIME
        until(lambda: dog._ear._answer is None or dog._ear._answer.done())  # back from the one it hung up on
        assert not after(clock, 2, dog)
    assert groups.tripped == set()


@on_postgresql
def test_a_server_that_accepts_and_never_answers_is_silence(
    dog: Watchdog, clock: Seconds, groups: FakeGroups, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    working()
    dog.look()
    dog.answer_within = 1.0
    with socket.create_server(("127.0.0.1", 0)) as deaf, monkeypatch.context() as patch:
        address = connection.settings_dict
        patch.setitem(address, "HOST", "127.0.0.1")
        patch.setitem(address, "PORT", deaf.getsockname()[1])
        patch.setitem(address, "OPTIONS", {**address["OPTIONS"], "connect_timeout": 2})
        began = time.monotonic()
        with frozen(backends()):  # so that it connects anew
            assert not after(clock, 5, dog)
        assert after(clock, 6, dog)
        assert after(clock, 1, dog)
        assert groups.tripped == {"group-1"}
        assert time.monotonic() - began < IN_TIME
    until(lambda: after(clock, 1, dog) and OrderGroup.objects.tripped(VENUE).exists())


_CONNECTS = """
import django; django.setup()
from django.db import OperationalError, connection
try:
    connection.ensure_connection()
except OperationalError:
    options = connection.settings_dict["OPTIONS"]
    print(options["options"], options["tcp_user_timeout"])
"""


@pytest.mark.slow
def test_the_watchdogs_process_gives_up_a_server_that_never_answers() -> None:
    """Naive: no connect_timeout. It waits for two minutes, or for ever."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"postgres://nobody@127.0.0.1:{deaf.getsockname()[1]}/desk"
        told = {**os.environ, "DATABASE_URL": url, "KALSHI_PROCESS": "watchdog"}
        told["DJANGO_SETTINGS_MODULE"] = "kalshi_site.settings"
        said = subprocess.run(
            [sys.executable, "-c", _CONNECTS],
            env=told,
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert said.stdout == "-c idle_in_transaction_session_timeout=10s -c statement_timeout=3s 3000\n"


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
