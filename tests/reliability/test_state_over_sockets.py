"""Clients of two real web processes, behind lines that lose, repeat, swap and cut, while processes and Redis are killed
and the database goes back in time: in the end each client has what the server has, and none ever showed a wrong state
as live.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.core.management import call_command
from django.db import transaction

from kalshi_site import live
from kalshi_site.live import changes
from kalshi_site.live.replica import Replica
from kalshi_site.models import ChangeLog, TopicHead
from tests.bad_line import BadLine, serving
from tests.callers import Caller
from tests.exchanges import database_url
from tests.reliability.conftest import Figure
from tests.reliability.sizes import is_full, size
from tests.state_client import PROTOCOLS, StateClient
from tests.unit.test_state_sync import Naive
from tests.web_servers import OwnRedis, Web, free_port

TOPICS = ("orders", "proposals", "positions", "trading")
HEARTBEAT = float(os.environ.get("SOCKET_HEARTBEAT", "1.0"))  # seconds; the product's is 15
WEATHER = 2.0  # seconds before and after the run's deed
HEAL_WITHIN = 2.0
REST_WITHIN = 30.0

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    # The layer's own tasks in this process meet a Redis that we have killed, and nobody asks how they ended.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
State = dict[str, int]


@dataclass
class Writer:
    """The desk's only writer: what it commits, and what each number of each epoch stood for."""

    chance: random.Random
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    state: dict[str, State] = field(default_factory=dict)
    past: dict[tuple[str, str, int], list[State]] = field(default_factory=lambda: defaultdict(list))
    heads: dict[str, tuple[str, int]] = field(default_factory=dict)
    written: int = 0

    def begin(self) -> None:
        """Number each topic once, so that each has an epoch."""
        for topic in TOPICS:
            live.changed(topic, key="first", version=1)
        self.learn()

    def learn(self) -> None:
        """Where the log stands now, and what it says: a desk that begins anew pauses, which is a change of its own."""
        self.state = {
            topic: {each.key: each.version for each in changes.state_now(topic)} for topic in TOPICS
        }
        self.heads = {topic: (head.epoch, head.version) for topic, head in changes.heads(TOPICS).items()}
        for topic, (epoch, version) in self.heads.items():
            self.past[topic, epoch, version].append(dict(self.state[topic]))
            self.past[topic, "", version].append(dict(self.state[topic]))

    def was_once(self, topic: str, epoch: str, version: int, state: State) -> bool:
        """Whether a state was true under that number: twice with different states only after an unsaid restore.

        An epoch that another process replaced at once stood for what the next one did.
        """
        return state in self.past[topic, epoch, version] or state in self.past[topic, "", version]

    def write(self, topic: str = "") -> None:
        """One change. What it makes of the state is known before anybody can be told."""
        topic = topic or self.chance.choice(TOPICS)
        key = f"key_{self.chance.randrange(12)}"
        epoch, version = self.heads[topic]
        self.state[topic][key] = self.state[topic].get(key, 0) + 1
        self.heads[topic] = (epoch, version + 1)
        self.past[topic, epoch, version + 1].append(dict(self.state[topic]))
        with transaction.atomic():
            number = live.changed(topic, key=key, version=self.state[topic][key])
        assert number == version + 1
        self.written += 1

    async def go_on(self) -> None:
        """Write now and then, alone or in a burst, until canceled."""
        while True:
            await asyncio.sleep(self.chance.expovariate(8.0))
            async with self.lock:
                for _ in range(self.chance.choice([1, 1, 1, 5])):
                    await database_sync_to_async(self.write)()

    def back_up(self) -> Backup:
        return Backup(list(TopicHead.objects.values()), list(ChangeLog.objects.values()))

    def restore(self, copy: Backup) -> None:
        """The database as it was then."""
        with transaction.atomic():
            TopicHead.objects.all().delete()
            ChangeLog.objects.all().delete()
            TopicHead.objects.bulk_create([TopicHead(**row) for row in copy.heads])
            ChangeLog.objects.bulk_create([ChangeLog(**row) for row in copy.log])
        self.learn()


@dataclass(frozen=True)
class Backup:
    """All rows of the log."""

    heads: list[dict[str, Any]]
    log: list[dict[str, Any]]


