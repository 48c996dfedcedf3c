"""The database before the processes start: reachable, in WAL mode, copied, migrated."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from kalshi_site import guards
from kalshi_site.env import ConfigError, Problem
from kalshi_site.management.supervisor.layout import Layout

KEPT_BACKUPS = 10


def bring_up_to_date(layout: Layout) -> str:
    """Back up when an existing database has migrations before it, migrate, check the mode; returns one line.

    Raises ConfigError (E801 unreachable, E805 not in WAL mode).
    """
    try:
        pending, applied = _migrations()
    except DatabaseError as error:
        raise ConfigError(
            Problem("E801", f"The database does not answer: {error}", "Check DATABASE_URL.")
        ) from error
    copied = _back_up(layout) if pending and applied else ""
    if pending:
        call_command("migrate", interactive=False, verbosity=0)
    guards.install(connection)  # an upgrade without a migration may have brought others
    _private_files()
    faults = run_checks(tags=[Tags.database], databases=["default"])
    connection.close()
    if faults:
        raise ConfigError(*(Problem("E805", str(fault.msg), str(fault.hint or "")) for fault in faults))
    done = f"{pending} migrations" if pending else "up to date"
    return ", ".join(part for part in (_describe(), done, copied) if part)


def _migrations() -> tuple[int, int]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return len(plan), len(executor.loader.applied_migrations)


def _describe() -> str:
    if connection.vendor == "postgresql":
        version: tuple[int, ...] = connection.get_database_version()
        return f"PostgreSQL {version[0]}"
    import sqlite3

    return f"SQLite {sqlite3.sqlite_version} in WAL mode"


def _back_up(layout: Layout) -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    if connection.vendor == "sqlite":
        target = layout.backups / f"db-{stamp}.sqlite3"
        back_up_sqlite(target)
    else:
        target = layout.backups / f"db-{stamp}.dump"
        if not _dump_postgresql(target):
            return "no backup: pg_dump is missing or failed, see var/log/backup.log"
    _forget_old(layout.backups)
    return f"backup {target.name}"


def back_up_sqlite(target: Path) -> None:
    """Copy the live database by SQLite's own online backup, which sees one consistent state."""
    import sqlite3

    target.touch(mode=0o600)
    connection.ensure_connection()
    copy = sqlite3.connect(target)
    try:
        raw: Any = connection.connection
        raw.backup(copy)
    finally:
        copy.close()


def _dump_postgresql(target: Path) -> bool:
    program = shutil.which("pg_dump")
    if program is None:
        return False
    settings = connection.settings_dict
    options = {"host": "HOST", "port": "PORT", "username": "USER"}
    named = [f"--{option}={settings[key]}" for option, key in options.items() if settings.get(key)]
    password = {"PGPASSWORD": str(settings["PASSWORD"])} if settings.get("PASSWORD") else {}
    target.touch(mode=0o600)
    with (target.parent.parent / "log" / "backup.log").open("ab") as log:
        done = subprocess.run(
            [program, "--format=custom", f"--file={target}", *named, str(settings["NAME"])],
            env={"PATH": str(Path(program).parent), **password},
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode:
        target.unlink(missing_ok=True)
    return done.returncode == 0


def _forget_old(folder: Path) -> None:
    for old in sorted(folder.glob("db-*"))[:-KEPT_BACKUPS]:
        old.unlink()


def _private_files() -> None:
    if connection.vendor == "sqlite":
        path = Path(str(connection.settings_dict["NAME"]))
        for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            if name.exists():
                name.chmod(0o600)
