"""WebSocket addresses, gathered from the apps that have some."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def _of(app: str) -> list[Any]:
    module = f"{app}.routing"
    return list(import_module(module).websocket_urlpatterns) if find_spec(module) else []


websocket_urlpatterns: list[Any] = [*_of("trading"), *_of("approvals"), *_of("portfolio")]
