"""The columns of a market, kept in a file that is mapped into memory.

    MAGIC · length of the header · header (JSON) · columns (int64 of this machine) · CRC-32 of all that

The header names the bytes that the columns were made of: size and SHA-256 of every source file, and the recorder's
notes for this market. A cache that does not name exactly these, or whose sum is wrong, is made anew and never believed.
A folder that cannot be written costs the cache, not the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import sys
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from trading.recordings.columnize import Columnizer
from trading.recordings.columns import COLUMNS, Column, Columns
from trading.recordings.files import market_files
from trading.recordings.notes import Notes, encode, read_notes
from trading.recordings.reader import read_market

VERSION: Final = 1
MAGIC: Final = b"KRECCOL\n"
CACHE: Final = ".cache"
_WORD: Final = 8
_ANY_WRITE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_MOST_TRIES: Final = 3


class _Source(msgspec.Struct, frozen=True):
    name: str
    size: int
    sha256: str


class _Header(msgspec.Struct, frozen=True):
    version: int
    byteorder: str
    ticker: str
    sources: tuple[_Source, ...]
    notes: str
    lengths: dict[str, int]
    reasons: dict[int, str]

    def is_of(self, other: _Header) -> bool:
        mine, theirs = (
            (header.version, header.byteorder, header.ticker, header.sources, header.notes)
            for header in (self, other)
        )
        return mine == theirs


_decode_header: Final = msgspec.json.Decoder(_Header).decode


class SourceChanged(Exception):
    """The recording went on changing while it was read; try again when the recorder is done with this market."""

    code = "E873"


def cache_folder(root: Path, otherwise: Path) -> Path:
    """Where the caches of a recording lie: inside it, or below `otherwise` when it is not ours to write in."""
    inside = root / CACHE
    target = inside if inside.is_dir() else root
    # The superuser may write anywhere; a folder without a write bit is meant to be left alone all the same.
    if target.is_dir() and target.stat().st_mode & _ANY_WRITE and os.access(target, os.W_OK | os.X_OK):
        return inside
    return otherwise / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


@contextlib.contextmanager
def open_columns(root: Path, ticker: str, cache: Path) -> Iterator[Columns]:
    """A market's columns, from the cache in the folder `cache` or made anew. Raises NoRecordingError, SourceChanged."""
    notes = read_notes(root)
    wanted = _describe(root, ticker, notes)
    file = cache / f"{ticker}.columns"
    with contextlib.ExitStack() as open_things:
        kept = _open_cache(file, wanted, open_things)
        if kept is None:
            content = _make(root, ticker, notes, wanted)
            with contextlib.suppress(OSError):
                _write(file, content)
            kept = _view(memoryview(content), open_things)
            assert kept is not None
        yield Columns(ticker, kept[1], kept[0].reasons)


def _describe(root: Path, ticker: str, notes: Notes) -> _Header:
    sources = []
    for file in market_files(root, ticker):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            sources.append(_Source(file.name, stream.tell(), digest))
    told = b"".join(map(encode, (*notes.breaks(ticker).notes, *notes.scale().starts)))
    return _Header(VERSION, sys.byteorder, ticker, tuple(sources), hashlib.sha256(told).hexdigest(), {}, {})


def _make(root: Path, ticker: str, notes: Notes, wanted: _Header) -> bytes:
    """The cache file's content. The recorder may be writing: what was described must be what was read."""
    for _ in range(_MOST_TRIES):
        made = Columnizer(ticker)
        made.take(read_market(root, ticker, notes=notes))
        made.finish()
        if _describe(root, ticker, notes) == wanted:
            lengths = {name: len(column) for name, column in made.columns.items()}
            return _pack(msgspec.structs.replace(wanted, lengths=lengths, reasons=made.reasons), made.columns)
        wanted = _describe(root, ticker, notes)
    raise SourceChanged(f"the recording of {ticker} changes faster than it can be read")


def _pack(header: _Header, columns: dict[str, array[int]]) -> bytes:
    head = msgspec.json.encode(header)
    head += b" " * (-len(head) % _WORD)
    parts = [MAGIC, len(head).to_bytes(_WORD, "little"), head]
    body = b"".join([*parts, *(columns[name].tobytes() for name in COLUMNS)])
    return body + zlib.crc32(body).to_bytes(_WORD, "little")


def _write(file: Path, content: bytes) -> None:
    """The whole file or none of it, whoever else writes it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _open_cache(
    file: Path, wanted: _Header, open_things: contextlib.ExitStack
) -> tuple[_Header, dict[str, Column]] | None:
    try:
        with file.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    with contextlib.ExitStack() as mine:
        mine.callback(mapped.close)
        found = _view(memoryview(mapped), mine)
        if found is None or not found[0].is_of(wanted):
            return None
        open_things.push(mine.pop_all())
        return found


def _view(content: memoryview, open_things: contextlib.ExitStack) -> tuple[_Header, dict[str, Column]] | None:
    """Header and columns of a cache file's content; None when it is torn, foreign or of another make."""
    open_things.callback(content.release)
    end, start = len(content) - _WORD, 2 * _WORD
    if end < start or bytes(content[:_WORD]) != MAGIC:
        return None
    if zlib.crc32(content[:end]) != int.from_bytes(content[end:], "little"):
        return None
    at = start + int.from_bytes(content[_WORD:start], "little")
    try:
        header = _decode_header(content[start:at])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    columns: dict[str, Column] = {}
    for name in COLUMNS:
        size = header.lengths.get(name, -1) * _WORD
        if size < 0 or at + size > end:
            return None
        columns[name] = content[at : at + size].cast("q")
        open_things.callback(columns[name].release)
        at += size
    return (header, columns) if at == end else None
