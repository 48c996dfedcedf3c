"""The live channel `/ws/v1/live` (UX.md 4.3): numbered hints and price ticks to open pages and scripts.

Server frames are `{t, k, s, v, ts, d}`: topic, kind, number of the change, version of the object, server ms, data, as
MessagePack (`kops.msgpack.1`) or JSON (`kops.json.1`). Client frames are JSON text in both: `sub`, `unsub`, `resume`,
`ack`, `ping`, `pong`; scripts without a session begin with `{"op": "auth", "token": …}`. A hint carries no truth: the
page fetches it, and is checked there too.

The changes of a topic come in order, from the log (`kalshi_site.live.relay`): `delta` with the epoch in `d.e` and, at
every hundredth number, the state's digest; `snap` where they cannot tell and `GET /api/v1/state` must be asked. Each
`ping` carries in `d.heads` where every followed topic stands: whoever stands elsewhere has missed something. So does
the `pong` that answers a client's own `ping`, so that nobody need wait for the first heartbeat to know.

`{"op": "ack", "n": …}` says how many frames have arrived on this socket: about once a second while frames come. Whoever
leaves 1,000 frames or 2 MB unacknowledged is let go, connects again and resumes.

Close codes: 4400 not readable (E001) · 4401 not signed in (E101) · 4008 reader too slow (E851) · 4029 too many messages
(E853) · 1012 come back at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from kalshi_site.errors import NotSignedIn
from kalshi_site.live import changes, group_of
from kalshi_site.live.catchup import Change, Delta, Head
from kalshi_site.live.line import Line, best_protocol
from kalshi_site.live.pressure import MOST_WAITING, Bucket, Frame, TooSlow
from kalshi_site.live.relay import MOST_AT_ONCE, Relay, relay
from kalshi_site.live.visitor import Visitor
from trading.execution import restored

log = logging.getLogger(__name__)

INBOUND_RATE, INBOUND_BURST = 100, 200  # messages a second, and at once
LONGEST_MESSAGE = 16_384  # characters of one client frame
AUTH_WITHIN = 5.0  # seconds for a script's first frame
REJOIN_EVERY = 12 * 3600.0  # seconds; the layer forgets a member after a day
LIFE = 23 * 3600.0  # seconds, less up to an hour: the server in front ends a socket after a day, all at once
JOIN_WITHIN = 1.0  # seconds to wait for the layer: without it changes come all the same, from the log
# What may be followed, and the right that it needs; asked at `sub` and again before a frame goes out.
TOPICS = {
    "proposals": "approvals.view_proposal",
    "orders": "trading.view_order",
    "positions": "portfolio.view_position",
    "trading": "portfolio.view_tradingstate",
    "reconciliation": "trading.view_workitem",
    "quotes": "trading.view_market",
}
LOGGED = tuple(
    topic for topic in TOPICS if topic != "quotes"
)  # prices are not numbered: the latest one counts
News = tuple[str, Head, Sequence[Change] | None, dict[int, str]]


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """One open page or script."""

    async def connect(self) -> None:
        """Accept the best sub-protocol offered; a socket without a session must send its token first."""
        protocol = best_protocol(self.scope.get("subprotocols", []))
        if protocol is None:
            await self.close(code=4400)
            return
        self.visitor = Visitor(self.scope)
        self.topics: set[str] = set()
        self.bucket = Bucket(INBOUND_RATE, INBOUND_BURST)
        self.line = Line(protocol, self.send, self._let_go)
        self.news: asyncio.Queue[News | Frame] = asyncio.Queue(MOST_WAITING)
        self.relay: Relay = relay(LOGGED, restored=_restored)
        await self.accept(protocol)
        await self.visitor.enter_by_session(self.scope.get("user"))
        self.tasks: list[asyncio.Task[None]] = []
        for work in (
            *(self.line.write(), self.line.gather_ticks(), self._tell_news()),
            *(self._ask_for_the_token(), self._live()),
        ):
            self._begin(work)
        await self.relay.join(self._hear)

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Answer one message, of the client or of the layer."""
        await self._or_come_back(super().dispatch(message))

    async def disconnect(self, code: int) -> None:
        """Leave the groups and end the tasks."""
        if hasattr(self, "relay"):
            self.relay.leave(self._hear)
        for task in getattr(self, "tasks", []):
            task.cancel()
        for topic in getattr(self, "topics", set()):
            await self._leave(topic)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """One client frame."""
        if not self.bucket.take():
            await self._end(4029, "E853")
            return
        try:
            text = text_data or ""
            frame = json.loads(text) if len(text) <= LONGEST_MESSAGE else {}
            op = getattr(self, f"op_{frame['op']}", None)
        except (ValueError, KeyError, TypeError):
            op = None
        if op is None:
            await self._end(4400, "E001")
        elif not self.visitor.is_known and frame["op"] != "auth":
            await self._end(4401, "E101")
        else:
            await op(frame)

    # --- what a client may ask ----------------------------------------------------------------------------------------

    async def op_auth(self, frame: dict[str, Any]) -> None:
        """A script's token, which needs the scope `read`."""
        try:
            await self.visitor.enter_by_token(str(frame.get("token", "")))
        except NotSignedIn as refused:
            await self._end(4401, refused.code)

    async def op_sub(self, frame: dict[str, Any]) -> None:
        """Follow topics; those that do not exist or may not be seen are answered with `err`."""
        for topic in _names(frame):
            if topic not in TOPICS or not await self._may(topic):
                self.line.put({"t": topic, "k": "err", "d": {"code": "E104" if topic in TOPICS else "E021"}})
            elif topic not in self.topics:
                self.topics.add(topic)
                await self._join(topic)

    async def op_unsub(self, frame: dict[str, Any]) -> None:
        """Follow them no longer."""
        for topic in self.topics & set(_names(frame)):
            self.topics.discard(topic)
            await self._leave(topic)

    async def op_resume(self, frame: dict[str, Any]) -> None:
        """`topics`: topic -> [epoch, last number seen]. What was missed comes again; `snap` where it cannot."""
        seen = frame.get("topics")
        if not isinstance(seen, dict):
            return
        for topic in self.topics & set(LOGGED) & seen.keys():
            if not await self._may(topic):
                continue
            epoch, number = _standing(seen[topic])
            answer = await database_sync_to_async(changes.since)(topic, number, epoch)
            head = Head(answer.epoch, answer.version)
            if isinstance(answer, Delta) and len(answer.changes) <= MOST_AT_ONCE:
                self._tell(topic, head, answer.changes, {})
            else:
                self._tell(topic, head, None, {})

    async def op_ack(self, frame: dict[str, Any]) -> None:
        """`n`: how many frames have arrived since the socket was opened."""
        match frame.get("n"):
            case int(received):
                self.line.outbox.acknowledge(received)

    async def op_ping(self, frame: dict[str, Any]) -> None:
        """Give the caller's mark back with our time: the page measures latency and its clock's offset by it."""
        self._say_where_it_stands("pong", c=frame.get("c"))

    async def op_pong(self, frame: dict[str, Any]) -> None:
        """The client lives; nothing to do."""

    # --- what the desk announces --------------------------------------------------------------------------------------

    async def live_event(self, message: dict[str, Any]) -> None:
        """An announcement of `kalshi_site.live`: the log is looked at now; a price waits for the next beat."""
        topic, data = message["topic"], message["data"]
        if topic in LOGGED:
            self.relay.hurry()
        elif await self._is_told(topic):
            for quote in data.get("quotes", [data]):
                self.line.quote(quote)

    def _hear(self, topic: str, head: Head, news: Sequence[Change] | None, digests: dict[int, str]) -> None:
        self._in_turn((topic, head, news, digests))

    def _in_turn(self, news: News | Frame) -> None:
        try:
            self.news.put_nowait(news)
        except asyncio.QueueFull:
            self.line.give_up()

    async def _tell_news(self) -> None:
        while True:
            news = await self.news.get()
            if isinstance(news, dict):
                news["d"]["heads"] = await self._told_of(news["d"]["heads"])
                self.line.put(news)
            elif await self._is_told(news[0]):
                self._tell(*news)

    async def _told_of(self, heads: dict[str, Any]) -> dict[str, Any]:
        """Where the followed topics stand. Who has lost the right to one is told so once, and follows it no longer."""
        for topic in self.topics & heads.keys():
            if not await self._may(topic):
                self.topics.discard(topic)
                await self._leave(topic)
                self.line.put({"t": topic, "k": "err", "d": {"code": "E104"}})
        return {topic: head for topic, head in heads.items() if topic in self.topics}

    async def _is_told(self, topic: str) -> bool:
        return topic in self.topics and await self._may(topic)

    def _tell(self, topic: str, head: Head, news: Sequence[Change] | None, digests: dict[int, str]) -> None:
        """The changes as frames, or the word to ask for the snapshot."""
        if news is None:
            self.line.put({"t": topic, "k": "snap", "s": head.version, "d": {"e": head.epoch}})
        for change in news or ():
            hint = {"id": change.key, "kind": change.kind, "e": head.epoch}
            if digest := digests.get(change.number):
                hint["digest"] = digest
            self.line.put({"t": topic, "k": "delta", "s": change.number, "v": change.version, "d": hint})

    # --- its life -----------------------------------------------------------------------------------------------------

    async def _ask_for_the_token(self) -> None:
        await asyncio.sleep(AUTH_WITHIN)
        if not self.visitor.is_known:
            await self._end(4401, "E101")

    async def _live(self) -> None:
        """Heartbeats until the socket's time is over; they end with the person's stay."""
        life, joined = time.monotonic() + LIFE - random.random() * 3600.0, time.monotonic()
        while time.monotonic() < life:
            await asyncio.sleep(settings.LIVE_HEARTBEAT_SECONDS)
            if self.visitor.is_known and await self.visitor.has_left():
                await self._end(4401, "E101")
                return
            self._say_where_it_stands("ping")
            if time.monotonic() - joined > REJOIN_EVERY:
                joined = time.monotonic()
                for topic in tuple(self.topics):
                    await self._join(topic)
        await self.close(code=1012)  # the page comes back at once and resumes

    def _say_where_it_stands(self, kind: str, **told: Any) -> None:
        """After the changes that led there: what overtakes them would look to a page like changes that it missed."""
        heads = {topic: [head.epoch, head.version] for topic, head in self.relay.heads.items()}
        self._in_turn({"t": "", "k": kind, "d": {**told, "heads": heads}})

    async def _end(self, code: int, error: str) -> None:
        await self.line.say({"t": "", "k": "err", "d": {"code": error}})
        await self.close(code=code)

    def _let_go(self) -> None:
        self._begin(self._end(4008, TooSlow.code))

    async def _may(self, topic: str) -> bool:
        return await self.visitor.may(TOPICS[topic])

    async def _join(self, topic: str) -> None:
        """Hear the announcements of a topic. Joining again renews the membership."""
        await self._membership(self.channel_layer.group_add, topic)

    async def _leave(self, topic: str) -> None:
        await self._membership(self.channel_layer.group_discard, topic)

    async def _membership(self, change: Any, topic: str) -> None:
        try:
            await asyncio.wait_for(change(group_of(topic), self.channel_name), JOIN_WITHIN)
        except Exception as error:  # any transport fault: the log is looked at without announcements too
            log.warning("live.membership.failed", extra={"topic": topic, "error": repr(error)})

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(self._or_come_back(work)))

    async def _or_come_back(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever breaks, the socket ends: open without its heartbeats it would keep the client waiting for ever."""
        try:
            await work
        except StopConsumer:
            raise
        except Exception:
            log.exception("live.socket.broke")
            await self.close(code=1012)


def _restored(behind: Sequence[str]) -> bool:
    return restored.look(settings.KALSHI_PROFILE, behind)


def _names(frame: dict[str, Any]) -> list[str]:
    topics = frame.get("topics", [])
    return [topic for topic in topics if isinstance(topic, str)][:50] if isinstance(topics, list) else []


def _standing(told: Any) -> tuple[str, int]:
    """Epoch and number of a `resume`; what cannot be read stands nowhere, so that the snapshot answers."""
    match told:
        case [str(epoch), int(number)]:
            return epoch, number
    return "", -1
