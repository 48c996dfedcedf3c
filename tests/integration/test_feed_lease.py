"""One feed writes: another stands by, and one that was frozen and outrun neither writes nor ends the other's quotes."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections
from django.db.models import F

from kalshi_site import fenced, locks
from kalshi_site.models import Lease
from tests.integration.test_feed import FakeExchange, Running, definition, feeding, quote, snapshot
from trading.market_data.feed import LEASE, Pace
from trading.models import Quote

TTL = timedelta(seconds=30)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def no_connection_stays_open() -> AsyncIterator[None]:
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture
def held() -> Iterator[locks.Held]:
    with locks.lease(LEASE, ttl=TTL) as lease:
        yield lease


def take_over() -> None:
    """Another feed takes the lease and writes what it sees."""
    Lease.objects.filter(name=LEASE).update(holder="another", fence=F("fence") + 1)
    Quote.objects.update(yes_bid=Decimal("0.30"), yes_ask=Decimal("0.32"), trusted=True)


async def outrun(running: Running) -> None:
    await running.until(lambda: quote("A") is not None)
    running.stream.say(snapshot("A"))
    await running.until(lambda: Quote.objects.filter(market="A", trusted=True).exists())
    await sync_to_async(take_over)()
    running.stream.say(snapshot("A", bid=4500, ask=4700))


async def feed_until_outrun(held: locks.Held) -> None:
    async with feeding(FakeExchange(definition("A")), held=held) as running:
        await outrun(running)
        await running.ended()


async def test_an_outrun_feed_writes_nothing_more_and_ends(held: locks.Held) -> None:
    with pytest.raises(BaseExceptionGroup) as end:
        await feed_until_outrun(held)
    assert {type(each) for each in end.value.exceptions} == {locks.Outrun}
    row = await Quote.objects.aget()
    assert (row.yes_bid, row.trusted) == (Decimal("0.30"), True), "they are the other feed's quotes"


async def test_the_naive_feed_writes_its_old_book_over_the_newer_one_and_distrusts_it() -> None:
    async with feeding(FakeExchange(definition("A"))) as running:
        await outrun(running)
        await running.until(lambda: Quote.objects.filter(yes_bid=Decimal("0.45")).exists())
    assert not (await Quote.objects.aget()).trusted


# Between two of its writes a feed publishes several times; here it never comes to the next write.
TALKATIVE = Pace(write=600, publish=0.02, catalogue=600, sweep=600)


def bids(running: Running) -> list[str]:
    return [tick["yes_bid"] for batch in running.ticks for tick in batch["quotes"] if tick["yes_bid"]]


async def outrun_between_two_writes(running: Running) -> None:
    running.stream.say(snapshot("A"))
    await running.until(lambda: bids(running) == ["0.4000"])
    await sync_to_async(take_over)()
    running.stream.say(snapshot("A", bid=4500, ask=4700))


async def test_an_outrun_feed_publishes_nothing_more_and_ends(held: locks.Held) -> None:
    told: list[str] = []

    async def publish_until_outrun() -> None:
        async with feeding(FakeExchange(definition("A")), held=held, pace=TALKATIVE) as running:
            await outrun_between_two_writes(running)
            await running.ended()
            told.extend(bids(running))

    with pytest.raises(BaseExceptionGroup) as end:
        await publish_until_outrun()
    assert {type(each) for each in end.value.exceptions} == {locks.Outrun}
    assert told == ["0.4000"]


async def test_the_naive_feed_publishes_its_old_book_as_the_price_of_now() -> None:
    async with feeding(FakeExchange(definition("A")), pace=TALKATIVE) as running:
        await outrun_between_two_writes(running)
        await running.until(lambda: bids(running) == ["0.4000", "0.4500"])


async def test_a_feed_that_freezes_after_its_last_look_says_how_old_its_prices_are(
    held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: date them when they go out. Then prices of before the freeze look like those of now."""
    woken_ms: list[int] = []

    def frozen(_: locks.Held) -> None:
        time.sleep(0.2)
        woken_ms.append(int(time.time() * 1000))

    monkeypatch.setattr(locks.Held, "require_so_far", frozen)
    async with feeding(FakeExchange(definition("A")), held=held, pace=TALKATIVE) as running:
        running.stream.say(snapshot("A"))
        await running.until(lambda: bids(running) == ["0.4000"])
        assert running.ticks[-1]["quotes"][0]["ts"] <= woken_ms[-1] - 200


async def test_what_cannot_be_proven_is_published_once_it_can_be(
    held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def out_of_reach(_: locks.Held) -> None:
        asked.append(True)
        if len(asked) < 4:
            raise OperationalError("out of reach")

    monkeypatch.setattr(locks.Held, "require_so_far", out_of_reach)
    async with feeding(FakeExchange(definition("A")), held=held, pace=TALKATIVE) as running:
        running.stream.say(snapshot("A"))
        await running.until(lambda: bids(running) == ["0.4000"])
    assert len(asked) >= 4


def test_a_second_feed_stands_by_until_the_first_is_gone() -> None:
    begun: list[float] = []

    def second() -> None:
        try:
            with suppress(locks.Busy), fenced.standing_by(LEASE, ttl=TTL, look_every=0.02):
                begun.append(time.monotonic())
        finally:
            connections.close_all()

    with locks.lease(LEASE, ttl=TTL):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        assert not begun
        freed = time.monotonic()
    thread.join(30)
    assert len(begun) == 1 and begun[0] >= freed
