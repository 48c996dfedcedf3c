"""The relay of one process: one follower however many come at once, and nothing ends it but the last who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from channels.db import database_sync_to_async

from kalshi_site.live import changed
from kalshi_site.live.catchup import Change, Head
from kalshi_site.live.relay import Listener, Relay

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(autouse=True)
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshi_site.live.relay.LOOK_EVERY", 0.02)
    monkeypatch.setattr("kalshi_site.live.relay.REST", 0.02)
    monkeypatch.setattr("kalshi_site.live.relay.NOTE_EVERY", 0.0)


def broken_once() -> Callable[..., bool]:
    calls: list[Any] = []

    def act(*args: Any) -> bool:
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("broken")
        return False

    return act


def into(heard: asyncio.Queue[int]) -> Listener:
    def listen(_: str, head: Head, __: Sequence[Change] | None, ___: dict[int, str]) -> None:
        heard.put_nowait(head.version)

    return listen


async def change() -> None:
    await database_sync_to_async(changed)("orders", key="ord_1", version=1)


async def next_of(heard: asyncio.Queue[int]) -> int:
    async with asyncio.timeout(5):
        return await heard.get()


def followers() -> int:
    return sum(task.get_name() == "live relay" and not task.done() for task in asyncio.all_tasks())


async def test_twenty_who_come_at_once_share_one_follower() -> None:
    """Naive: each sees no follower yet, reads where the log stands, and then begins its own."""
    relay = Relay(("orders",))
    heard: asyncio.Queue[int] = asyncio.Queue()
    listeners = [into(heard) for _ in range(20)]
    await asyncio.gather(*(relay.join(each) for each in listeners))
    assert followers() == 1
    await change()
    assert [await next_of(heard) for _ in listeners] == [1] * 20
    for each in listeners:
        relay.leave(each)
    await asyncio.sleep(0)
    assert followers() == 0


async def test_who_leaves_while_the_relay_opens_leaves_no_follower_behind() -> None:
    relay = Relay(("orders",))
    listener = into(asyncio.Queue())
    joining = asyncio.create_task(relay.join(listener))
    await asyncio.sleep(0)
    relay.leave(listener)
    await joining
    assert followers() == 0


async def test_changes_arrive_though_the_first_question_broke() -> None:
    relay = Relay(("orders",), broken_once())
    heard: asyncio.Queue[int] = asyncio.Queue()
    listener = into(heard)
    await relay.join(listener)
    await change()
    assert await next_of(heard) == 1
    relay.leave(listener)


async def test_changes_arrive_though_a_look_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive: only the database's own errors are survived, and any other ends the follower for good."""
    monkeypatch.setattr("kalshi_site.live.relay.witness.note", broken_once())
    relay = Relay(("orders",))
    heard: asyncio.Queue[int] = asyncio.Queue()
    listener = into(heard)
    await relay.join(listener)
    for number in (1, 2):
        await change()
        assert await next_of(heard) == number
    relay.leave(listener)


async def test_a_listener_that_breaks_keeps_no_other_from_its_news() -> None:
    """Naive: the first exception ends the round, and whoever stands behind it hears nothing."""
    relay = Relay(("orders",))
    heard: asyncio.Queue[int] = asyncio.Queue()

    def broken() -> Listener:
        def listen(*_: object) -> None:
            raise RuntimeError("no socket")

        return listen

    listeners = [*(broken() for _ in range(9)), into(heard)]  # in what order they are told is chance
    for each in listeners:
        await relay.join(each)
    await change()
    assert await next_of(heard) == 1
    for each in listeners:
        relay.leave(each)
