"""When a process counts as ready. A probe answers a detail for the screen, or None for "not yet"."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

Probe = Callable[[], Awaitable[str | None]]


def file_written(path: Path) -> Probe:
    """Ready once the process has left `path`."""

    async def probe() -> str | None:
        return "" if path.exists() else None

    return probe


def json_written(path: Path, describe: Callable[[dict[str, object]], str]) -> Probe:
    """Ready once `path` holds a JSON object, which `describe` turns into the detail."""

    async def probe() -> str | None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return describe(found) if isinstance(found, dict) else None

    return probe


def answers_ping(socket_path: Path | None, port: int | None, detail: str) -> Probe:
    """Ready once a Redis server answers PING on its Unix socket or loopback port."""

    async def probe() -> str | None:
        try:
            if socket_path is not None:
                reader, writer = await asyncio.open_unix_connection(str(socket_path))
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return None
        with contextlib.closing(writer):
            writer.write(b"*1\r\n$4\r\nPING\r\n")
            answer = await reader.readline()
        return detail if answer.startswith(b"+PONG") else None

    return probe


def serves(port: int, *paths: str) -> Probe:
    """Ready once each path on loopback is answered with 200."""

    async def probe() -> str | None:
        for path in paths:
            if await _status(port, path) != 200:
                return None
        return f"http://localhost:{port}"

    return probe


async def _status(port: int, path: str) -> int:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0
    with contextlib.closing(writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        try:
            line = await reader.readline()
        except OSError:
            return 0
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
