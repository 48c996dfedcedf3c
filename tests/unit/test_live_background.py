"""An announcement costs the deed nothing: it goes out from a thread of its own, in order, whatever the layer does."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from kalshi_site import live
from kalshi_site.live.background import CAPACITY, Background


class Layer:
    """Notes what comes and on which thread; hangs or fails for the topics it was told to."""

    def __init__(self, *, hangs: str = "", fails: str = "") -> None:
        self.heard: list[tuple[str, Any]] = []
        self.threads: set[str] = set()
        self.last = threading.Event()
        self.hung = threading.Event()
        self._hangs, self._fails = hangs, fails

    async def send(self, topic: str, message: dict[str, Any]) -> None:
        self.threads.add(threading.current_thread().name)
        if topic == self._hangs:
            self.hung.set()
            await asyncio.Event().wait()
        if topic == self._fails:
            raise OSError("the layer is gone")
        self.heard.append((topic, message.get("n")))
        if message.get("last"):
            self.last.set()


def test_announcements_keep_their_order_and_leave_the_thread_of_the_deed() -> None:
    layer = Layer()
    background = Background(layer.send, patience=1.0, pause=0.0)
    for number in range(20):
        assert background.hand_over("orders", {"n": number, "last": number == 19})
    assert layer.last.wait(10)
    assert layer.heard == [("orders", number) for number in range(20)]
    assert layer.threads == {"live-announcements"}


@pytest.mark.parametrize("fault", ["hangs", "fails"])
def test_one_that_hangs_or_fails_costs_neither_the_deed_nor_those_after_it(fault: str) -> None:
    layer = Layer(**{fault: "odd"})
    background = Background(layer.send, patience=0.01, pause=0.0, silence=0.0)
    assert background.hand_over("odd", {})
    assert background.hand_over("orders", {"n": 1, "last": True})
    assert layer.last.wait(10)
    assert layer.heard == [("orders", 1)]


def test_when_too_many_wait_the_newest_is_dropped_and_the_deed_is_told() -> None:
    layer = Layer(hangs="odd")
    background = Background(layer.send, patience=3600.0, pause=0.0)
    assert background.hand_over("odd", {})
    assert layer.hung.wait(10)  # until then its thread takes from the queue as fast as the test fills it
    assert [background.hand_over("odd", {}) for _ in range(CAPACITY + 10)] == [True] * CAPACITY + [False] * 10


def test_a_process_that_asked_for_it_publishes_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Layer()
    monkeypatch.setattr(live, "_background", [Background(layer.send, patience=1.0, pause=0.0)])
    assert live.publish("orders", {"id": "ord_1"})
    deadline = time.monotonic() + 10
    while not layer.heard and time.monotonic() < deadline:
        time.sleep(0.005)
    assert layer.threads == {"live-announcements"}
