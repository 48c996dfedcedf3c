"""A script that follows the desk's state: the rule of `kalshi_site.live.replica` over the real channel and REST."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import msgpack
from aiohttp import ClientError, ClientSession, ClientTimeout, ClientWebSocketResponse, WSMsgType

from kalshi_site.live.catchup import Change, Delta, Snapshot
from kalshi_site.live.replica import Ask, Replica

PROTOCOLS = ("kops.json.1", "kops.msgpack.1")
CHECK_EVERY = 0.25
ACKNOWLEDGE_EVERY = 1.0
ORIGIN = "http://127.0.0.1"


@dataclass
class StateClient:
    """Follows `replicas` until the block ends. `lost` is the share of questions whose answer never comes."""

    channel: str
    rest: str
    token: str
    replicas: dict[str, Replica]
    chance: random.Random
    protocol: str = PROTOCOLS[0]
    lost: float = 0.0
    asked: list[tuple[float, str, Ask]] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    on_check: Callable[[Self], None] = lambda _: None
    _asking: set[str] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _questions: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._session = ClientSession(timeout=ClientTimeout(total=2.0))
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._look())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._tasks, *self._questions):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._questions, return_exceptions=True)
        await self._session.close()

    async def _stay_connected(self) -> None:
        while True:
            with suppress(ClientError, OSError, TimeoutError):
                timeout = ClientTimeout(total=None, sock_connect=2.0)
                async with (
                    ClientSession(timeout=timeout) as session,
                    session.ws_connect(
                        self.channel, protocols=(self.protocol,), origin=ORIGIN, autoclose=False
                    ) as socket,
                ):
                    await self._follow(socket)
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))

    async def _follow(self, socket: ClientWebSocketResponse) -> None:
        await socket.send_str(json.dumps({"op": "auth", "token": self.token}))
        await self._subscribe(socket)
        received, acknowledged = 0, float("-inf")
        async for message in socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                break
            packed = message.type is WSMsgType.BINARY
            await self._hear(socket, (msgpack.unpackb if packed else json.loads)(message.data))
            received += 1
            if time.monotonic() - acknowledged > ACKNOWLEDGE_EVERY:
                acknowledged = time.monotonic()
                await socket.send_str(json.dumps({"op": "ack", "n": received}))
        self.closed.append(socket.close_code or 0)

    async def _subscribe(self, socket: ClientWebSocketResponse) -> None:
        """Safe to repeat: what is followed already stays so."""
        standing = {name: [each.epoch, each.version] for name, each in self.replicas.items()}
        await socket.send_str(json.dumps({"op": "sub", "topics": list(self.replicas)}))
        await socket.send_str(json.dumps({"op": "resume", "topics": standing}))

    async def _hear(self, socket: ClientWebSocketResponse, frame: dict[str, Any]) -> None:
        now, told = time.monotonic(), frame.get("d") or {}
        replica = self.replicas.get(frame["t"])
        if frame["k"] == "ping":
            self.beats.append(now)
            await self._beat(socket, told["heads"], now)
        elif replica is not None and frame["k"] == "delta":
            change = Change(frame["s"], told["id"], frame["v"], told["kind"])
            self._ask(frame["t"], replica.hear(change, told["e"], now, told.get("digest", "")))
        elif replica is not None and frame["k"] == "snap":
            self._ask(frame["t"], replica.beat(told["e"], frame["s"], now))

    async def _beat(self, socket: ClientWebSocketResponse, heads: dict[str, Any], now: float) -> None:
        for topic, replica in self.replicas.items():
            if topic in heads:
                self._ask(topic, replica.beat(*heads[topic], now))
        if not self.replicas.keys() <= heads.keys():
            await self._subscribe(socket)  # our `sub` was lost

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            for topic, replica in self.replicas.items():
                self._ask(topic, replica.check(time.monotonic()))
            self.on_check(self)

    def _ask(self, topic: str, ask: Ask | None) -> None:
        """One question of a topic at a time: the next check asks again."""
        if ask is None or topic in self._asking:
            return
        self._asking.add(topic)
        self.asked.append((time.monotonic(), topic, ask))
        task = asyncio.create_task(self._question(topic, ask))
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

    async def _question(self, topic: str, ask: Ask) -> None:
        again = None
        try:
            if self.chance.random() >= self.lost:
                again = await self._answer(topic, ask)
        except (ClientError, OSError, TimeoutError, ValueError):
            pass  # nobody serves just now
        finally:
            self._asking.discard(topic)
        self._ask(topic, again)

    async def _answer(self, topic: str, ask: Ask) -> Ask | None:
        query = {"topic": topic, "since": str(ask.since), "epoch": ask.epoch}
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._session.get(f"{self.rest}/api/v1/state", params=query, headers=headers) as answer:
            if answer.status != 200:
                return None
            told = await answer.json()
        return self.replicas[topic].take(_read(told), time.monotonic())


def _read(told: dict[str, Any]) -> Delta | Snapshot:
    rows = told.get("changes", told.get("snapshot"))
    changes = tuple(Change(row["s"], row["id"], row["version"], row["kind"]) for row in rows)
    standing = (told["topic"], told["epoch"])
    if "snapshot" in told:
        return Snapshot(*standing, told["version"], changes, told["digest"])
    return Delta(*standing, told["since"], told["version"], changes, told.get("digest", ""))
