"""Which code a process runs, in twelve characters: two processes with different ids run different code."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_ROOMS: Final = ("kalshi_site", "trading", "approvals", "portfolio", "templates")
_KINDS: Final = frozenset({".py", ".html", ".toml", ".lock", ".md"})


@cache
def build_id() -> str:
    """A hash of our source as it stood when this process first asked. Ask at start: files may change under it."""
    files = [path for room in _ROOMS for path in (_ROOT / room).rglob("*") if path.suffix in _KINDS]
    digest = hashlib.sha256()
    for path in [*sorted(files), _ROOT / "requirements.lock"]:
        if path.is_file():
            digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
