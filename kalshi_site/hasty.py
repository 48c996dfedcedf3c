"""A commit that does not wait for the disk: for rows that may be gone after a power cut, and for nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from django.db import connection, transaction

from kalshi_site.prepared import Statement

_NORMAL: Final = Statement("PRAGMA synchronous = NORMAL")
_FULL: Final = Statement("PRAGMA synchronous = FULL")


@contextlib.contextmanager
def hasty() -> Iterator[None]:
    """One transaction whose commit others see at once, and which a power cut may undo until the next one is on disk.

    A process that dies, however it does, undoes nothing. Inside another transaction that one's commit counts.
    """
    if connection.in_atomic_block:
        with transaction.atomic():
            yield
    elif connection.vendor == "sqlite":
        with _unsynced(), transaction.atomic():
            yield
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit TO off")
            yield


@contextlib.contextmanager
def _unsynced() -> Iterator[None]:
    """In WAL mode NORMAL writes a commit without a sync; the next FULL one syncs it with its own."""
    _NORMAL.run()
    try:
        yield
    finally:
        _FULL.run()
