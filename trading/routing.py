"""WebSocket addresses of trading."""

from django.urls import path

from trading.consumers import LiveConsumer

websocket_urlpatterns = [path("ws/v1/live", LiveConsumer.as_asgi())]
