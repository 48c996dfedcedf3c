"""The live channel: who may follow what, hints with numbers, prices at most four a second, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from kalshi_site.identity import issue_token
from kalshi_site.live import changed, group_of
from kalshi_site.live.pressure import MOST_WAITING, Bucket
from kalshi_site.live.relay import relay
from kalshi_site.live.visitor import Visitor
from kalshi_site.models import User
from tests import factories
from tests.callers import Caller
from trading.consumers import LOGGED

Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

PATIENCE = 30.0  # seconds
ORIGIN = (b"origin", b"http://localhost")


def cookie_of(role: str) -> bytes:
    client = Client()
    client.force_login(factories.member(f"{role}1", role))
    return f"sessionid={client.cookies['sessionid'].value}".encode()


class Line(WebsocketCommunicator):
    """What must come may take its time: the channel's own second is short on a busy machine."""

    async def connect(self, timeout: float = PATIENCE) -> tuple[bool, str | int | None]:
        return await super().connect(timeout)

    async def receive_output(self, timeout: float = PATIENCE) -> dict[str, Any]:
        return await super().receive_output(timeout)

    async def receive_from(self, timeout: float = PATIENCE) -> str | bytes:
        return await super().receive_from(timeout)

    async def receive_json_from(self, timeout: float = PATIENCE) -> Any:
        return await super().receive_json_from(timeout)

    async def disconnect(self, code: int = 1000, timeout: float = PATIENCE) -> None:
        await super().disconnect(code, timeout)


async def channel(
    cookie: bytes | None = None, *, protocol: str = "kops.json.1", origin: tuple[bytes, bytes] = ORIGIN
) -> WebsocketCommunicator:
    from kalshi_site.asgi import application

    headers = [origin, (b"host", b"localhost")]
    if cookie is not None:
        headers.append((b"cookie", cookie))
    return Line(application, "/ws/v1/live", headers=headers, subprotocols=[protocol])


async def signed_in(role: str = "viewer", **options: Any) -> WebsocketCommunicator:
    found = await channel(await sync_to_async(cookie_of)(role), **options)
    connected, protocol = await found.connect()
    assert connected
    assert protocol == options.get("protocol", "kops.json.1")
    return found


async def follow(socket: WebsocketCommunicator, *topics: str) -> None:
    """Subscribe, and wait until it is done: the answer to a ping comes after."""
    await socket.send_json_to({"op": "sub", "topics": list(topics)})
    await socket.send_json_to({"op": "ping", "c": 1})
    while (await socket.receive_json_from())["k"] != "pong":
        pass


async def ended(socket: WebsocketCommunicator) -> int:
    """The code with which the server closed."""
    while True:
        message = await socket.receive_output()
        if message["type"] == "websocket.close":
            return int(message["code"])


async def test_a_change_arrives_with_its_number() -> None:
    socket = await signed_in()
    await follow(socket, "proposals")
    number = await database_sync_to_async(changed)("proposals", key="prop_1", version=3, kind="approved")
    frame = await socket.receive_json_from()
    assert (frame["t"], frame["k"], frame["s"], frame["v"]) == ("proposals", "delta", number, 3)
    assert frame["d"] == {"id": "prop_1", "kind": "approved", "e": frame["d"]["e"]}
    await socket.disconnect()


async def test_messagepack_carries_the_same() -> None:
    socket = await signed_in(protocol="kops.msgpack.1")
    await socket.send_json_to({"op": "ping", "c": 7.5})
    frame = msgpack.unpackb(await socket.receive_from())
    assert (frame["k"], frame["d"]) == ("pong", {"c": 7.5, "heads": {}})
    await socket.disconnect()


