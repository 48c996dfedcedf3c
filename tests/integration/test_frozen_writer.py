"""A process that is frozen inside a write keeps nobody from SQLite: it is found by the kernel's list, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from kalshi_site import frozen_writer, wiring
from kalshi_site.frozen_writer import _writers, end_frozen_writer
from kalshi_site.models import AuditEntry
from portfolio import risk
from tests import factories
from tests.exchanges import database_url
from tests.fakes import FakeGroups
from trading.execution import watchdog as room
from trading.execution.nets import Nets
from trading.execution.watchdog import Watchdog
from trading.models import OrderGroup

VENUE = factories.VENUE
_HOLDS = """
import django; django.setup()
from django.db import connection, transaction
with transaction.atomic():
    connection.cursor().execute("SELECT 1")
    print("holds", flush=True)
    import time; time.sleep(60)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.skipif(
        settings.DATABASES["default"]["ENGINE"].endswith("postgresql"),
        reason="PostgreSQL gives up on its client",
    ),
]


@contextmanager
def writing() -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of a write."""
    risk.trading_state(VENUE)
    told = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "kalshi_site.settings"}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS], env=told, stdout=subprocess.PIPE, cwd=Path(settings.BASE_DIR)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def writer() -> Iterator[subprocess.Popen[bytes]]:
    with writing() as process:
        yield process


def freeze(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def test_a_frozen_writer_is_ended_and_a_stop_goes_on(writer: subprocess.Popen[bytes]) -> None:
    """Naive: everybody waits for half a minute and fails, until a person finds the process and kills it."""
    freeze(writer)
    assert end_frozen_writer("operator") == writer.pid
    assert writer.wait(5) == -signal.SIGKILL
    assert risk.halt(venue=VENUE, actor="operator", reason="fire").mode == "HALTED"
    assert AuditEntry.objects.get(verb="process.ended").object_id == str(writer.pid)


def test_a_writer_that_is_slow_and_not_frozen_is_left_alone(writer: subprocess.Popen[bytes]) -> None:
    assert end_frozen_writer("operator") is None
    assert writer.poll() is None


def test_a_writer_that_goes_on_meanwhile_is_left_alone(
    writer: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: one look is enough, and a shell's or a debugger's short stop costs a process."""
    freeze(writer)
    monkeypatch.setattr(frozen_writer.time, "sleep", lambda _: writer.send_signal(signal.SIGCONT))
    assert end_frozen_writer("operator") is None
    assert writer.poll() is None


def test_a_frozen_process_that_holds_nothing_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as idle:
        freeze(idle)
        try:
            assert end_frozen_writer("operator") is None
            assert idle.poll() is None
        finally:
            idle.kill()


def test_the_command_stops_trading_though_a_writer_is_frozen(
    writer: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze(writer)
    monkeypatch.setattr(wiring, "stand_in", lambda: pytest.fail("nothing rests, so nobody stands in"))
    told, warned = StringIO(), StringIO()
    with pytest.raises(SystemExit):  # nobody proves it here; the stop itself stands
        call_command("trade", "halt", reason="fire", within=0.0, stdout=told, stderr=warned)
    assert f"process {writer.pid} was frozen" in warned.getvalue()
    assert AuditEntry.objects.get(verb="process.ended").actor_kind == "person"
    assert risk.trading_state(VENUE).mode == "HALTED"


def test_the_watchdog_ends_what_keeps_execution_from_its_heartbeat(writer: subprocess.Popen[bytes]) -> None:
    freeze(writer)
    dog = Watchdog(VENUE, FakeGroups(), threading.Event(), lambda: None, silent_after=-1.0)
    assert dog.look()
    dog.close()
    assert writer.wait(5) == -signal.SIGKILL
    assert AuditEntry.objects.get(verb="process.ended").actor_kind == "system"


def test_the_watchdog_ends_every_group_and_the_frozen_writer_before_it_waits_to_write_that_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Naive: note each group when it is ended. The note waits half a minute, and all else behind it."""
    groups = FakeGroups()
    nets = Nets(VENUE, groups, groups, Decimal(100))  # type: ignore[arg-type]
    assert nets.ensure(0)
    assert nets.ensure(1)
    factories.OrderFactory()
    seen: list[tuple[set[str], int | None]] = []
    note = room.trip

    def watched(group: OrderGroup, **how: Any) -> bool:
        seen.append((set(groups.tripped), process.poll()))
        return note(group, **how)

    monkeypatch.setattr(room, "trip", watched)
    with writing() as process:
        freeze(process)
        dog = Watchdog(VENUE, groups, threading.Event(), lambda: None, silent_after=-1.0)
        assert dog.look()
        dog.close()
    assert seen == [({"group-1", "group-2"}, -signal.SIGKILL)] * 2
    assert OrderGroup.objects.tripped(VENUE).count() == 2
    assert risk.trading_state(VENUE).mode == "REDUCING"


def test_who_waits_who_reads_and_who_locks_another_file_is_no_writer() -> None:
    locks = """\
1: POSIX  ADVISORY  WRITE 11 fe:00:77 120 120
1: -> POSIX  ADVISORY  WRITE 12 fe:00:77 120 120
2: POSIX  ADVISORY  READ 13 fe:00:77 123 123
3: POSIX  ADVISORY  WRITE 14 fe:00:78 120 120
4: POSIX  ADVISORY  WRITE 15 fe:00:77 121 121
5: POSIX  ADVISORY  WRITE 16 fe:00:77 0 EOF
"""
    assert _writers(locks, 77) == [11, 16]
