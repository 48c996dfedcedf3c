"""The lines of recorded files, as far as they can be read.

Files are read in large pieces, because a recording has millions of lines. A recorder that was killed leaves a
compressed stream without its end: what came before is read, and the loss is told.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

_CHUNK: Final = 1 << 18
_LONGEST_LINE: Final = 1 << 26  # the largest message of the exchange is 64 MiB (API.md 14)
_GZIP: Final = 31  # zlib's window bits for a stream with a gzip header and trailer


class Damaged(Exception):
    """The rest of a file cannot be read. Everything before was delivered."""


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None: ...


def read_lines(file: Path, digest: Digest | None = None) -> Iterator[bytes]:
    """The complete lines of one file without their ends. Raises Damaged where the file breaks off or breaks down.

    `digest` is fed with the file's bytes as they lie on the disk, for whoever must know later that they are the same.
    """
    try:
        with file.open("rb", buffering=0) as stream:
            pieces = _pieces(lambda: stream.read(_CHUNK), digest)
            yield from _split(_plain(pieces) if file.suffix == ".gz" else pieces)
    except (OSError, zlib.error) as error:
        raise Damaged(f"{file.name}: {error}") from error


def _pieces(read: Callable[[], bytes | None], digest: Digest | None) -> Iterator[bytes]:
    is_empty = True
    while piece := read():
        is_empty = False
        if digest is not None:
            digest.update(piece)
        yield piece
    if is_empty:
        raise zlib.error("an empty file: nothing of it reached the disk")


def _plain(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What the members of a gzip file say. Raises zlib.error for what is none or has no end."""
    member = None
    for piece in pieces:
        rest = piece
        while rest:
            member = member or zlib.decompressobj(_GZIP)
            yield member.decompress(rest)
            rest = member.unused_data
            if member.eof:
                member = None
    if member is not None:
        yield member.flush()
        raise zlib.error("the compressed stream has no end")


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Lines out of pieces. A last line without its end is told as it is: whether it is whole, its reader finds out."""
    begun = b""
    for piece in pieces:
        *lines, begun = (begun + piece).split(b"\n")
        yield from lines
        if len(begun) > _LONGEST_LINE:
            raise zlib.error("a line without end")
    if begun:
        yield begun