async def test_a_page_knows_where_its_topics_stand_before_the_first_heartbeat() -> None:
    number = await database_sync_to_async(changed)("orders", key="ord_1", version=1)
    await database_sync_to_async(changed)("proposals", key="prop_1", version=1)
    socket = await signed_in()
    await socket.send_json_to({"op": "sub", "topics": ["orders"]})
    await socket.send_json_to({"op": "ping", "c": 1})
    told = (await socket.receive_json_from())["d"]["heads"]
    assert {topic: version for topic, (_, version) in told.items()} == {"orders": number}
    await socket.disconnect()


async def test_where_a_topic_stands_is_said_after_the_changes_that_led_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Naive: it overtakes a change whose reader's rights are still being read, which then looks like a missed one."""
    socket = await signed_in()
    await follow(socket, "orders")
    delays = iter([0.5])

    async def at_length(*_: Any) -> bool:
        await asyncio.sleep(next(delays, 0.0))
        return True

    monkeypatch.setattr(Visitor, "may", at_length)
    number = await database_sync_to_async(changed)("orders", key="ord_1", version=1)
    while relay(LOGGED).heads["orders"].version < number:
        await asyncio.sleep(0.01)
    await socket.send_json_to({"op": "ping", "c": 1})
    kinds = [(await socket.receive_json_from())["k"] for _ in range(2)]
    assert kinds == ["delta", "pong"]
    await socket.disconnect()


async def test_prices_come_as_the_latest_of_each_market() -> None:
    socket = await signed_in()
    await follow(socket, "quotes")
    layer = get_channel_layer()
    for cents in range(40, 60):
        quote = {"ticker": "SIMX", "yes_bid": f"0.{cents}00", "yes_ask": None, "ts": 5}
        message = {"type": "live.event", "topic": "quotes", "data": {"quotes": [quote]}, "ts": 5}
        await layer.group_send(group_of("quotes"), message)
    frames = [await socket.receive_json_from()]
    while frames[-1]["d"].get("yes_bid") != "0.5900":
        frames.append(await socket.receive_json_from())
    assert len(frames) < 20
    assert frames[-1]["t"] == "market:SIMX"
    await socket.disconnect()


async def test_a_stranger_may_follow_nothing() -> None:
    client = Client()
    await sync_to_async(client.force_login)(await sync_to_async(factories.stranger)())
    socket = await channel(f"sessionid={client.cookies['sessionid'].value}".encode())
    await socket.connect()
    await socket.send_json_to({"op": "sub", "topics": ["proposals", "nonsense"]})
    codes = [(await socket.receive_json_from())["d"]["code"] for _ in range(2)]
    assert codes == ["E104", "E021"]
    await socket.disconnect()


async def test_nobody_without_a_session_or_a_token_gets_in() -> None:
    socket = await channel()
    await socket.connect()
    await socket.send_json_to({"op": "sub", "topics": ["proposals"]})
    assert await ended(socket) == 4401


async def test_a_script_comes_in_with_its_token() -> None:
    def token() -> str:
        user = factories.member("viewer1", "viewer")
        return issue_token(
            user=user, name="t", scopes=["read"], expires_at=timezone.now() + timedelta(days=1)
        )

    socket = await channel()
    await socket.connect()
    await socket.send_json_to({"op": "auth", "token": await database_sync_to_async(token)()})
    await follow(socket, "orders")
    await socket.disconnect()
    wrong = await channel()
    await wrong.connect()
    await wrong.send_json_to({"op": "auth", "token": "kops_paper_guess"})
    assert await ended(wrong) == 4401


async def test_another_origin_is_refused() -> None:
    socket = await channel(
        await sync_to_async(cookie_of)("viewer"), origin=(b"origin", b"https://evil.example")
    )
    connected, _ = await socket.connect()
    assert not connected


async def test_on_a_new_desk_a_page_learns_where_its_topics_stand_though_nothing_has_happened() -> None:
    socket = await signed_in()
    await socket.send_json_to({"op": "sub", "topics": ["reconciliation"]})
    await socket.send_json_to({"op": "resume", "topics": {"reconciliation": ["", 0]}})
    await socket.send_json_to({"op": "ping", "c": 1})
    begun = await socket.receive_json_from()
    pong = await socket.receive_json_from()
    assert (begun["k"], pong["k"]) == ("snap", "pong")
    assert pong["d"]["heads"] == {"reconciliation": [begun["d"]["e"], 0]}
    await socket.disconnect()


