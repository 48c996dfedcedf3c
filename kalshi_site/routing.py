"""WebSocket addresses of the whole site."""

from __future__ import annotations

from trading.routing import websocket_urlpatterns

__all__ = ["websocket_urlpatterns"]
