"""Twenty looks at this machine and this clone, each with a line that says what to do."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import urllib3
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from kalshi_site import SQLITE_BUILD
from kalshi_site.checks import SAFE_SQLITE
from kalshi_site.env import ConfigError, Settings
from kalshi_site.management.supervisor.layout import Layout, UnsafeDirectory
from kalshi_site.management.supervisor.ports import is_free
from kalshi_site.management.supervisor.redis_servers import choose, refuse_unreachable
from kalshi_site.management.supervisor.state import running_state

Verdict = Literal["ok", "warning", "failure"]
ROOM_NEEDED = 500_000_000
LARGEST_SKEW = 5.0
_NOT_IN_GIT = re.compile(r"(^|/)\.env(\.|$)|\.(pem|key|sqlite3|db|rdb)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One result: what was looked at, how it stands, what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything. A look that breaks is a failure of its own and does not hide the others."""
    return [finding for look in LOOKS for finding in _safely(look)]


def _safely(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    name = look.__name__.replace("_", " ").strip()
    try:
        return list(look())
    except Exception as error:  # whatever is wrong with this machine is the doctor's to report, not to die of
        return [Finding(name, "failure", f"{type(error).__name__}: {error}", "Report this line.")]


def _ok(name: str, detail: str) -> Finding:
    return Finding(name, "ok", detail)


def _when(good: bool, name: str, detail: str, fix: str, verdict: Verdict = "failure") -> Finding:
    return _ok(name, detail) if good else Finding(name, verdict, detail, fix)


def _python() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield _when(fits, "Python", platform.python_version(), "Install Python 3.11 and run: make setup")
    own = Path(sys.prefix).resolve() == (settings.BASE_DIR / ".venv").resolve()
    yield _when(own, "Environment", sys.prefix, "Run commands through .venv/bin/python.", "warning")


def _packages() -> Iterator[Finding]:
    lock = (settings.BASE_DIR / "requirements.lock").read_text(encoding="utf-8")
    wanted = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)[^;\n]*$", lock, re.MULTILINE)
    wrong = [f"{name} {want}" for name, want in wanted if _installed(name) != want]
    detail = f"{len(wanted)} as locked" if not wrong else f"differ from the lock: {', '.join(wrong[:5])}"
    yield _when(not wrong, "Packages", detail, "Run: make setup")
    htmx = settings.BASE_DIR / "node_modules" / "htmx.org" / "dist" / "htmx.min.js"
    yield _when(htmx.is_file(), "Browser libraries", "htmx in node_modules", "Run: make setup")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _settings() -> Iterator[Finding]:
    for problem in settings.CONFIG_PROBLEMS:
        yield Finding("Settings", "failure", f"{problem.code} {problem.text}", problem.hint)
    if not settings.CONFIG_PROBLEMS:
        yield _ok("Settings", f"profile {settings.KALSHI_PROFILE}, live trading not offered")
    dotenv = settings.DOTENV
    if dotenv is not None and dotenv.exists():
        private = not dotenv.stat().st_mode & 0o077
        yield _when(private, ".env", "mode 0600", f"Run: chmod 600 '{dotenv}'", "warning")


def _files() -> Iterator[Finding]:
    layout = Layout(settings.VAR_DIR)
    try:
        layout.make()
        yield _ok("State directory", f"{layout.var} (0700)")
        yield _ok("Socket directory", str(layout.sockets()))
    except (UnsafeDirectory, OSError) as error:
        yield Finding("State directory", "failure", str(error), "Correct owner and mode, or set VAR_DIR.")
        return
    room = shutil.disk_usage(layout.var).free
    yield _when(room >= ROOM_NEEDED, "Disk", f"{room / 1e9:.1f} GB free", "Make room: 0.5 GB is the least.")