async def test_who_loses_the_right_to_a_topic_is_told_and_hears_no_more_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kalshi_site.live.visitor.RIGHTS_LAST", 0.0)
    await database_sync_to_async(changed)("orders", key="ord_1", version=1)
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(User.groups.through.objects.all().delete)()
    await socket.send_json_to({"op": "ping", "c": 1})
    lost = await socket.receive_json_from()
    pong = await socket.receive_json_from()
    assert (lost["t"], lost["k"], lost["d"]) == ("orders", "err", {"code": "E104"})
    assert (pong["k"], pong["d"]["heads"]) == ("pong", {})
    await socket.disconnect()


async def test_a_switched_off_account_hears_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshi_site.live.visitor.RIGHTS_LAST", 0.0)
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(User.objects.update)(is_active=False)
    await database_sync_to_async(changed)("orders", key="ord_1", version=1)
    assert await socket.receive_nothing(timeout=0.5)
    await socket.disconnect()


@pytest.mark.parametrize("frame", ["no json", json.dumps([1]), json.dumps({"op": "explode"}), json.dumps({})])
async def test_what_cannot_be_read_ends_the_channel(frame: str) -> None:
    socket = await signed_in()
    await socket.send_to(text_data=frame)
    assert await ended(socket) == 4400


async def test_too_many_messages_end_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.consumers.INBOUND_BURST", 5)
    socket = await signed_in()
    for _ in range(7):
        await socket.send_json_to({"op": "pong"})
    assert await ended(socket) == 4029


async def test_a_reader_who_is_too_slow_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshi_site.live.pressure.MOST_WAITING", 3)
    started = asyncio.Event()

    async def never(*_: Any) -> None:
        await started.wait()

    monkeypatch.setattr("kalshi_site.live.line.Line.write", never)
    socket = await signed_in()
    for mark in range(6):
        await socket.send_json_to({"op": "ping", "c": mark})
    assert await ended(socket) == 4008


@pytest.mark.parametrize("acknowledges", [True, False])
async def test_whoever_leaves_too_much_unread_is_let_go(
    monkeypatch: pytest.MonkeyPatch, acknowledges: bool
) -> None:
    monkeypatch.setattr("kalshi_site.live.pressure.MOST_UNREAD", 10)
    socket = await signed_in()
    for received in range(1, 16):
        await socket.send_json_to({"op": "ping", "c": received})
        if acknowledges:
            await socket.receive_json_from()
            await socket.send_json_to({"op": "ack", "n": received})
    if acknowledges:
        await follow(socket, "orders")
        await socket.disconnect()
    else:
        assert await ended(socket) == 4008


async def test_prices_of_many_markets_at_once_end_nothing() -> None:
    """Naive: one queue for all lets a reader go because three hundred markets moved within a beat."""
    socket = await signed_in()
    await follow(socket, "quotes")
    quotes = [{"ticker": f"SIM{n}", "yes_bid": "0.4000", "ts": 5} for n in range(2 * MOST_WAITING)]
    message = {"type": "live.event", "topic": "quotes", "data": {"quotes": quotes}, "ts": 5}
    await get_channel_layer().group_send(group_of("quotes"), message)
    seen = {(await socket.receive_json_from())["t"] for _ in quotes}
    assert len(seen) == len(quotes)
    await socket.disconnect()


async def test_a_message_of_more_than_sixteen_kilobytes_ends_the_channel() -> None:
    socket = await signed_in()
    await socket.send_to(text_data=json.dumps({"op": "pong", "x": "y" * 16_384}))
    assert await ended(socket) == 4400


