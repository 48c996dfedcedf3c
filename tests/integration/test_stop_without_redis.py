"""Stop at the page and over REST while every Redis is dead, or worse: takes connections and never answers.

What a stop needs is the database. Counting, caching, announcing and nudging all ask Redis, and none may hold it up.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connections
from django.test import Client

from kalshi_site import live
from portfolio.models import TradingState
from tests import factories
from tests.callers import Caller

SECRET = "a long secret of nobody else"
PATIENCE = 60.0  # seconds: each part gives up after one or two; a busy machine takes its time
# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(configured.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["dead", pytest.param("mute", marks=pytest.mark.slow)])
def no_redis(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """All that asks Redis asks an empty port, or one where nobody answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "mute":
            server.listen()
        address = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        layer, cache = settings.CHANNEL_LAYERS["default"], settings.CACHES["default"]
        settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [address]}}}
        settings.CACHES = {"default": {**cache, "LOCATION": address}}
        settings.REDIS_URL = settings.REDIS_CACHE_URL = settings.CELERY_BROKER_URL = address
        monkeypatch.setattr(live, "_silent_until", [float("-inf")])  # it waits anew
        yield


def stopped_by(press: Callable[[], Any]) -> Any:
    """The answer to the press. The stop stands at its commit, as others see it, and the answer comes too."""
    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(press())
        finally:
            connections.close_all()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    deadline = time.monotonic() + PATIENCE
    while not TradingState.objects.filter(scope="", mode="HALTED").exists():
        assert time.monotonic() < deadline, "it is not stopped"
        time.sleep(0.02)
    worker.join(PATIENCE)
    assert answers, "no answer"
    return answers[0]


@pytest.mark.usefixtures("no_redis")
def test_stop_on_the_page_stops_without_redis() -> None:
    user, client = factories.approver(), Client(raise_request_exception=False)
    user.set_password(SECRET)
    user.save()
    # Who tries to sign in is counted in the cache: whoever is out must come in to stop.
    assert client.post("/accounts/login/", {"login": user.username, "password": SECRET}).status_code == 302
    assert 'value="HALTED"' in client.get("/risk").content.decode()
    answer = stopped_by(lambda: client.post("/trading/state", {"to": "HALTED", "next": "/risk"}, follow=True))
    assert answer.status_code == 200
    assert "Trading is stopped: nothing new goes out" in answer.content.decode()


@pytest.mark.usefixtures("no_redis")
def test_stop_over_rest_stops_without_redis() -> None:
    caller = Caller.of("approver")
    paused = caller.post("/trading/pause", {"reason": "news"})  # counted, and kept under its key
    assert (paused.status_code, paused.json()["mode"]) == (200, "REDUCING")
    answer = stopped_by(lambda: caller.post("/trading/halt", {"reason": "fire"}))
    assert (answer.status_code, answer.json()["mode"], answer.json()["reason"]) == (200, "HALTED", "fire")
    assert caller.get("/trading/state").json()["mode"] == "HALTED"
