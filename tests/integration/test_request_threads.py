"""The web process answers in threads that last: what one request has opened, the next need not open again."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.decorators import login_not_required
from django.core.asgi import get_asgi_application
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path

from kalshi_site import handler

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


opened: list[Any] = []


@login_not_required
def where(request: HttpRequest) -> JsonResponse:
    """Which thread answers, over which of the connections that were opened."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if connection.connection not in opened:
        opened.append(connection.connection)
    if request.GET.get("old"):
        connection.close_at = time.monotonic()
    number = opened.index(connection.connection)
    return JsonResponse({"thread": threading.current_thread().name, "connection": number})


gate = threading.Event()
inside = threading.Semaphore(0)  # one more for each that has come to the gate
halted: list[str] = []


@login_not_required
def slow(_: HttpRequest) -> JsonResponse:
    """Waits for a lock that somebody else holds."""
    inside.release()
    assert gate.wait(60)
    return JsonResponse({})


@login_not_required
def halt(_: HttpRequest) -> JsonResponse:
    halted.append(threading.current_thread().name)
    return JsonResponse({})


urlpatterns = [path("where", where), path("slow", slow), path("trading/halt", halt)]


@pytest.fixture(autouse=True)
def only_this_page(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


async def begin(app: Any, page: str, query: bytes = b"") -> ApplicationCommunicator:
    scope = {"type": "http", "method": "GET", "path": page, "query_string": query, "headers": []}
    line = ApplicationCommunicator(app, {**scope, "http_version": "1.1", "server": ("localhost", 80)})
    await line.send_input({"type": "http.request"})
    return line


async def ask(app: Any, query: bytes = b"", *, page: str = "/where") -> tuple[int, dict[str, Any]]:
    line = await begin(app, page, query)
    start, body = await line.receive_output(30), await line.receive_output(30)
    await line.wait(30)
    return start["status"], json.loads(body["body"])


@pytest.fixture
def keeps_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the web process; a wrapper of another thread is made from the settings, which are read once."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 5)
    # Of several threads another may answer: the first has given its answer before it is free again.
    monkeypatch.setattr(handler, "THREADS", 1)


async def test_two_requests_share_a_thread_and_its_connection(keeps_connections: None) -> None:
    app = handler.DeskHandler()
    first, second = await ask(app), await ask(app)
    assert first[0] == 200 and first == second
    assert first[1]["thread"].startswith("request")


async def test_djangos_own_handler_opens_the_database_for_each(keeps_connections: None) -> None:
    app = get_asgi_application()
    (_, first), (_, second) = await ask(app), await ask(app)
    assert first["connection"] != second["connection"] or first["thread"] != second["thread"]


async def test_a_connection_that_has_served_its_time_is_opened_anew(keeps_connections: None) -> None:
    app = handler.DeskHandler()
    (_, first), (_, second) = await ask(app, b"old=1"), await ask(app)
    assert (first["thread"], first["connection"] + 1) == (second["thread"], second["connection"])


@pytest.fixture
def full() -> Iterator[handler.DeskHandler]:
    """A handler all of whose threads wait for something."""
    gate.clear()
    halted.clear()
    while inside.acquire(blocking=False):
        pass
    yield handler.DeskHandler()
    gate.set()


async def all_threads_wait() -> None:
    for _ in range(handler.THREADS):
        assert await asyncio.to_thread(inside.acquire, timeout=30)


async def test_a_stop_waits_for_no_request_that_waits(full: handler.DeskHandler) -> None:
    waiting = [await begin(full, "/slow") for _ in range(handler.THREADS + 1)]
    await all_threads_wait()
    assert (await ask(full, page="/trading/halt"))[0] == 200
    assert halted[0].startswith("way-out")
    gate.set()
    for line in waiting:
        assert (await line.receive_output(30))["status"] == 200
        await line.receive_output(30)
        await line.wait(30)


async def test_whoever_hangs_up_while_the_stop_waits_has_stopped(
    full: handler.DeskHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: the queued call is canceled with its request, and the click has done nothing."""
    monkeypatch.setattr(handler, "WAY_OUT", re.compile("nothing"))
    waiting = [await begin(full, "/slow") for _ in range(handler.THREADS)]
    await all_threads_wait()
    line = await begin(full, "/trading/halt")
    async with asyncio.timeout(30):
        while not full._threads._work_queue.qsize():
            await asyncio.sleep(0.01)
    await line.send_input({"type": "http.disconnect"})
    await line.wait(30)
    assert not halted
    gate.set()
    for each in waiting:
        await each.receive_output(30)
        await each.receive_output(30)
        await each.wait(30)
    async with asyncio.timeout(30):
        while not halted:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "page",
    [
        *("/trading/state", "/api/v1/trading/halt", "/api/v1/trading/pause", "/api/v1/trading/liquidate"),
        *("/orders/ord_1/cancel", "/orders/cancel-all", "/api/v1/orders/ord_1/decrease", "/livez"),
        *("/api/v1/positions/KX-1/close", "/risk/liquidate"),
    ],
)
def test_each_way_out_has_threads_of_its_own(page: str) -> None:
    assert handler.WAY_OUT.search(page)
    assert not handler.WAY_OUT.search("/api/v1/proposals/prop_1/approve")
