"""Compressed files that grow: what was flushed can be read, whatever happens to the process afterwards."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Final

from trading.recordings.files import new_part

LEVEL: Final = 2  # of gzip: a third of the time of the usual 6, for little more room
MOST_OPEN: Final = 200
_GZIP: Final = 31  # zlib's window bits for a stream with a gzip header and trailer


class PackedFile:
    """One gzip member at the end of a file. Raises OSError when the disk takes no more; then it must be left alone."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        self._is_dirty = False

    def add(self, content: bytes) -> int:
        """Append; return the bytes that reached the file, which come later than what was given."""
        self._is_dirty = True
        return self._write(self._packer.compress(content))

    def flush(self) -> int:
        """Bring everything given so far to the operating system."""
        if not self._is_dirty:
            return 0
        self._is_dirty = False
        return self._write(self._packer.flush(zlib.Z_SYNC_FLUSH))

    def finish(self) -> int:
        """End the member and bring the file to the disk."""
        try:
            size = self._write(self._packer.flush(zlib.Z_FINISH))
            os.fsync(self._descriptor)
            return size
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        os.close(self._descriptor)

    def _write(self, content: bytes) -> int:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(content)


class Shelf:
    """The files that are being written: in each folder one, that of its current day.

    Files that were there before are never touched. Of many open files the one used longest ago is finished; it goes on,
    when it must, with a further gzip member.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[str, PackedFile]] = OrderedDict()
        self._mine: dict[tuple[Path, str], Path] = {}

    def add(self, folder: Path, day: str, content: bytes) -> int:
        """Append to the folder's file of that day; return the bytes written."""
        size = 0
        current = self._open.get(folder)
        if current is not None and current[0] != day:
            size += self.finish(folder)
            current = None
        if current is None:
            current = self._open[folder] = (day, PackedFile(self._path(folder, day)))
            if len(self._open) > MOST_OPEN:
                size += self.finish(next(iter(self._open)))
        self._open.move_to_end(folder)
        return size + current[1].add(content)

    def flush(self) -> int:
        """Bring everything to the operating system."""
        return sum(file.flush() for _, file in self._open.values())

    def finish(self, folder: Path) -> int:
        """End the folder's file, if one is open."""
        current = self._open.pop(folder, None)
        return 0 if current is None else current[1].finish()

    def finish_all(self) -> int:
        return sum(self.finish(folder) for folder in list(self._open))

    def abandon(self) -> None:
        """Close all files as they are: the disk took no more."""
        for _, file in self._open.values():
            file.abandon()
        self._open.clear()

    def _path(self, folder: Path, day: str) -> Path:
        if (folder, day) not in self._mine:
            folder.mkdir(parents=True, exist_ok=True)
            self._mine[folder, day] = new_part(folder, day)
        return self._mine[folder, day]
