"""One exchange per home: two processes on one journal would tear it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "lock"


class HomeTaken(Exception):
    """Another paper exchange works in this home."""


@contextmanager
def occupied(home: Path) -> Iterator[None]:
    """Make the home (0700) if need be and hold it. Raises HomeTaken. A kill -9 releases it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeTaken(f"another paper exchange works in {home}") from error
        yield
    finally:
        os.close(fd)
