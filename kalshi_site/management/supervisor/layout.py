"""Where the desk keeps its run-time state. Everything is private to the user who started it."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

# sockaddr_un has room for 107 bytes and the closing zero.
LONGEST_SOCKET = 107


class UnsafeDirectory(Exception):
    """A directory that must be ours alone belongs to somebody else or is open to others."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below `var/`, and the short directory for sockets outside it."""

    var: Path

    @property
    def run(self) -> Path:
        """Pids, readiness, state: meaningful while the desk runs."""
        return self.var / "run"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.var / "log"

    @property
    def backups(self) -> Path:
        """Copies of the database made before a migration."""
        return self.var / "backups"

    @property
    def paper(self) -> Path:
        """The paper exchange's home: accounts, keys, its own state."""
        return self.var / "paper"

    @property
    def secret_key(self) -> Path:
        """Django's secret, made once for each clone."""
        return self.var / "secret_key"

    @property
    def credentials(self) -> Path:
        """The demo logins."""
        return self.var / "demo-credentials.json"

    @property
    def state(self) -> Path:
        """What runs now, for `status`, `stop` and a second `up`."""
        return self.run / "state.json"

    @property
    def runtime(self) -> Path:
        """Addresses for commands of a second terminal."""
        return self.run / "runtime.json"

    def ready_file(self, name: str) -> Path:
        """What the process `name` writes once it can work."""
        return self.run / f"{name}.ready"

    def log_file(self, name: str) -> Path:
        """What the process `name` prints."""
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Create what is missing, each directory 0700; make the secret. Raises UnsafeDirectory."""
        self.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.var, self.run, self.logs, self.backups, self.paper, self.run / "metrics"):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)
            _must_be_private(folder)
        if not self.secret_key.exists():
            write_private(self.secret_key, secrets.token_urlsafe(48))

    def sockets(self) -> Path:
        """A short private directory, the same for each run of this clone. Raises UnsafeDirectory."""
        tag = hashlib.sha256(str(self.var).encode()).hexdigest()[:12]
        for base in _socket_bases():
            folder = base / f"kops-{os.getuid()}-{tag}"
            if len(os.fsencode(folder / "cache.sock")) > LONGEST_SOCKET:
                continue
            folder.mkdir(mode=0o700, exist_ok=True)
            _must_be_private(folder)
            return folder
        raise UnsafeDirectory("no directory is short enough for a socket; set TMPDIR=/tmp")


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only its owner may read."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _socket_bases() -> list[Path]:
    stated = os.environ.get("XDG_RUNTIME_DIR")
    runtime = Path(stated) if stated else None
    usable = runtime is not None and runtime.is_dir() and os.access(runtime, os.W_OK)
    bases = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  # ours alone: checked by owner and mode
    return [runtime, *bases] if usable and runtime is not None else bases


def _must_be_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnsafeDirectory(
            f"{folder} must be a directory of yours with mode 0700; remove it and start again"
        )
