"""What was missed comes again: over REST as changes or snapshot, over the socket in order, also without any hint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import transaction
from django.utils import timezone

from kalshi_site import live
from kalshi_site.live import changes
from kalshi_site.live.catchup import digest_of
from kalshi_site.models import AuditEntry, ChangeLog, TopicHead
from portfolio import ledger, risk
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.models import TradingState
from tests import factories
from tests.callers import Caller
from tests.integration.test_live_channel import channel, cookie_of, ended, follow, signed_in
from trading import consumers
from trading.domain.hours import ShardState
from trading.domain.orders import BookSide
from trading.exchange.conformity import DriftKind
from trading.exchange.drift import Sentinel
from trading.exchange.findings import Drift
from trading.exchange.reports import ExchangeState as Told
from trading.exchange.reports import Maintenance
from trading.execution import liquidation
from trading.market_data import drift
from trading.market_data.exchange_watch import write_state
from trading.models import DriftNote, ExchangeState, Quote

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def change(key: str, version: int = 1, topic: str = "orders") -> int:
    return live.changed(topic, key=key, version=version)


@pytest.fixture
def viewer() -> Caller:
    return Caller.of("viewer")


def ask(caller: Caller, **query: Any) -> dict[str, Any]:
    answer = caller.get(f"/state?{urlencode(query)}")
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = json.loads(answer.content)
    return body


def test_a_client_without_a_past_gets_the_snapshot(viewer: Caller) -> None:
    for version in (1, 2):
        change("ord_1", version)
    change("ord_2")
    told = ask(viewer, topic="orders")
    assert (told["version"], [(each["id"], each["version"]) for each in told["snapshot"]]) == (
        3,
        [("ord_1", 2), ("ord_2", 1)],
    )
    assert "changes" not in told
    assert told["digest"] == changes.digest_of_now("orders")


def test_a_client_with_a_past_gets_what_it_missed_and_304_when_that_is_nothing(viewer: Caller) -> None:
    seen = ask(viewer, topic="orders")
    change("ord_1")
    missed = ask(viewer, topic="orders", since=seen["version"], epoch=seen["epoch"])
    assert [(each["s"], each["id"]) for each in missed["changes"]] == [(1, "ord_1")]
    tag = f'"{missed["epoch"]}:{missed["version"]}"'
    again = viewer.get(f"/state?topic=orders&since=1&epoch={seen['epoch']}", If_None_Match=tag)
    assert (again.status_code, again["ETag"]) == (304, tag)


def test_a_new_epoch_makes_every_client_start_over(viewer: Caller) -> None:
    change("ord_1")
    seen = ask(viewer, topic="orders")
    changes.begin_anew(actor="operator", reason="restored from a backup")
    told = ask(viewer, topic="orders", since=seen["version"], epoch=seen["epoch"])
    assert told["epoch"] != seen["epoch"]
    assert len(told["snapshot"]) == 1
    assert AuditEntry.objects.get().verb == "state.epoch"


def test_objects_come_along_on_request(viewer: Caller) -> None:
    order = factories.OrderFactory()
    change(order.public_id)
    change("ord_gone")
    told = ask(viewer, topic="orders", expand="object")
    assert [each["object"] and each["object"]["status"] for each in told["snapshot"]] == ["resting", None]
    risk.pause(venue=factories.VENUE, actor="operator", reason="lunch")
    state = ask(viewer, topic="trading", expand="object")["snapshot"][0]
    assert (state["id"], state["object"]["mode"]) == (factories.VENUE, "REDUCING")


def hear(*fields: str) -> list[DriftNote]:
    """Let the exchange leave out fields that money depends on."""
    sentinel = Sentinel()
    for field in fields:
        sentinel.note(Drift(DriftKind.MISSING_FIELD, "GET /markets", field, is_money=True))
    return drift.write_down(venue=factories.VENUE, process="feed", heard=sentinel.take())


def exchange_tells(*, is_trading: bool) -> ExchangeState:
    now = timezone.now()
    told = Told(is_active=True, is_trading=is_trading, resumes_at=None, shards=(ShardState(0, True, True),))
    hours = (Maintenance(now + timedelta(days=1), now + timedelta(days=2)),)
    return write_state(venue=factories.VENUE, told=told, maintenance=hours, weekly=False)


def highest_of_each(told: Iterable[dict[str, Any]]) -> dict[str, tuple[int, str]]:
    """What a script keeps that takes a change for news when its version is higher than the one it has."""
    kept: dict[str, tuple[int, str]] = {}
    for each in told:
        if each["version"] > kept.get(each["id"], (0, ""))[0]:
            kept[each["id"]] = (each["version"], each["kind"])
    return kept


def test_a_resume_is_news_whatever_the_exchange_and_its_drifts_have_said_before(viewer: Caller) -> None:
    seen = ask(viewer, topic="trading")
    for is_trading in (True, False, True, False, True):
        exchange_tells(is_trading=is_trading)
    notes = hear("markets[].yes_bid_dollars", "markets[].yes_ask_dollars")
    for note in notes:
        drift.acknowledge(note=note, actor="risk1", reason="known")
    risk.resume(venue=factories.VENUE, actor="risk1", reason="known")
    missed = ask(viewer, topic="trading", since=seen["version"], epoch=seen["epoch"])["changes"]
    kept, state = highest_of_each(missed), TradingState.objects.get()
    assert kept == {
        factories.VENUE: (state.version, "active"),
        f"{factories.VENUE} exchange": (ExchangeState.objects.get().version, "exchange"),
        **{f"drift {note.pk}": (2, "drift") for note in notes},
    }


def test_each_key_of_trading_brings_the_object_that_it_names(viewer: Caller) -> None:
    venue = factories.VENUE
    exchange_tells(is_trading=False)
    (note,) = hear("markets[].yes_bid_dollars")
    drift.acknowledge(note=note, actor="risk1", reason="known")
    risk.set_autonomy(venue=venue, level=AutonomyLevel.OFF, actor="risk1")
    risk.set_limit(name="data_age", value=Decimal(20), actor="risk1", reason="a slow line")
    risk.pause(venue=venue, scope="series:SIMTEST", actor="risk1", reason="odd prices")
    sold = liquidation.request(venue=venue, actor="risk1", reason="fire", slippage=Decimal("0.05"))
    told = {each["id"]: each for each in ask(viewer, topic="trading", expand="object")["snapshot"]}
    assert {key: each["object"]["version"] for key, each in told.items()} == {
        key: each["version"] for key, each in told.items()
    }
    objects = {key: each["object"] for key, each in told.items()}
    assert objects.keys() == {
        *(venue, f"{venue} series:SIMTEST", f"{venue} autonomy", f"{venue} exchange"),
        *("limit data_age", f"drift {note.pk}", sold.public_id),
    }
    assert (objects[venue]["mode"], objects[f"{venue} series:SIMTEST"]["mode"]) == ("HALTED", "REDUCING")
    assert objects[f"{venue} autonomy"]["level"] == "off"
    assert objects[f"{venue} exchange"]["is_trading"] is False
    assert objects[f"{venue} exchange"]["shards"] == [
        {"exchange_index": 0, "is_active": True, "is_trading": True}
    ]
    assert objects[f"{venue} exchange"]["maintenance"][0].keys() == {"start_at", "end_at"}
    limit = objects["limit data_age"]
    assert (limit["name"], limit["value"], limit["unit"]) == ("data_age", "20.000000", "seconds")
    assert objects[f"drift {note.pk}"]["acknowledged_by"] == "risk1"
    assert objects[sold.public_id]["reason"] == "fire"


def test_a_position_that_comes_along_is_the_one_that_its_own_address_shows(viewer: Caller) -> None:
    market = factories.quoted_market()
    with transaction.atomic():
        ledger.book_fill(
            venue=factories.VENUE,
            ticker=market.ticker,
            event_ticker=market.event_ticker,
            title=market.title,
            book_side=BookSide.BID,
            count=Decimal(4),
            yes_price=Decimal("0.49"),
            fee=Decimal("0.07"),
            reference="trade-1",
            at=timezone.now(),
        )
    Quote.objects.update(yes_bid=Decimal("0.10"))
    (told,) = ask(viewer, topic="positions", expand="object")["snapshot"]
    assert (told["object"]["mark"], told["object"]["unrealized"]) == ("0.1000", "-1.560000")
    assert told["object"] == viewer.get(f"/positions/{market.ticker}").json()


@pytest.mark.parametrize("query", [{}, {"topic": "quotes"}, {"topic": "orders", "since": "now"}])
def test_bad_questions_are_refused_with_their_reason(viewer: Caller, query: dict[str, str]) -> None:
    answer = viewer.get(f"/state?{urlencode(query)}")
    assert answer.status_code == 422
    assert json.loads(answer.content)["errors"]


def test_cutting_the_log_loses_no_state(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "ROWS_KEPT", 5)
    change("KXOLD", topic="positions")
    for version in range(1, 10):
        change("KXBUSY", version, topic="positions")
    assert changes.cut() == 4
    assert TopicHead.objects.get(topic="positions").kept_after == 5
    snapshot = ask(viewer, topic="positions")["snapshot"]
    assert {each["id"]: each["version"] for each in snapshot} == {"KXOLD": 1, "KXBUSY": 9}
    epoch = TopicHead.objects.get(topic="positions").epoch
    assert "changes" in ask(viewer, topic="positions", since=5, epoch=epoch)
    assert "snapshot" in ask(viewer, topic="positions", since=4, epoch=epoch)


def test_a_change_that_is_rolled_back_takes_its_number_with_it() -> None:
    change("ord_1")
    with transaction.atomic():
        change("ord_2")
        transaction.set_rollback(True)
    assert change("ord_3") == 2
    assert list(ChangeLog.objects.order_by("version").values_list("version", "key")) == [
        (1, "ord_1"),
        (2, "ord_3"),
    ]


async def frames(socket: Any, kind: str, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < number:
        frame = await socket.receive_json_from()
        if frame["k"] == kind:
            found.append(frame)
    return found


async def test_changes_arrive_in_order_without_any_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "publish", lambda *_: False)  # Redis is away
    socket = await signed_in()
    await follow(socket, "orders")
    for n in range(5):
        await database_sync_to_async(change)(f"ord_{n}")
    told = await frames(socket, "delta", 5)
    assert [(frame["s"], frame["d"]["id"]) for frame in told] == [(n + 1, f"ord_{n}") for n in range(5)]
    await socket.disconnect()


async def test_a_hint_makes_the_change_arrive_at_once_and_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalshi_site.live.relay.LOOK_EVERY", 60.0)
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(change)("ord_1")
    (frame,) = await frames(socket, "delta", 1)
    layer = get_channel_layer()
    await layer.group_send(
        live.group_of("orders"), {"type": "live.event", "topic": "orders", "data": {}, "ts": 1}
    )
    assert frame["s"] == 1
    assert await socket.receive_nothing(timeout=0.5)
    await socket.disconnect()


async def test_resuming_brings_what_was_missed_or_says_that_it_cannot() -> None:
    for n in range(3):
        await database_sync_to_async(change)(f"ord_{n}")
    epoch = (await database_sync_to_async(changes.heads)(["orders"]))["orders"].epoch
    socket = await signed_in()
    await follow(socket, "orders")
    await socket.send_json_to({"op": "resume", "topics": {"orders": [epoch, 1]}})
    assert [frame["s"] for frame in await frames(socket, "delta", 2)] == [2, 3]
    await socket.send_json_to({"op": "resume", "topics": {"orders": ["another", 1]}})
    (snap,) = await frames(socket, "snap", 1)
    assert (snap["s"], snap["d"]["e"]) == (3, epoch)
    await socket.send_json_to({"op": "resume", "topics": {"orders": "nonsense"}})
    assert (await frames(socket, "snap", 1))[0]["s"] == 3
    await socket.disconnect()


async def test_a_heartbeat_tells_where_each_followed_topic_stands(settings: Any) -> None:
    settings.LIVE_HEARTBEAT_SECONDS = 0.3
    await database_sync_to_async(change)("ord_1")
    epoch = (await database_sync_to_async(changes.heads)(["orders"]))["orders"].epoch
    socket = await signed_in()
    await follow(socket, "orders")
    (ping,) = await frames(socket, "ping", 1)
    assert ping["d"]["heads"] == {"orders": [epoch, 1]}
    await socket.disconnect()


async def test_every_hundredth_change_carries_the_digest_of_the_state() -> None:
    for n in range(99):
        await database_sync_to_async(change)(f"ord_{n % 7}", n)
    socket = await signed_in()
    await follow(socket, "orders")
    await database_sync_to_async(change)("ord_1", 99)
    (frame,) = await frames(socket, "delta", 1)
    state = await database_sync_to_async(changes.state_now)("orders")
    assert frame["d"]["digest"] == digest_of(state)
    await socket.disconnect()


async def test_a_burst_that_no_queue_should_hold_becomes_one_word_to_ask() -> None:
    socket = await signed_in()
    await follow(socket, "orders")

    def burst() -> None:
        with transaction.atomic():
            for n in range(300):
                change(f"ord_{n}")

    await database_sync_to_async(burst)()
    (snap,) = await frames(socket, "snap", 1)
    assert snap["s"] == 300
    await socket.disconnect()


async def test_a_socket_ends_before_the_server_in_front_would_end_them_all(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    settings.LIVE_HEARTBEAT_SECONDS = 0.1
    monkeypatch.setattr(consumers, "LIFE", 0.0)
    socket = await channel(await sync_to_async(cookie_of)("viewer"))
    await socket.connect()
    assert await ended(socket) == 1012
