"""The web process: pages over HTTP, live updates over WebSocket, both from this origin only."""

from __future__ import annotations

import os

from kalshi_site import handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
_http = handler.application()

# After the app registry is loaded: consumers import models.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from kalshi_site import heartbeat  # noqa: E402
from kalshi_site.checks import refuse_bad_configuration  # noqa: E402
from kalshi_site.routing import websocket_urlpatterns  # noqa: E402

refuse_bad_configuration()
heartbeat.begin("web")

application = ProtocolTypeRouter(
    {
        "http": _http,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
