"""The live channel `/ws/v1/live` (UX.md 4.3): numbered hints and price ticks to open pages and scripts.

Server frames are `{t, k, s, v, ts, d}`: topic, kind, number of the change, version of the object, server ms, data, as
MessagePack (`kops.msgpack.1`) or JSON (`kops.json.1`). Client frames are JSON text in both: `sub`, `unsub`, `resume`,
`ping`, `pong`; scripts without a session begin with `{"op": "auth", "token": …}`. A hint carries no truth: the page
fetches it, and is checked there too.

Close codes: 4400 not readable (E001) · 4401 not signed in (E101) · 4008 reader too slow (E851) · 4029 too many messages
(E853).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import msgpack
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from kalshi_site.errors import NotSignedIn
from kalshi_site.identity import authenticate_token
from kalshi_site.live import group_of
from kalshi_site.models import TopicHead, User

MSGPACK, JSON = "kops.msgpack.1", "kops.json.1"
PING_EVERY = 15.0  # seconds
TICK_EVERY = 0.25  # prices go out at most four times a second, the latest of each market
QUEUE_LIMIT = 256
INBOUND_RATE = 100  # messages a second
AUTH_WITHIN = 5.0  # seconds for a script's first frame
RIGHTS_LAST = 5.0  # a right that was taken away, or a sign-out, ends the stream within this time
# What may be followed, and the right that it needs; asked at `sub` and again before a frame goes out.
TOPICS = {
    "proposals": "approvals.view_proposal",
    "orders": "trading.view_order",
    "positions": "portfolio.view_position",
    "trading": "portfolio.view_tradingstate",
    "quotes": "trading.view_market",
}


class Bucket:
    """`rate` messages a second, with one second's worth at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.clock = rate, clock
        self.left, self.at = rate, clock()

    def take(self) -> bool:
        """Take one; False when there is none."""
        now = self.clock()
        self.left = min(self.rate, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """One open page or script."""

    async def connect(self) -> None:
        """Accept the best sub-protocol offered; a socket without a session must send its token first."""
        offered = self.scope.get("subprotocols", [])
        self.protocol = next((name for name in (MSGPACK, JSON) if name in offered), None)
        if self.protocol is None:
            await self.close(code=4400)
            return
        self.person: User | None = None
        self.rights: frozenset[str] = frozenset()
        self.rights_at = 0.0
        self.topics: set[str] = set()
        self.bucket = Bucket(INBOUND_RATE)
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE_LIMIT)
        self.ticks: dict[str, dict[str, Any]] = {}
        self.by_token = False
        await self.accept(self.protocol)
        user = self.scope.get("user")
        if isinstance(user, User):
            self.person = user
            await self._refresh_rights()
        self.tasks = [
            asyncio.create_task(work) for work in (self._write(), self._ping(), self._flush_ticks())
        ]

    async def disconnect(self, code: int) -> None:
        """Leave the groups and end the helpers."""
        for task in getattr(self, "tasks", []):
            task.cancel()
        for topic in getattr(self, "topics", set()):
            await self.channel_layer.group_discard(group_of(topic), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """One client frame."""
        if not self.bucket.take():
            await self._end(4029, "E853")
            return
        try:
            frame = json.loads(text_data or "")
            op = getattr(self, f"op_{frame['op']}", None)
        except (ValueError, KeyError, TypeError):
            op = None
        if op is None:
            await self._end(4400, "E001")
        elif self.person is None and frame["op"] != "auth":
            await self._end(4401, "E101")
        else:
            await op(frame)

    # --- what a client may ask ----------------------------------------------------------------------------------------

    async def op_auth(self, frame: dict[str, Any]) -> None:
        """A script's token, which needs the scope `read`."""
        try:
            token = await database_sync_to_async(authenticate_token)(str(frame.get("token", "")))
        except NotSignedIn:
            await self._end(4401, "E101")
            return
        if "read" not in token.scopes:
            await self._end(4401, "E103")
            return
        self.person, self.by_token, self.token = token.owner, True, str(frame["token"])
        await self._refresh_rights()

    async def op_sub(self, frame: dict[str, Any]) -> None:
        """Follow topics; those that do not exist or may not be seen are answered with `err`."""
        for topic in _names(frame):
            if topic not in TOPICS or not await self._may(topic):
                self._put({"t": topic, "k": "err", "d": {"code": "E104" if topic in TOPICS else "E021"}})
            elif topic not in self.topics:
                self.topics.add(topic)
                await self.channel_layer.group_add(group_of(topic), self.channel_name)

    async def op_unsub(self, frame: dict[str, Any]) -> None:
        """Follow them no longer."""
        for topic in self.topics & set(_names(frame)):
            self.topics.discard(topic)
            await self.channel_layer.group_discard(group_of(topic), self.channel_name)

    async def op_resume(self, frame: dict[str, Any]) -> None:
        """`topics`: topic -> last number seen. Where more has happened, `snap` says: fetch again."""
        seen = frame.get("topics")
        if not isinstance(seen, dict):
            return
        wanted = {topic: number for topic, number in seen.items() if topic in self.topics}
        heads = await database_sync_to_async(_heads)(set(wanted))
        for topic, head in heads.items():
            if head != wanted[topic]:
                self._put({"t": topic, "k": "snap", "s": head, "v": head, "d": {}})

    async def op_ping(self, frame: dict[str, Any]) -> None:
        """Give the caller's mark back with our time: the page measures latency and its clock's offset by it."""
        self._put({"t": "", "k": "pong", "d": {"c": frame.get("c")}})

    async def op_pong(self, frame: dict[str, Any]) -> None:
        """The client lives; nothing to do."""

    # --- what the desk announces --------------------------------------------------------------------------------------

    async def live_event(self, message: dict[str, Any]) -> None:
        """A change announced by `kalshi_site.live`: a hint goes out at once, a price waits for the next beat."""
        topic, data = message["topic"], message["data"]
        if topic not in self.topics or not await self._may(topic):
            return
        if topic == "quotes":
            for quote in data.get("quotes", [data]):
                if "ticker" in quote:
                    self.ticks[quote["ticker"]] = quote
            return
        hint = {"id": data.get("id"), "kind": data.get("kind")}
        self._put(
            {"t": topic, "k": "delta", "s": data.get("s"), "v": data.get("version"), "d": hint}, message["ts"]
        )

    # --- the way out --------------------------------------------------------------------------------------------------

    def _put(self, frame: dict[str, Any], ts: int | None = None) -> None:
        try:
            self.outbox.put_nowait({**frame, "ts": ts or _now_ms()})
        except asyncio.QueueFull:
            self.tasks.append(asyncio.create_task(self._end(4008, "E851")))

    async def _write(self) -> None:
        while True:
            await self._send(await self.outbox.get())

    async def _send(self, frame: dict[str, Any]) -> None:
        if self.protocol == MSGPACK:
            await self.send(bytes_data=msgpack.packb(frame))
        else:
            await self.send(text_data=json.dumps(frame, separators=(",", ":")))

    async def _flush_ticks(self) -> None:
        """Send the latest price of each market that moved since the last beat."""
        while True:
            await asyncio.sleep(TICK_EVERY)
            waiting, self.ticks = self.ticks, {}
            for ticker, quote in waiting.items():
                prices = {key: quote.get(key) for key in ("yes_bid", "yes_ask", "no_bid", "no_ask")}
                self._put({"t": f"market:{ticker}", "k": "tick", "d": prices}, quote.get("ts"))

    async def _ping(self) -> None:
        if self.person is None:
            await asyncio.sleep(AUTH_WITHIN)
            if self.person is None:
                await self._end(4401, "E101")
                return
        while True:
            await asyncio.sleep(PING_EVERY)
            self._put({"t": "", "k": "ping"})

    async def _end(self, code: int, error: str) -> None:
        await self._send({"t": "", "k": "err", "ts": _now_ms(), "d": {"code": error}})
        await self.close(code=code)

    # --- rights -------------------------------------------------------------------------------------------------------

    async def _may(self, topic: str) -> bool:
        if time.monotonic() - self.rights_at > RIGHTS_LAST:
            await self._refresh_rights()
        return TOPICS[topic] in self.rights

    async def _refresh_rights(self) -> None:
        self.rights = await database_sync_to_async(self._read_rights)()
        self.rights_at = time.monotonic()

    def _read_rights(self) -> frozenset[str]:
        """The rights as the database has them now; none after a sign-out, a revoked token or a switched-off account."""
        if self.person is None or not self._still_signed_in():
            return frozenset()
        fresh = User.objects.filter(pk=self.person.pk, is_active=True).first()
        return frozenset() if fresh is None else frozenset(fresh.get_all_permissions())

    def _still_signed_in(self) -> bool:
        if self.by_token:
            try:
                return authenticate_token(self.token) is not None
            except NotSignedIn:
                return False
        session = self.scope["session"]
        return bool(session.session_key and session.exists(session.session_key))


def _names(frame: dict[str, Any]) -> list[str]:
    topics = frame.get("topics", [])
    return [topic for topic in topics if isinstance(topic, str)][:50] if isinstance(topics, list) else []


def _heads(topics: set[str]) -> dict[str, int]:
    return dict(TopicHead.objects.filter(topic__in=topics).values_list("topic", "version"))


def _now_ms() -> int:
    return int(time.time() * 1000)
