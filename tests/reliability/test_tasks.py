"""Celery carries no meaning: whatever is delivered twice, late, or never, each effect comes once, and soon.

Two beats, two workers on the same queues, a real Redis. Every task is also sent by hand one to five times without an
end of its term; workers are killed (SIGKILL, with all their children) at random; the broker is flushed in the middle.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from approvals.models import Proposal, ProposalEvent
from kalshi_site.celery import SCHEDULE
from kalshi_site.models import AuditEntry
from portfolio.models import CashEntry, EquityPoint
from tests import factories
from tests.exchanges import PaperExchange, database_url, paper_exchange
from tests.reliability.conftest import Figure
from tests.reliability.sizes import is_full, size
from trading.models import Cycle

ROOT = Path(__file__).resolve().parent.parent.parent
FOUND_WITHIN = 30.0 if is_full() else 90.0  # seconds after the broker was flushed; a build is no measurement
BEGUN_WITHIN = 60.0 if is_full() else 180.0
LOOPS = {"trading.tasks.update_cycle": "update", "trading.tasks.decision_cycle": "decision"}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean_redis")]


@dataclass
class Workshop:
    """Beats and workers as processes of their own groups; `log` has a line for each task that began."""

    environment: dict[str, str]
    home: Path
    log: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "celery", "--app", "tests.counted_worker", "--quiet"]
        if name.startswith("beat"):
            command += ["beat", "--schedule", str(self.home / name), "--pidfile="]
        else:
            command += [
                "worker",
                "--queues",
                "update,agent",
                "--hostname",
                f"{name}@test",
                "--concurrency",
                "1",
            ]
            command += ["--without-gossip", "--without-mingle"]
        with (self.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*command, "--loglevel", "ERROR"],
                cwd=ROOT,
                env={**self.environment, "KALSHI_PROCESS": name},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """The process and all its children at once: nothing is handed back, nothing is said goodbye to."""
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def begun(self) -> list[tuple[float, str]]:
        if not self.log.exists():
            return []
        lines = [line.split() for line in self.log.read_text(encoding="ascii").splitlines()]
        return [(float(at), name) for at, name in lines]


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PaperExchange]:
    with paper_exchange(tmp_path / "paper", "--simulate") as running:
        yield running


@pytest.fixture
def workshop(tmp_path: Path, exchange: PaperExchange) -> Iterator[Workshop]:
    environment = {
        **os.environ,
        **exchange.environment(),
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR_DIR),
        "TASK_LOG": str(tmp_path / "tasks"),
    }
    made = Workshop(environment, tmp_path, tmp_path / "tasks")
    try:
        yield made
    finally:
        for name in list(made.running):
            made.kill(name)


def due_within(count: int, seconds: float) -> list[str]:
    """Proposals that nobody will decide; their deadlines are spread over the next seconds."""
    market, now = factories.quoted_market(), timezone.now()
    return [
        factories.ProposalFactory(
            market=market, deadline_at=now + timedelta(seconds=seconds * n / count)
        ).public_id
        for n in range(count)
    ]


def send_again_and_again(chance: random.Random) -> int:
    """Each task one to five times, in any order, with no end of its term: late ones are run as well."""
    from kalshi_site.celery import app

    copies = [name for name in SCHEDULE for _ in range(chance.randint(1, 5))]
    chance.shuffle(copies)
    for name in copies:
        entry = SCHEDULE[name]
        app.send_task(entry["task"], queue=entry["queue"])
    return len(copies)


def wait_for(look: Callable[[], Any], what: str, within: float) -> float:
    """Wait until `look` says yes; returns how many seconds that took."""
    began = time.monotonic()
    while not look():
        assert time.monotonic() - began < within, f"no sight of {what} in {within} s"
        time.sleep(0.1)
    return time.monotonic() - began


def flush_the_broker() -> float:
    """Empty it, and wait for both loops; returns how many seconds that took. Nothing is sent by hand meanwhile."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
    at = timezone.now()
    return wait_for(lambda: len(cycled_since(at)) == 2, "both loops again", FOUND_WITHIN)


def cycled_since(at: Any) -> set[str]:
    """The loops that have begun a round since."""
    return set(Cycle.objects.filter(started_at__gt=at).values_list("loop", flat=True)) & set(LOOPS.values())


def most_in_one_slot(begun: list[tuple[float, str]], task: str, seconds: float) -> int:
    return max(Counter(int(at // seconds) for at, name in begun if name == task).values())


def test_each_effect_comes_once_whatever_celery_delivers_kills_or_forgets(
    workshop: Workshop, figure: Figure
) -> None:
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    chance, count = random.Random(seed), size("due_proposals")
    for name in ("beat-1", "beat-2", "worker-1", "worker-2"):
        workshop.start(name)
    wait_for(
        lambda: len(cycled_since(timezone.now() - timedelta(minutes=1))) == 2, "both loops", BEGUN_WITHIN
    )
    span = max(16.0, count / 10)
    names = due_within(count, span)
    sent, kills, until, flush_at = 0, 0, time.monotonic() + span, time.monotonic() + span / 2
    found = {}
    while time.monotonic() < until:
        sent += send_again_and_again(chance)
        time.sleep(chance.uniform(0.5, 1.5))
        if chance.random() < 0.4:
            victim = chance.choice(("worker-1", "worker-2"))
            workshop.kill(victim)
            workshop.start(victim)
            kills += 1
        if not found and time.monotonic() > flush_at:
            found["loops"] = flush_the_broker()
    pending = Proposal.objects.filter(public_id__in=names, state="pending")
    found["deadlines"] = wait_for(lambda: not pending.exists(), "the end of what is due", FOUND_WITHIN)

    begun = workshop.begun()
    figure(
        f"seed {seed}: {count} due, {sent} sent by hand, {len(begun)} begun, {kills} kills, 1 flush; "
        f"loops found again in {found['loops']:.1f} s, deadlines in {found['deadlines']:.1f} s"
    )
    each_effect_came_once(names)
    assert most_in_one_slot(begun, "trading.tasks.update_cycle", 5.0) > 1, (
        "the naive count: once per delivery"
    )
    assert most_in_one_slot(begun, "trading.tasks.decision_cycle", 15.0) > 1
    assert sum(name == "approvals.tasks.expire_due" for _, name in begun) > 0


def each_effect_came_once(names: list[str]) -> None:
    expired = Counter(
        ProposalEvent.objects.filter(to_state="expired").values_list("proposal__public_id", flat=True)
    )
    assert expired == dict.fromkeys(names, 1)
    said = Counter(AuditEntry.objects.filter(verb="proposal.expired").values_list("object_id", flat=True))
    assert said == dict.fromkeys(names, 1)
    assert CashEntry.objects.filter(kind="opening").count() == 1
    slots = list(Cycle.objects.values_list("loop", "slot"))
    assert len(slots) == len(set(slots))
    points = list(EquityPoint.objects.values_list("venue", "at"))
    assert len(points) == len(set(points))


def test_no_user_visible_state_rests_on_what_a_task_returned() -> None:
    from kalshi_site.celery import app

    assert app.conf.result_backend is None and app.conf.task_ignore_result
    assert app.conf.task_acks_late and app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["visibility_timeout"] > app.conf.task_time_limit


def test_no_task_takes_an_argument() -> None:
    """A message says "look now". What is due stands in the database: lost, doubled or late, it changes nothing."""
    import inspect

    from kalshi_site.celery import app

    app.loader.import_default_modules()
    for entry in SCHEDULE.values():
        assert not inspect.signature(app.tasks[entry["task"]].run).parameters