async def test_without_the_layer_changes_come_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise ConnectionError("no Redis")

    socket = await signed_in()
    monkeypatch.setattr(get_channel_layer(), "group_add", away, raising=False)
    await follow(socket, "orders")
    await database_sync_to_async(changed)("orders", key="ord_1", version=1)
    assert (await socket.receive_json_from())["s"] == 1
    await socket.disconnect()


async def test_a_script_hears_the_first_heartbeat_as_soon_as_a_page(settings: Any) -> None:
    """Naive: the heartbeat waits until the time for the token is over."""
    settings.LIVE_HEARTBEAT_SECONDS = 0.1
    caller = await database_sync_to_async(Caller.of)("viewer", "read")
    socket = await channel()
    await socket.connect()
    await socket.send_json_to({"op": "auth", "token": caller.token})
    assert (await socket.receive_json_from())["k"] == "ping"
    await socket.disconnect()


async def a_heartbeat_is_due(_: WebsocketCommunicator) -> None:
    """Nothing to do but wait."""


async def something_changes(_: WebsocketCommunicator) -> None:
    await database_sync_to_async(changed)("orders", key="ord_1", version=1)


async def prices_move(_: WebsocketCommunicator) -> None:
    message = {"type": "live.event", "topic": "quotes", "data": {"ticker": "SIMX"}, "ts": 5}
    await get_channel_layer().group_send(group_of("quotes"), message)


async def the_client_asks(socket: WebsocketCommunicator) -> None:
    await socket.send_json_to({"op": "sub", "topics": ["positions"]})


@pytest.mark.parametrize("event", [a_heartbeat_is_due, something_changes, prices_move, the_client_asks])
async def test_a_socket_that_the_database_failed_ends_so_that_its_client_comes_back(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    event: Callable[[WebsocketCommunicator], Awaitable[None]],
) -> None:
    """Naive: one failed look at the rights ends the heartbeats or the news in silence, and the socket stays open."""
    if event is a_heartbeat_is_due:
        settings.LIVE_HEARTBEAT_SECONDS = 0.3
    monkeypatch.setattr("kalshi_site.live.visitor.RIGHTS_LAST", 0.0)
    socket = await signed_in()
    await follow(socket, "orders", "quotes")
    assert len(relay(LOGGED)._listeners) == 1

    def restarting(_: Visitor) -> frozenset[str]:
        raise OperationalError("the database system is starting up")

    monkeypatch.setattr(Visitor, "_rights_now", restarting)
    await event(socket)
    assert await ended(socket) == 1012
    assert "live.socket.broke" in caplog.messages
    await socket.disconnect()
    assert not relay(LOGGED)._listeners, "a socket that has ended still hears the news"


async def test_a_sign_out_ends_the_channel_at_the_next_heartbeat(settings: Any) -> None:
    settings.LIVE_HEARTBEAT_SECONDS = 0.2
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(Session.objects.all().delete)()
    assert await ended(socket) == 4401


def the_session_runs_out() -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def the_password_changes() -> None:
    user = User.objects.get(username="viewer1")
    user.set_password("another, and a longer one")
    user.save()


def somebody_else_signs_in() -> None:
    other = Client()
    other.force_login(factories.member("risk1", "risk"))
    theirs = other.cookies["sessionid"].value
    data = Session.objects.get(pk=theirs).session_data
    Session.objects.exclude(pk=theirs).update(session_data=data)


@pytest.mark.parametrize("event", [the_session_runs_out, the_password_changes, somebody_else_signs_in])
async def test_a_session_that_no_page_would_accept_ends_the_channel(
    settings: Any, event: Callable[[], None]
) -> None:
    """Naive: a session counts for as long as its row exists."""
    settings.LIVE_HEARTBEAT_SECONDS = 0.2
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(event)()
    assert await ended(socket) == 4401


def test_the_bucket_refills_with_time() -> None:
    now = [0.0]
    bucket = Bucket(2, 2, clock=lambda: now[0])
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
