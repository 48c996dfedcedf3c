"""Who lives, who fell silent, and which code each runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from kalshi_site import heartbeat
from kalshi_site.build import build_id
from kalshi_site.heartbeat import Heart
from kalshi_site.models import ProcessBeat
from kalshi_site.views.health import TRADING
from kalshi_site.views.metrics import DeskCollector
from tests.exchanges import database_url
from tests.factories import member

ROOT = Path(__file__).resolve().parent.parent.parent
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
LIVING = """
import django, sys, time
django.setup()
from kalshi_site.heartbeat import Heart
heart = Heart("feed", every=0.05)
heart.start()
print("ready", flush=True)
sys.stdin.readline()
heart.stop()
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def row(
    name: str = "feed",
    *,
    pid: int = 1,
    silent_for: float = 0,
    build: str = "b1",
    age: float = 60,
    now: datetime | None = None,
) -> None:
    now = now or timezone.now()
    ProcessBeat.objects.create(
        name=name,
        host="desk",
        pid=pid,
        build=build,
        started_at=now - timedelta(seconds=age),
        beat_at=now - timedelta(seconds=silent_for),
    )


def fault(now: datetime | None = None) -> str:
    return heartbeat.fault(now or timezone.now())


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
        "DATABASE_URL": database_url(),
    }
    command = [sys.executable, "-c", LIVING]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdout is not None and living.stdout.readline() == "ready\n"
        yield living
        living.kill()


def beats_on(within: float) -> bool:
    before = ProcessBeat.objects.get().beat_at
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if ProcessBeat.objects.get().beat_at > before:
            return True
        time.sleep(0.05)
    return False


def until_there() -> ProcessBeat:
    deadline = time.monotonic() + 60
    while not ProcessBeat.objects.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return ProcessBeat.objects.get()


def test_a_process_beats_with_its_build_and_a_frozen_one_falls_silent(process: subprocess.Popen[str]) -> None:
    beat = until_there()
    assert (beat.name, beat.pid, beat.build) == ("feed", process.pid, build_id())
    assert beats_on(30)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    assert not beats_on(0.5)
    process.send_signal(signal.SIGCONT)
    assert beats_on(30)


def test_one_that_ends_takes_its_row_away_and_one_that_is_killed_does_not(
    process: subprocess.Popen[str],
) -> None:
    until_there()
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.wait(60)
    assert not ProcessBeat.objects.exists()


def test_a_killed_one_is_an_alarm_until_another_has_its_place() -> None:
    now = timezone.now()
    row(pid=1, silent_for=20, now=now)
    assert fault(now) == "E902 silent: feed for 20 s"
    row(pid=2, age=5, now=now)
    assert fault(now) == ""
    assert [sign.row.pid for sign in heartbeat.signs(timezone.now())] == [2]


def test_two_of_one_name_may_live_side_by_side_and_one_replaces_not_the_other() -> None:
    now = timezone.now()
    row("update", pid=1, age=600, now=now)
    row("update", pid=2, age=60, now=now)
    assert len(heartbeat.signs(now)) == 2
    ProcessBeat.objects.filter(pid=1).update(beat_at=now - timedelta(seconds=30))
    assert fault(now) == "E902 silent: update for 30 s", "the other one was there before it fell silent"


def test_code_of_two_builds_side_by_side_is_an_alarm() -> None:
    row("feed", pid=1, build="old")
    row("web", pid=2, build="new")
    assert fault() == "E902 2 builds run side by side: restart the desk"


def test_a_pid_that_comes_again_is_another_process() -> None:
    row("feed", pid=os.getpid(), silent_for=100)
    Heart("feed", host="desk").beat()
    beat = ProcessBeat.objects.get()
    assert beat.build == build_id()
    assert fault() == ""


def test_machines_and_people_are_told(client: Client) -> None:
    row("execution", silent_for=20)
    assert TRADING["heartbeats"]().startswith("E902 silent: execution for 2")
    registry = CollectorRegistry()
    registry.register(DeskCollector())
    told = generate_latest(registry).decode()
    assert 'kops_process_beat_age_seconds{process="execution"} 2' in told
    assert "kops_processes_silent 1.0" in told and "kops_builds 1.0" in told
    client.force_login(member("risk1", "risk"))
    text = client.get("/health").content.decode()
    line = text.split("Who lives")[1].split("</section>")[0]
    assert "execution" in line and "silent" in line and "b1" in line


def test_nothing_known_is_no_alarm_and_old_rows_are_forgotten() -> None:
    assert fault() == ""
    row(silent_for=2 * 86_400)
    assert heartbeat.signs(timezone.now()) == []
    assert heartbeat.forget(timezone.now()) == 1


def test_the_suite_itself_does_not_beat() -> None:
    assert heartbeat.begin("web") is None


def test_the_build_changes_with_a_file_and_not_with_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kalshi_site import build

    monkeypatch.setattr(build, "_ROOT", tmp_path)
    (tmp_path / "trading").mkdir()
    source = tmp_path / "trading" / "a.py"
    source.write_text("x = 1\n")
    plain = build.build_id.__wrapped__
    first = plain()
    assert first == plain()
    source.write_text("x = 2\n")
    assert plain() != first
