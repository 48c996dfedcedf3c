"""Facts that the database itself keeps: triggers against every way of writing, `update` and plain SQL included.

A model lists its guards beside its constraints (`guards: ClassVar`). They are taken away before migrations are applied
and made anew after every `migrate` (docs/adr/0009): SQLite's migrations rebuild tables, which would lose the triggers
without a word. A guard's name ends in a digest of its text, so that one of an older release is seen and replaced.
Conditions are written in the SQL that SQLite and PostgreSQL share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.apps import apps
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

PREFIX: Final = "guard_"
Event = Literal["INSERT", "UPDATE", "DELETE"]


@dataclass(frozen=True, slots=True)
class Guard:
    """An event on a row is refused when `forbidden` (SQL over OLD and NEW) holds. `says` is the refusal's text.

    `name` is unique within its table.
    """

    name: str
    event: Event
    forbidden: str
    says: str


class GuardsMissing(Exception):
    """The database does not keep what it must keep: its triggers are gone, or of another release."""

    code = "E806"

    def __init__(self, names: list[str]) -> None:
        few = ", ".join(names[:3])
        super().__init__(f"the database lacks {len(names)} guards ({few}): run manage.py migrate")
        self.names = names


def kept() -> tuple[Guard, ...]:
    """Rows of facts: never changed, never deleted."""
    return (unchanged(), never_deleted())


def unchanged() -> Guard:
    """Rows that stay as they were written."""
    return Guard("unchanged", "UPDATE", "TRUE", "a fact is never changed")


def never_deleted() -> Guard:
    """Rows that stay."""
    return Guard("stays", "DELETE", "TRUE", "this row is never deleted")


def frozen(*columns: str, says: str) -> Guard:
    """Columns that never change after the insert."""
    changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)
    return Guard("frozen", "UPDATE", changed, says)


def set_once(column: str) -> Guard:
    """A column that is empty first and never changes once it is set."""
    forbidden = f"OLD.{column} IS NOT NULL AND OLD.{column} IS DISTINCT FROM NEW.{column}"
    return Guard(f"{column}_once", "UPDATE", forbidden, f"{column} is set once")


def legal_moves(column: str, table: Mapping[Any, Iterable[Any]]) -> Guard:
    """A state that moves only as the table of moves allows."""
    legal = [
        f"(OLD.{column} = '{before}' AND NEW.{column} IN ({_quoted(after)}))"
        for before, after in sorted(table.items())
        if after
    ]
    moved = f"OLD.{column} <> NEW.{column}"
    return Guard("moves", "UPDATE", f"{moved} AND NOT ({' OR '.join(legal)})", f"no such move of {column}")


def _quoted(states: Iterable[Any]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(str(state) for state in states))


# -- in the database ---------------------------------------------------------------------------------


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """The guards that this code wants and the database does not have."""
    return sorted(_wanted(connection).keys() - _installed(connection).keys())


def require(connection: BaseDatabaseWrapper) -> None:
    """Raise GuardsMissing unless every guard stands."""
    if lacks := missing(connection):
        raise GuardsMissing(lacks)


def install(connection: BaseDatabaseWrapper) -> None:
    """Make what is missing and take away what this code does not want, all or nothing. Safe to repeat."""
    wanted, installed = _wanted(connection), _installed(connection)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        for name in installed.keys() - wanted.keys():
            _drop(connection, cursor, name, installed[name])
        for name in wanted.keys() - installed.keys():
            for statement in wanted[name]:
                cursor.execute(statement)


def remove(connection: BaseDatabaseWrapper) -> None:
    """Take all guards away: before migrations rebuild tables, and before a database is emptied."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        for name, table in _installed(connection).items():
            _drop(connection, cursor, name, table)


def _wanted(connection: BaseDatabaseWrapper) -> dict[str, list[str]]:
    tables = set(connection.introspection.table_names())
    return {
        name: _statements(connection.vendor, name, model._meta.db_table, guard)
        for model, guard in _guards()
        if model._meta.db_table in tables
        for name in [_name(model._meta.db_table, guard)]
    }


def _guards() -> Iterator[tuple[type[Model], Guard]]:
    for model in apps.get_models():
        for guard in getattr(model, "guards", ()):
            yield model, guard


def _name(table: str, guard: Guard) -> str:
    text = f"{guard.event} {guard.forbidden} {guard.says}"
    return f"{PREFIX}{table}_{guard.name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _statements(vendor: str, name: str, table: str, guard: Guard) -> list[str]:
    message = f"{table}: {guard.says}".replace("'", "''")
    on = f'"{name}" BEFORE {guard.event} ON "{table}" FOR EACH ROW'
    if vendor == "sqlite":
        return [f"CREATE TRIGGER {on} WHEN {guard.forbidden} BEGIN SELECT RAISE(ABORT, '{message}'); END"]
    row = "OLD" if guard.event == "DELETE" else "NEW"
    refusal = f"RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'"
    body = f"BEGIN IF {guard.forbidden} THEN {refusal}; END IF; RETURN {row}; END"
    return [
        f'CREATE OR REPLACE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS $guard$ {body} $guard$',
        f'CREATE TRIGGER {on} EXECUTE FUNCTION "{name}"()',
    ]


def _installed(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """The names of our triggers, and their tables."""
    question = (
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
        if connection.vendor == "sqlite"
        else "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
    )
    with connection.cursor() as cursor:
        cursor.execute(question)
        return {name: table for name, table in cursor.fetchall() if name.startswith(PREFIX)}


def _drop(connection: BaseDatabaseWrapper, cursor: Any, name: str, table: str) -> None:
    if connection.vendor == "sqlite":
        cursor.execute(f'DROP TRIGGER "{name}"')
    else:
        cursor.execute(f'DROP TRIGGER "{name}" ON {table}')
        cursor.execute(f'DROP FUNCTION "{name}"()')
