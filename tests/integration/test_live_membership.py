"""A socket that the layer has forgotten joins its groups again by itself: prices come over the layer alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator

from kalshi_site.live import group_of
from tests.integration.test_live_channel import follow, signed_in
from trading import consumers
from trading.consumers import LiveConsumer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

HALF_A_DAY = consumers.REJOIN_EVERY


async def hears_a_price(socket: WebsocketCommunicator, within: float) -> bool:
    """Whether one of the prices that are announced meanwhile arrives."""
    quote = {"ticker": "SIMX", "yes_bid": "0.4000", "yes_ask": None, "ts": 5}
    message = {"type": "live.event", "topic": "quotes", "data": {"quotes": [quote]}, "ts": 5}
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        await get_channel_layer().group_send(group_of("quotes"), message)
        while not await socket.receive_nothing(timeout=0.4):
            if (await socket.receive_json_from())["t"] == "market:SIMX":
                return True
    return False


async def next_heartbeat(socket: WebsocketCommunicator) -> None:
    while (await socket.receive_json_from())["k"] != "ping":
        pass


@pytest.mark.parametrize(("rejoin_every", "is_back"), [(0.0, True), (HALF_A_DAY, False)])
async def test_a_forgotten_socket_is_back_after_its_next_heartbeat(
    monkeypatch: pytest.MonkeyPatch, settings: Any, rejoin_every: float, is_back: bool
) -> None:
    """The naive socket joins once: of the two this is the one whose time to join again does not come."""
    sockets: list[Any] = []
    accept = LiveConsumer.accept

    async def seen(self: LiveConsumer, *args: Any, **how: Any) -> None:
        sockets.append(self)
        await accept(self, *args, **how)

    monkeypatch.setattr(LiveConsumer, "accept", seen)
    monkeypatch.setattr(consumers, "REJOIN_EVERY", rejoin_every)
    settings.LIVE_HEARTBEAT_SECONDS = 1.0
    socket = await signed_in()
    await follow(socket, "quotes")
    assert await hears_a_price(socket, within=30.0)
    await next_heartbeat(socket)
    await get_channel_layer().group_discard(group_of("quotes"), sockets[0].channel_name)
    await next_heartbeat(socket)
    assert await hears_a_price(socket, within=30.0 if is_back else 1.5) is is_back
    await socket.disconnect()
