"""How a database is emptied after a test with real transactions: only what holds rows, in one transaction.

Django's own way empties every table and makes all content types, permissions and guards anew: most of the time of a
short test. What `migrate` has made stays here, and the guards are looked after all the same.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connection, transaction
from django.test import TransactionTestCase

from kalshi_site import guards

MADE_BY_MIGRATE: Final = {"django_content_type", "auth_permission"}
_djangos_way = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]


def empty(case: Any) -> None:
    """In place of `TransactionTestCase._fixture_teardown`."""
    if connection.vendor == "postgresql" and not _may_pass_the_guards():
        _djangos_way(case)
        return
    with transaction.atomic():
        if full := _full():
            _leave_the_guards_aside()
            with connection.cursor() as cursor:
                for table in full:
                    cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")  # noqa: S608  # our own names
        guards.install(connection)  # a test may have taken some away


def _full() -> list[str]:
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    asked = [
        f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {connection.ops.quote_name(table)})"  # noqa: S608
        for table in tables
        if table not in MADE_BY_MIGRATE
    ]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(asked))
        return [row[0] for row in cursor.fetchall()]


def _leave_the_guards_aside() -> None:
    """They forbid to delete what is kept for good."""
    if connection.vendor == "sqlite":
        guards.remove(connection)
        return
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")


def _may_pass_the_guards() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        return bool(cursor.fetchone()[0])