@dataclass
class Desk:
    """Two web processes on hosts of their own, their Redis, the writer and the lines to two clients."""

    webs: list[Web]
    redis: OwnRedis
    token: str
    chance: random.Random
    writer: Writer
    lines: list[BadLine] = field(default_factory=list)
    shown: dict[tuple[str, str, int], State] = field(default_factory=dict)

    def note(self, client: StateClient) -> None:
        """Keep what a client shows as live; it is judged when the writer has said all."""
        for topic, replica in client.replicas.items():
            if replica.is_live(time.monotonic()):
                told = {key: each.version for key, each in replica.state.items()}
                self.shown[topic, replica.epoch, replica.version] = told

    def false_live(self) -> list[tuple[str, str, int]]:
        """What was shown as live and never was true under that epoch and number."""
        return [key for key, state in self.shown.items() if not self.writer.was_once(*key, state)]

    async def has_rest(self, clients: list[StateClient]) -> bool:
        heads = await database_sync_to_async(changes.heads)(TOPICS)
        return all(
            (replica.epoch, replica.version) == (heads[topic].epoch, heads[topic].version)
            for client in clients
            for topic, replica in client.replicas.items()
        )

    def is_equal(self, client: StateClient) -> bool:
        """To the last version of every key of every topic, as the database has it now."""
        for topic, replica in client.replicas.items():
            head = changes.heads([topic])[topic]
            theirs = {each.key: each.version for each in changes.state_now(topic)}
            mine = {key: each.version for key, each in replica.state.items()}
            if (replica.epoch, replica.version, mine) != (head.epoch, head.version, theirs):
                return False
        return True


async def kill_one(desk: Desk) -> None:
    web = desk.chance.choice(desk.webs)
    web.kill()
    web.start()
    await asyncio.to_thread(web.wait)


async def kill_both(desk: Desk) -> None:
    for web in desk.webs:
        web.kill()
    for web in desk.webs:
        web.start()
    for web in desk.webs:
        await asyncio.to_thread(web.wait)


async def flush_redis(desk: Desk) -> None:
    await asyncio.to_thread(desk.redis.flush)


async def restart_redis(desk: Desk) -> None:
    desk.redis.kill()
    await asyncio.sleep(desk.chance.uniform(0.1, 1.5))
    await asyncio.to_thread(desk.redis.start)


async def restore(desk: Desk, *, by_command: bool) -> None:
    """A backup of some seconds ago comes back while everything stands still, as the manual says.

    By command a new numbering begins; else the processes find out when they start, though the log has overtaken.
    """
    copy = await database_sync_to_async(desk.writer.back_up)()
    await asyncio.sleep(desk.chance.uniform(1.0, 2.0))
    async with desk.writer.lock:
        await asyncio.sleep(1.5)  # the last changes are noted within a second
        for web in desk.webs:
            web.kill()
        before = (await database_sync_to_async(changes.heads)(TOPICS))["orders"].epoch
        await database_sync_to_async(desk.writer.restore)(copy)
        for _ in range(desk.chance.randrange(8)):
            await database_sync_to_async(desk.writer.write)()
        if by_command:
            await sync_to_async(call_command)("state", "begin-anew", "--reason", "drill", stdout=StringIO())
        await kill_both(desk)
        async with asyncio.timeout(REST_WITHIN):
            while (await database_sync_to_async(changes.heads)(TOPICS))["orders"].epoch == before:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # two processes may find out in the same moment, and begin anew twice
        await database_sync_to_async(desk.writer.learn)()


async def restore_by_command(desk: Desk) -> None:
    await restore(desk, by_command=True)


async def restore_unsaid(desk: Desk) -> None:
    await restore(desk, by_command=False)


DEEDS: tuple[Callable[[Desk], Awaitable[None]], ...] = (
    restore_unsaid,
    kill_one,
    restart_redis,
    restore_by_command,
    flush_redis,
    kill_both,
)


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[tuple[list[Web], OwnRedis]]:
    home = tmp_path_factory.mktemp("s")
    own = OwnRedis(home)
    own.start()
    webs = [Web(free_port(), _environment(home / f"host{n}", own.url), HEARTBEAT) for n in range(2)]
    try:
        for web in webs:
            web.start()
        for web in webs:
            web.wait()
        yield webs, own
    finally:
        for web in webs:
            web.kill()
        own.kill()


@pytest.fixture
def servers(processes: tuple[list[Web], OwnRedis], settings: Any) -> tuple[list[Web], OwnRedis]:
    """The writer of this process announces over the same Redis."""
    settings.REDIS_URL = processes[1].url
    layer = deepcopy(settings.CHANNEL_LAYERS)
    layer["default"]["CONFIG"]["hosts"] = [processes[1].url]
    settings.CHANNEL_LAYERS = layer
    return processes


def _environment(var: Path, redis_url: str) -> dict[str, str]:
    (var / "run").mkdir(parents=True)
    (var / "static").mkdir()
    return {
        "DATABASE_URL": database_url(),
        "REDIS_URL": redis_url,
        "REDIS_CACHE_URL": redis_url.replace("db=0", "db=1"),
        "VAR_DIR": str(var),
        "KALSHI_PROCESS": "web",
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
    }


async def opened(servers: tuple[list[Web], OwnRedis], seed: int) -> Desk:
    webs, own = servers
    chance = random.Random(seed)
    caller = await database_sync_to_async(Caller.of)("viewer", "read", username="watcher")
    writer = Writer(chance)
    await database_sync_to_async(writer.begin)()
    return Desk(webs, own, caller.token, chance, writer)


