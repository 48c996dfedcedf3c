"""A database of its own for each run: a copy of one that was migrated and filled once, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connection, connections

_ASIDE = ("-wal", "-shm", "")


@dataclass
class Books:
    """Copies of the test's database as it stood at `kept`. Nobody may be connected to it while copies are made."""

    home: Path
    suite: int = field(default_factory=os.getpid)  # forks ask for copies too
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def fresh(self) -> str:
        """Make one more copy; returns its name, for `opened`."""
        number = next(self._numbers)
        if connection.vendor == "sqlite":
            name = str(self.home / f"run-{os.getpid()}-{number}.sqlite3")
            shutil.copyfile(self._template, name)
            return name
        name = f"run_{os.getpid()}_{number}"
        self._server(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"')
        return name

    @contextlib.contextmanager
    def copied(self) -> Iterator[str]:
        """A copy for the block; its name, for `opened`."""
        name = self.fresh()
        try:
            yield name
        finally:
            connections.close_all()
            self.drop(name)

    def drop(self, name: str) -> None:
        """Remove a copy that nobody uses any more."""
        if connection.vendor == "sqlite":
            for suffix in _ASIDE:
                Path(name + suffix).unlink(missing_ok=True)
        else:
            self._server(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def keep(self) -> None:
        """Take the test's database, as it is now, for the original of all copies."""
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("VACUUM INTO %s", [self._template])
            connections.close_all()
            return
        used = str(connection.settings_dict["NAME"])
        connections.close_all()
        self._server(f'CREATE DATABASE "{self._template}" TEMPLATE "{used}"')

    def end(self) -> None:
        """Remove the original."""
        self.drop(self._template)

    @property
    def _template(self) -> str:
        name = f"original_{self.suite}"
        return str(self.home / f"{name}.sqlite3") if connection.vendor == "sqlite" else name

    @staticmethod
    def _server(statement: str) -> None:
        """Tell PostgreSQL something that no transaction may hold."""
        import psycopg

        database = connection.settings_dict
        address: dict[str, Any] = {
            "host": database["HOST"],
            "port": database["PORT"] or 5432,
            "user": database["USER"],
            "password": database["PASSWORD"],
        }
        with psycopg.connect(dbname="postgres", autocommit=True, **address) as server:
            server.execute(statement)  # type: ignore[arg-type]  # names of our own making


@contextlib.contextmanager
def kept(home: Path) -> Iterator[Books]:
    """The books of a suite, from the test's database as it is at this moment."""
    books = Books(home)
    books.keep()
    try:
        yield books
    finally:
        books.end()


def opened(name: str) -> None:
    """Let this process, forked and without a connection, work on a copy from now on."""
    connections.close_all()
    connections["default"].settings_dict["NAME"] = name
