"""Some twenty looks at this machine and this clone, each with a line that says what to do."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from django.conf import settings
from django.core.checks import Tags, run_checks
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Max, Sum

from kalshi_site import SQLITE_BUILD
from kalshi_site.checks import SAFE_SQLITE
from kalshi_site.env import ConfigError, Settings
from kalshi_site.management.supervisor.connection import Connection, KeySetting, reach
from kalshi_site.management.supervisor.findings import Finding, Look, all_of, ok, when
from kalshi_site.management.supervisor.layout import Layout, UnsafeDirectory
from kalshi_site.management.supervisor.plan import READ, TRADE, paper_keys
from kalshi_site.management.supervisor.ports import is_free
from kalshi_site.management.supervisor.redis_servers import choose, refuse_unreachable
from kalshi_site.management.supervisor.state import running_state
from trading.exchange.drift import CODE as CONTRACT_DRIFT
from trading.models import DriftNote, Listener

ROOM_NEEDED = 500_000_000
_NOT_IN_GIT = re.compile(r"(^|/)\.env(\.|$)|\.(pem|key|sqlite3|db|rdb)$")


def examine() -> list[Finding]:
    """Look at everything. A look that breaks is a failure of its own and does not hide the others."""
    return all_of(LOOKS)


def examine_exchange() -> list[Finding]:
    """Look at the exchange of this profile, through its own doors and with our own keys."""
    keys = dict(_keys())
    connection = Connection(
        profile=settings.KALSHI_PROFILE,
        rest_url=settings.KALSHI_REST_URL,
        ws_url=settings.KALSHI_WS_URL,
        read=_key_setting("read", keys),
        trade=_key_setting("trade", keys),
        problems=tuple(settings.CONFIG_PROBLEMS),
        ca_file=settings.KALSHI_CA_FILE,
    )
    if not connection.rest_url and not connection.problems:
        return [Finding("Address", "failure", "the paper exchange is not running", "Run: make run")]
    return all_of([connection.examine])


def _keys() -> Mapping[str, str]:
    """The keys of the settings, or those that the paper exchange of this machine made for the desk."""
    if settings.KALSHI_PROFILE == "paper" and settings.KALSHI_READ_KEY_FILE is None:
        return paper_keys(Layout(settings.VAR_DIR).paper)
    own = Settings(dotenv=settings.DOTENV)
    return {name: own.text(name) for name in READ + TRADE}


def _key_setting(kind: str, keys: Mapping[str, str]) -> KeySetting:
    key_file = keys.get(f"KALSHI_{kind.upper()}_KEY_FILE")
    path = Path(key_file).expanduser() if key_file else None
    return KeySetting(kind, keys.get(f"KALSHI_{kind.upper()}_KEY_ID", ""), path)


def _python() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield when(fits, "Python", platform.python_version(), "Install Python 3.11 and run: make setup")
    own = Path(sys.prefix).resolve() == (settings.BASE_DIR / ".venv").resolve()
    yield when(own, "Environment", sys.prefix, "Run commands through .venv/bin/python.", "warning")


def _packages() -> Iterator[Finding]:
    lock = (settings.BASE_DIR / "requirements.lock").read_text(encoding="utf-8")
    wanted = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)[^;\n]*$", lock, re.MULTILINE)
    wrong = [f"{name} {want}" for name, want in wanted if _installed(name) != want]
    detail = f"{len(wanted)} as locked" if not wrong else f"differ from the lock: {', '.join(wrong[:5])}"
    yield when(not wrong, "Packages", detail, "Run: make setup")
    htmx = settings.BASE_DIR / "node_modules" / "htmx.org" / "dist" / "htmx.min.js"
    yield when(htmx.is_file(), "Browser libraries", "htmx in node_modules", "Run: make setup")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _settings() -> Iterator[Finding]:
    for problem in settings.CONFIG_PROBLEMS:
        yield Finding("Settings", "failure", f"{problem.code} {problem.text}", problem.hint)
    if not settings.CONFIG_PROBLEMS:
        yield ok("Settings", f"profile {settings.KALSHI_PROFILE}, live trading not offered")
    dotenv = settings.DOTENV
    if dotenv is not None and dotenv.exists():
        private = not dotenv.stat().st_mode & 0o077
        yield when(private, ".env", "mode 0600", f"Run: chmod 600 '{dotenv}'", "warning")


def _files() -> Iterator[Finding]:
    layout = Layout(settings.VAR_DIR)
    try:
        layout.make()
        yield ok("State directory", f"{layout.var} (0700)")
        yield ok("Socket directory", str(layout.sockets()))
    except (UnsafeDirectory, OSError) as error:
        yield Finding("State directory", "failure", str(error), "Correct owner and mode, or set VAR_DIR.")
        return
    room = shutil.disk_usage(layout.var).free
    yield when(room >= ROOM_NEEDED, "Disk", f"{room / 1e9:.1f} GB free", "Make room: 0.5 GB is the least.")


def _secrets_in_git() -> Iterator[Finding]:
    git = shutil.which("git")
    if git is None or not (settings.BASE_DIR / ".git").exists():
        yield ok("Secrets in git", "not a git clone")
        return
    listed = subprocess.run(
        [git, "ls-files"], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    bad = [
        name for name in listed.stdout.splitlines() if _NOT_IN_GIT.search(name) and name != ".env.template"
    ]
    detail = f"tracked: {', '.join(bad[:3])}" if bad else "none tracked"
    yield when(not bad, "Secrets in git", detail, "git rm --cached them and replace the keys.")


def _database() -> Iterator[Finding]:
    import sqlite3

    if connection.vendor == "sqlite":
        new = sqlite3.sqlite_version_info >= SAFE_SQLITE
        detail = f"{sqlite3.sqlite_version} ({SQLITE_BUILD})"
        yield when(new, "SQLite build", detail, "Use Linux on x86-64 or PostgreSQL.", "warning")
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
    yield when(not faults, "Database", detail, "Put it on a local disk.")
    executor = MigrationExecutor(connection)
    pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    yield when(
        not pending, "Migrations", f"{pending} pending", "Run: make run (it copies the database first)"
    )
    yield from _integrity()


def _integrity() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(1)")
        answer = str(cursor.fetchone()[0])
    yield when(
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
        yield when(not server.degraded, name, server.detail, fix, "warning")


def _desk() -> Iterator[Finding]:
    state = running_state(Layout(settings.VAR_DIR))
    if state is None:
        free = is_free(settings.PORT)
        fix = "Nothing to do: the next free one is taken."
        yield when(free, "Port", f"{settings.PORT} is {'free' if free else 'busy'}", fix, "warning")
        yield ok("Processes", "the desk is not running")
        return
    yield ok("Port", state.url)
    down = [name for name, child in state.processes.items() if child.state != "ready"]
    detail = f"not ready: {', '.join(down)}" if down else f"{len(state.processes)} ready"
    yield when(not down, "Processes", detail, "Run: make logs")


def _exchange() -> Iterator[Finding]:
    if not settings.KALSHI_REST_URL:
        yield ok("Exchange", "the paper exchange starts with the desk")
        return
    yield from reach(settings.KALSHI_REST_URL, settings.KALSHI_PROFILE)


def _contract() -> Iterator[Finding]:
    name = str(connection.settings_dict["NAME"])
    made = connection.vendor != "sqlite" or Path(name).exists()
    if not made or DriftNote._meta.db_table not in connection.introspection.table_names():
        return  # the looks at the database say so
    venue = settings.KALSHI_PROFILE
    standing, alarming = DriftNote.objects.standing(venue), DriftNote.objects.alarming(venue)
    heard = Listener.objects.filter(venue=venue).aggregate(answers=Sum("answers"), last=Max("last_at"))
    if first := standing.first():
        detail = (
            f"{CONTRACT_DRIFT} {standing.count()} changes, {alarming.count()} touch money; first: {first}"
        )
        fix = "Look at /health; docs/how-to/when-the-exchange-changes.md says what to do."
        yield Finding("Contract", "failure" if alarming else "warning", detail, fix)
    elif heard["last"] is None:
        yield ok("Contract", "nothing heard of the exchange yet")
    else:
        yield ok(
            "Contract", f"as agreed, {heard['answers']} answers checked, last {heard['last']:%H:%M:%S} UTC"
        )


def _tools() -> Iterator[Finding]:
    make = shutil.which("make")
    yield when(bool(make), "make", make or "missing", "Install make.", "warning")
    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), "")
    fix = "Needed by make e2e only: apt-get install chromium"
    yield when(bool(browser), "Browser", browser or "no Chromium", fix, "warning")


LOOKS: tuple[Look, ...] = (
    *(_python, _packages, _settings, _files, _secrets_in_git),
    *(_database, _redis, _desk, _exchange, _contract, _tools),
)