def _secrets_in_git() -> Iterator[Finding]:
    git = shutil.which("git")
    if git is None or not (settings.BASE_DIR / ".git").exists():
        yield _ok("Secrets in git", "not a git clone")
        return
    listed = subprocess.run(
        [git, "ls-files"], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    bad = [
        name for name in listed.stdout.splitlines() if _NOT_IN_GIT.search(name) and name != ".env.template"
    ]
    detail = f"tracked: {', '.join(bad[:3])}" if bad else "none tracked"
    yield _when(not bad, "Secrets in git", detail, "git rm --cached them and replace the keys.")


def _database() -> Iterator[Finding]:
    import sqlite3

    if connection.vendor == "sqlite":
        new = sqlite3.sqlite_version_info >= SAFE_SQLITE
        detail = f"{sqlite3.sqlite_version} ({SQLITE_BUILD})"
        yield _when(new, "SQLite build", detail, "Use Linux on x86-64 or PostgreSQL.", "warning")
        if not Path(str(connection.settings_dict["NAME"])).exists():
            yield Finding("Database", "warning", "not made yet", "Run: make run")
            return
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        yield Finding("Database", "failure", f"E801 {error}", "Check DATABASE_URL.")
        return
    faults = run_checks(tags=[Tags.database], databases=["default"])
    detail = "; ".join(str(fault.msg) for fault in faults) or f"{connection.vendor} answers, mode as wanted"
    yield _when(not faults, "Database", detail, "Put it on a local disk.")
    executor = MigrationExecutor(connection)
    pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    yield _when(
        not pending, "Migrations", f"{pending} pending", "Run: make run (it copies the database first)"
    )
    yield from _integrity()


def _integrity() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(1)")
        answer = str(cursor.fetchone()[0])
    yield _when(
        answer == "ok", "Integrity", f"quick_check: {answer}", "Restore the newest file of var/backups/."
    )


def _redis() -> Iterator[Finding]:
    layout = Layout(settings.VAR_DIR)
    for server in choose(Settings(dotenv=settings.DOTENV), layout):
        name = f"Redis {server.name.removeprefix('redis-')}"
        try:
            if not server.argv:
                refuse_unreachable(server)
        except ConfigError as error:
            yield Finding(name, "failure", str(error), "Start it, or remove the setting.")
            continue
        fix = "Install redis 6.2 or newer."
        yield _when(not server.degraded, name, server.detail, fix, "warning")


def _desk() -> Iterator[Finding]:
    state = running_state(Layout(settings.VAR_DIR))
    if state is None:
        free = is_free(settings.PORT)
        fix = "Nothing to do: the next free one is taken."
        yield _when(free, "Port", f"{settings.PORT} is {'free' if free else 'busy'}", fix, "warning")
        yield _ok("Processes", "the desk is not running")
        return
    yield _ok("Port", state.url)
    down = [name for name, child in state.processes.items() if child.state != "ready"]
    detail = f"not ready: {', '.join(down)}" if down else f"{len(state.processes)} ready"
    yield _when(not down, "Processes", detail, "Run: make logs")


def _exchange() -> Iterator[Finding]:
    if not settings.KALSHI_REST_URL:
        yield _ok("Exchange", "the paper exchange starts with the desk")
        return
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=3, read=5), retries=False)
    try:
        asked = time.time()
        answer = pool.request("GET", f"{settings.KALSHI_REST_URL}/exchange/status")
    except urllib3.exceptions.HTTPError as error:
        fix = "Check the network; for paper run: make run"
        yield Finding("Exchange", "failure", f"E601 unreachable ({type(error).__name__})", fix)
        return
    yield _when(
        answer.status == 200,
        "Exchange",
        f"status {answer.status}",
        "See its status page; for paper: make logs",
    )
    if "Date" in answer.headers:
        skew = parsedate_to_datetime(answer.headers["Date"]).timestamp() - asked
        fix = "Set the clock (NTP): signatures carry the time."
        yield _when(abs(skew) < LARGEST_SKEW, "Clock", f"{skew:+.0f} s from the exchange", fix)


def _tools() -> Iterator[Finding]:
    make = shutil.which("make")
    yield _when(bool(make), "make", make or "missing", "Install make.", "warning")
    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), "")
    fix = "Needed by make e2e only: apt-get install chromium"
    yield _when(bool(browser), "Browser", browser or "no Chromium", fix, "warning")


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    *(_python, _packages, _settings, _files, _secrets_in_git),
    *(_database, _redis, _desk, _exchange, _tools),
)
