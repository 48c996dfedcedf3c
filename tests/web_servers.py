"""The real web process, and a Redis of its own, for tests that kill them: Daphne with the desk's whole application.

python -m tests.web_servers PORT HEARTBEAT ABANDONED    runs one: seconds between heartbeats, and after which a
                                                        request that never ended may be tried again
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import redis

from kalshi_site.management.supervisor.redis_servers import find_binary

ROOT = Path(__file__).resolve().parent.parent
START_WITHIN = 180.0  # a busy machine may give a new process little time


def free_port() -> int:
    """A port to be listened on again and again: below those that the system hands to outgoing connections."""
    while True:
        port = secrets.randbelow(12_000) + 18_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Web:
    """One Daphne at a port of its own, with a state directory of its own: as on a host of its own."""

    port: int
    environment: Mapping[str, str]
    heartbeat: float = 15.0
    abandoned: float = 60.0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to start; `wait` until it answers."""
        command = [sys.executable, "-m", "tests.web_servers"]
        command += [str(self.port), str(self.heartbeat), str(self.abandoned)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL
        )

    def wait(self) -> None:
        deadline = time.monotonic() + START_WITHIN
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, "the web process ended at once"
            assert time.monotonic() < deadline, "the web process did not answer in time"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.origin}/livez", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@dataclass
class OwnRedis:
    """A Redis that a test may empty and kill. It keeps nothing over a restart."""

    home: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"unix://{self.home / 'r.sock'}?db=0"

    def start(self) -> None:
        binary = find_binary()
        assert binary is not None
        command = [str(binary), "--port", "0", "--unixsocket", str(self.home / "r.sock"), "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self.home)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_WITHIN
        while not self._answers():
            assert time.monotonic() < deadline, "the test's Redis did not answer in time"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def main(port: str, heartbeat: str, abandoned: str) -> None:
    """Run Daphne in the foreground; it ends with its starter."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    from daphne.cli import CommandLineInterface
    from django.conf import settings

    from kalshi_site import asgi, idempotency

    assert asgi.application is not None
    settings.LIVE_HEARTBEAT_SECONDS = float(heartbeat)
    idempotency.ABANDONED_AFTER = timedelta(seconds=float(abandoned))  # type: ignore[misc]  # Final, but for tests
    options = ["--bind", "127.0.0.1", "--port", port, "--verbosity", "0", "--application-close-timeout", "1"]
    CommandLineInterface().run([*options, "kalshi_site.asgi:application"])


def _end_with(parent: int) -> None:
    """A suite that is killed leaves no server behind. The kernel's own signal goes by the starting thread's end."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
