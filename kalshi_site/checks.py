"""System checks: what `manage.py check` refuses, each with its code of the error registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.db import connections

from kalshi_site import SQLITE_BUILD
from kalshi_site.env import ConfigError

# 3.51.3 closes the WAL-reset corruption race (RELIABILITY.md 2.1).
SAFE_SQLITE = (3, 51, 3)


def refuse_bad_configuration() -> None:
    """Raise ConfigError when the settings contradict themselves. For processes that run no system checks."""
    if settings.CONFIG_PROBLEMS:
        raise ConfigError(*settings.CONFIG_PROBLEMS)


@register(Tags.security)
def check_configuration(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every fault of the configuration that `env.Settings.problems` finds."""
    found: list[CheckMessage] = [
        Error(problem.text, hint=problem.hint, id=f"kalshi.{problem.code}")
        for problem in settings.CONFIG_PROBLEMS
    ]
    if settings.KALSHI_PROFILE == "paper" and not settings.PAPER_TRADING:
        text = "PAPER_TRADING=false alone changes nothing: the profile is still paper."
        found.append(Caution(text, hint="Remove it, or see SECURITY.md.", id="kalshi.W953"))
    return found


@register(Tags.compatibility)
def check_sqlite_build(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warn about a SQLite without the WAL-reset mend; outside the paper profile refuse it (E805)."""
    if not settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return []
    import sqlite3

    if sqlite3.sqlite_version_info >= SAFE_SQLITE:
        return []
    text = f"SQLite {sqlite3.sqlite_version} ({SQLITE_BUILD} module) is older than 3.51.3."
    hint = "Install the pysqlite3 wheel, or set DATABASE_URL to PostgreSQL."
    if settings.KALSHI_PROFILE == "paper":
        return [Caution(text, hint=hint, id="kalshi.W805")]
    return [Error(text, hint=hint, id="kalshi.E805")]


@register(Tags.database)
def check_database_mode(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """SQLite must really be in WAL mode with synchronous=FULL and foreign keys (E805)."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor == "sqlite":
            found += _sqlite_modes(connection)
    return found


def _sqlite_modes(connection: Any) -> list[CheckMessage]:
    wanted = {"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"}
    found: list[CheckMessage] = []
    with connection.cursor() as cursor:
        for pragma, value in wanted.items():
            cursor.execute(f"PRAGMA {pragma}")
            actual = str(cursor.fetchone()[0]).lower()
            if actual != value:
                text = f"SQLite has {pragma}={actual}, not {value}."
                hint = "Move the file to a local disk that supports WAL; run make doctor."
                found.append(Error(text, hint=hint, id="kalshi.E805"))
    return found