async def weather(
    desk: Desk, deed: Callable[[Desk], Awaitable[None]], kind: type[Replica], seed: int
) -> list[StateClient]:
    """One run: bad lines, cuts and one deed, then good lines until everything has come to rest."""
    desk.chance.seed(seed)
    async with AsyncExitStack() as stack:
        clients = []
        desk.lines = []
        for n, web in enumerate(desk.webs):
            line = BadLine(f"{web.origin.replace('http', 'ws')}/ws/v1/live", random.Random(seed + n))
            desk.lines.append(line)
            client = StateClient(
                await stack.enter_async_context(serving(line)),
                web.origin,
                desk.token,
                {topic: kind(topic) for topic in TOPICS},
                random.Random(seed - n),
                protocol=PROTOCOLS[n],
                lost=0.05,
                on_check=desk.note,
            )
            clients.append(await stack.enter_async_context(client))
        background = [asyncio.create_task(work) for work in (desk.writer.go_on(), _cut_now_and_then(desk))]
        await asyncio.sleep(WEATHER)
        await deed(desk)
        await asyncio.sleep(WEATHER)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for line in desk.lines:
            line.share = 0.0
        await _come_to_rest(desk, clients)
    return clients


async def _cut_now_and_then(desk: Desk) -> None:
    while True:
        await asyncio.sleep(desk.chance.uniform(1.0, 5.0))
        desk.chance.choice(desk.lines).cut()


async def _come_to_rest(desk: Desk, clients: list[StateClient]) -> None:
    for client in clients:
        client.lost = 0.0
    deadline = time.monotonic() + (REST_WITHIN if type(clients[0].replicas["orders"]) is Replica else 5.0)
    while time.monotonic() < deadline and not await desk.has_rest(clients):
        await asyncio.sleep(0.05)


async def test_after_any_weather_and_any_death_each_client_has_what_the_server_has(
    servers: tuple[list[Web], OwnRedis], figure: Figure
) -> None:
    desk = await opened(servers, 1)
    counts: Counter[str] = Counter()
    runs = size("socket_runs")
    for seed in range(runs):
        deed = DEEDS[seed % len(DEEDS)]
        clients = await weather(desk, deed, Replica, seed)
        for line in desk.lines:
            counts.update(line.counts)
        for n, client in enumerate(clients):
            equal = await database_sync_to_async(desk.is_equal)(client)
            assert equal, f"seed {seed}, {deed.__name__}, client {n}"
        assert desk.false_live() == [], f"seed {seed}, {deed.__name__}"
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "lost", "repeated", "swapped", "cut"))
    figure(
        f"{runs} runs, {2 * runs} of {2 * runs} clients equal, 0 false live; {desk.writer.written} changes; {told}"
    )


async def test_the_naive_client_stays_wrong(servers: tuple[list[Web], OwnRedis], figure: Figure) -> None:
    """Negative control: whoever takes what comes, and asks for nothing, ends with another state."""
    desk = await opened(servers, 2)
    clients = await weather(desk, flush_redis, Naive, 2)
    equal = [await database_sync_to_async(desk.is_equal)(client) for client in clients]
    figure(f"{equal.count(False)} of {len(equal)} naive clients wrong")
    assert equal == [False] * len(clients)


@dataclass
class Listener(StateClient):
    """Keeps which number of the topic each heartbeat named, and when."""

    named: list[tuple[float, int]] = field(default_factory=list)

    async def _beat(self, socket: ClientWebSocketResponse, heads: dict[str, Any], now: float) -> None:
        if "orders" in heads:
            self.named.append((now, heads["orders"][1]))
        await super()._beat(socket, heads, now)


async def test_a_lost_change_is_noticed_at_the_next_heartbeat_and_healed_within_two_seconds(
    servers: tuple[list[Web], OwnRedis], figure: Figure
) -> None:
    desk = await opened(servers, 3)
    line = BadLine(f"{desk.webs[0].origin.replace('http', 'ws')}/ws/v1/live", random.Random(3), share=0.0)
    waits, healed = [], []
    async with serving(line) as address:
        client = Listener(
            address, desk.webs[0].origin, desk.token, {"orders": Replica("orders")}, random.Random(3)
        )
        async with client, asyncio.timeout(120 if is_full() else 600):
            for _ in range(max(5, size("socket_runs"))):
                await _until(lambda: client.replicas["orders"].is_live(time.monotonic()))
                line.lose_next, asked, began = '"k":"delta"', len(client.asked), time.monotonic()
                await database_sync_to_async(desk.writer.write)("orders")
                await _until(lambda: len(client.asked) > asked)  # noqa: B023
                noticed = client.asked[asked][0]
                written = desk.writer.heads["orders"][1]
                assert sum(at <= noticed and number >= written for at, number in client.named) <= 1
                await _until(lambda: client.replicas["orders"].version == written)  # noqa: B023
                waits.append(noticed - began)
                healed.append(time.monotonic() - noticed)
    assert max(healed) <= (HEAL_WITHIN if is_full() else 10 * HEAL_WITHIN)
    figure(
        f"{len(waits)} lost changes: noticed within {max(waits):.2f} s (heartbeat {HEARTBEAT:g} s), "
        f"healed within {max(healed) * 1000:.0f} ms"
    )


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)
