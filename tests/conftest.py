"""What every test stands on: settings of its own, a Redis of its own, no network.

Settings are chosen here, before Django loads: this module is imported by each test process, and each gets its own
state directory and Redis socket. `DATABASE_URL` is the one setting of the caller that counts.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import coverage
import hypothesis
import pytest

# How long a case takes is the machine's affair, and shows in benchmarks.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.load_profile("desk")

# Short: a Unix socket's path has room for 107 bytes.
STATE = Path(tempfile.mkdtemp(prefix="kops-test-"))
REDIS_SOCKET = STATE / "redis.sock"
_KEPT = ("DATABASE_URL", "KALSHI_RECORDINGS", "KALSHI_CAPTURES", "KALSHI_CONTRACT_DIR", "E2E_CHROMIUM")
_OURS = ("KALSHI_", "PAPER_", "PROPOSAL_", "REDIS_", "SECRET_KEY", "METRICS_TOKEN", "ALLOWED_HOSTS", "DEBUG")


def _own_environment() -> None:
    for name in list(os.environ):
        if name.startswith(_OURS) and name not in _KEPT:
            del os.environ[name]
    os.environ.update(
        DJANGO_SETTINGS_MODULE="kalshi_site.settings",
        KALSHI_ENV_FILE="",
        KALSHI_PROCESS="test",
        LOG_FORMAT="console",
        LOG_LEVEL="warning",
        REDIS_CACHE_URL=f"unix://{REDIS_SOCKET}?db=1",
        REDIS_URL=f"unix://{REDIS_SOCKET}?db=0",
        SECRET_KEY="only-for-the-test-suite-0123456789-0123456789-0123456789",
        VAR_DIR=str(STATE / "var"),
        # Socket directories of supervisors under test go away with the rest.
        XDG_RUNTIME_DIR=str(STATE),
    )
    for folder in ("run", "static"):
        (STATE / "var" / folder).mkdir(parents=True, mode=0o700)
    atexit.register(shutil.rmtree, STATE, ignore_errors=True)


_own_environment()

# Loads the settings now: pytest-django sets up what it finds configured.
from django.conf import settings  # noqa: E402

assert settings.SECRET_KEY


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Let the workers of xdist choose: with the name in their environment they would load our settings early."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Coverage is measured by the quick tests. Traced, those that compute or start processes take up to three times as
    long, and the gates are open without what they alone would add.
    """
    measured = coverage.Coverage.current() if item.get_closest_marker("slow") else None
    if measured is None:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(
            "COVERAGE_PROCESS_CONFIG", raising=False
        )  # it makes each Python that is started measure itself
        measured.stop()
        try:
            return (yield)
        finally:
            measured.start()


def _redis_binary() -> str:
    from kalshi_site.management.supervisor.redis_servers import find_binary

    found = find_binary()
    if found is None:
        pytest.skip("no Redis server here: install redis, or use Linux on x86-64 where the wheel brings one")
    return str(found)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A Redis server of this test process; its URL is already in the settings."""
    command = [_redis_binary(), "--port", "0", "--unixsocket", str(REDIS_SOCKET), "--unixsocketperm", "700"]
    command += ["--save", "", "--appendonly", "no", "--dir", str(STATE)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        while not _accepts(REDIS_SOCKET):
            assert server.poll() is None, "the test suite's Redis ended at once"
            time.sleep(0.01)
        yield settings.REDIS_URL
        server.terminate()


@pytest.fixture
def clean_redis(redis_server: str) -> str:
    """The same server, emptied."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(autouse=True)
def _breakers_closed() -> None:
    """No test finds a breaker that another one's failing exchange has opened."""
    from kalshi_site.breakers import BREAKERS, memories

    memories.forget()
    if REDIS_SOCKET.exists():
        import redis

        with redis.Redis.from_url(settings.REDIS_URL) as client:
            client.delete(
                *(f"breaker:{profile}:{name}" for profile in settings.PROFILES for name in BREAKERS)
            )


@pytest.fixture(autouse=True)
def _rounds_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of execution leaves to the next what half a second is too short for, and claims nothing ahead after an
    answer that took as long: on a busy machine that is chance.
    """
    for name in ("ROUND_WITHIN", "STOPPING_WITHIN", "QUICK_ANSWER"):
        monkeypatch.setattr(f"trading.execution.router.{name}", 30.0)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """End sessions that threads of the tests have left open: PostgreSQL drops no database in use."""
    from django.db import connection

    yield
    if connection.vendor == "postgresql":
        others = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        with django_db_blocker.unblock(), connection.cursor() as cursor:  # type: ignore[attr-defined]  # its plugin's
            cursor.execute(others)


@pytest.fixture(scope="session", autouse=True)
def _emptied_quickly() -> None:
    """After a test with real transactions."""
    from django.test import TransactionTestCase

    from tests import emptying

    TransactionTestCase._fixture_teardown = emptying.empty  # type: ignore[attr-defined]


@pytest.fixture
def past_the_guards(request: pytest.FixtureRequest) -> Iterator[None]:
    """For a test that breaks the books on purpose: the database's own guards are away meanwhile."""
    request.getfixturevalue("transactional_db" if _is_transactional(request) else "db")
    from django.db import connection

    from kalshi_site import guards

    guards.remove(connection)
    yield
    guards.install(connection)


def _is_transactional(request: pytest.FixtureRequest) -> bool:
    marker = request.node.get_closest_marker("django_db")
    return marker is not None and bool(marker.kwargs.get("transaction"))
