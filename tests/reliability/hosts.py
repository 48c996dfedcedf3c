"""Two hosts' worth of the desk as processes: web, execution, a worker per queue and a beat on each; one database, one
Redis, one account.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.reliability.tempo import Tempo
from tests.web_servers import ROOT, OwnRedis, Web, free_port

TEMPO: Final = Tempo(15, fence_divisor=5)
STARTS_WITHIN: Final = 120.0
ABANDONED: Final = 5.0  # seconds, for the product's sixty
QUEUES: Final = ("update", "agent")
_CELERY: Final = (sys.executable, "-m", "celery", "--app", "kalshi_site.celery", "--quiet")
# The order and the strictness of the supervisor's own plan; only the names of the hosts differ.
_WORKER: Final = ("--concurrency", "1", "--loglevel", "ERROR", "--without-gossip", "--without-mingle")


@dataclass
class Process:
    """One process of a host with all its children. It is ready once it has written its ready file."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    ready_file: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        self.ready_file.unlink(missing_ok=True)
        own = {"KALSHI_READY_FILE": str(self.ready_file), "KALSHI_PROCESS": self.name}
        self._process = subprocess.Popen(
            self.argv,
            cwd=ROOT,
            env={**os.environ, **self.environment, **own},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def is_ready(self) -> bool:
        alive = self._process is not None and self._process.poll() is None
        return alive and self.ready_file.exists()

    def kill(self) -> None:
        """SIGKILL to the whole group; it counts as not ready from now on."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None
        self.ready_file.unlink(missing_ok=True)

    def pause(self) -> None:
        self._tell(signal.SIGSTOP)

    def go_on(self) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


@dataclass
class Host:
    """What runs on one machine. Only execution is given the trading key."""

    web: Web
    execution: Process
    workers: dict[str, Process]
    beat: Process

    @property
    def others(self) -> list[Process]:
        return [*self.workers.values(), self.beat]

    def kill(self) -> None:
        for process in (self.execution, *self.others):
            process.kill()
        self.web.kill()


def host(name: str, var: Path, shared: Mapping[str, str], keys: Mapping[str, str]) -> Host:
    """A host with a state directory of its own. `deployment_id` is the same on all: order ids are derived from it."""
    for folder in ("run", "static"):
        (var / folder).mkdir(parents=True)
    (var / "deployment_id").write_text("00000000-0000-0000-0000-000000000004\n", encoding="ascii")
    own = {**shared, "VAR_DIR": str(var)}
    read = {key: value for key, value in keys.items() if "READ" in key}

    def process(role: str, argv: tuple[str, ...], given: Mapping[str, str]) -> Process:
        return Process(f"{role} of {name}", argv, {**own, **given}, var / "run" / f"{role}.ready")

    def worker(queue: str) -> Process:
        argv = (*_CELERY, "worker", "--queues", queue, "--hostname", f"{queue}@{name}", *_WORKER)
        return process(queue, argv, read if queue == "update" else {})

    beat = (*_CELERY, "beat", "--schedule", str(var / "run" / "beat"), "--pidfile=", "--loglevel", "ERROR")
    return Host(
        web=Web(free_port(), own, abandoned=ABANDONED),
        execution=process("execution", (sys.executable, "-m", "tests.reliability.host_execution"), keys),
        workers={queue: worker(queue) for queue in QUEUES},
        beat=process("beat", beat, {}),
    )


@dataclass
class Hosts:
    """All of them, and the Redis that they share."""

    hosts: list[Host]
    redis: OwnRedis
    crowns: int = 0  # how often more than one execution was seen to lead

    def leader(self, within: float = 30.0) -> Process:
        """The execution that leads. Two at a time would be one too many; they are counted."""
        deadline = time.monotonic() + within
        while True:
            leading = [each.execution for each in self.hosts if each.execution.is_ready]
            self.crowns += len(leading) > 1
            if leading:
                return leading[0]
            assert time.monotonic() < deadline, "no execution took the lead"
            time.sleep(0.02)

    def silence(self) -> None:
        """Nobody writes any more; both web processes answer."""
        for each in self.hosts:
            for process in (each.execution, *each.others):
                process.kill()
            each.web.wait()


@contextlib.contextmanager
def running(home: Path, shared: Mapping[str, str], keys: Mapping[str, str]) -> Iterator[Hosts]:
    """Two hosts for the block, once everything is ready."""
    own = OwnRedis(home)
    own.start()
    addresses = {"REDIS_URL": own.url, "REDIS_CACHE_URL": own.url.replace("db=0", "db=1")}
    both = Hosts([host(name, home / name, {**shared, **addresses}, keys) for name in ("a", "b")], own)
    try:
        for each in both.hosts:
            each.web.start()
            for process in (each.execution, *each.others):
                process.start()
        for each in both.hosts:
            each.web.wait()
        deadline = time.monotonic() + STARTS_WITHIN
        both.leader(STARTS_WITHIN)
        waiting = [process for each in both.hosts for process in each.others]
        while left := [process.name for process in waiting if not process.is_ready]:
            assert time.monotonic() < deadline, f"not ready in time: {left}"
            time.sleep(0.05)
        yield both
    finally:
        for each in both.hosts:
            each.kill()
        own.kill()
