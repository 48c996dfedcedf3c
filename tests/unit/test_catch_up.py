"""After every connect of the private stream, and now and then, orders, fills and positions are asked for by REST."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from trading.exchange.errors import Unreachable
from trading.exchange.events import Connected, Heartbeat
from trading.execution.catch_up import AGAIN, EVERY, SOON, CatchUp
from trading.execution.own_stream import OwnStream


class Asked:
    """A reconciler that only remembers what was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_away = False

    def open_account(self) -> datetime:
        if self.is_away:
            raise Unreachable("no connection")
        return datetime(2026, 1, 1, tzinfo=UTC)

    def orders(self, found: Any) -> None:
        self.calls.append("orders")

    def fills(self, found: Any, opened_at: datetime) -> None:
        self.calls.append("fills")

    def compare(self, found: Any) -> None:
        self.calls.append("positions")
        found.position_drift["A"] = "exchange 1, ours 0"


class Hands:
    def __init__(self) -> None:
        self.now = 100.0
        self.asked = Asked()
        self.catch_up = CatchUp(self.asked, monotonic=lambda: self.now)  # type: ignore[arg-type]
        self.news = OwnStream("paper", lambda: None, threading.Event(), self.catch_up)  # type: ignore[arg-type, return-value]


def test_nothing_is_asked_before_the_first_connection() -> None:
    hands = Hands()
    hands.now += 10 * EVERY
    assert hands.catch_up.if_due() is None
    assert hands.asked.calls == []


def test_a_connection_asks_for_orders_fills_and_positions_and_then_once_a_minute() -> None:
    hands = Hands()
    hands.news.apply(Connected(1))
    found = hands.catch_up.if_due()
    assert hands.asked.calls == ["orders", "fills", "positions"]
    assert found is not None
    assert found.position_drift
    assert hands.catch_up.if_due() is None
    hands.now += EVERY
    assert hands.catch_up.if_due() is not None
    assert len(hands.asked.calls) == 6


def test_every_reconnect_asks_again() -> None:
    hands = Hands()
    for _ in range(3):
        hands.news.apply(Connected(1))
        hands.catch_up.if_due()
    assert hands.asked.calls.count("fills") == 3


def test_an_exchange_out_of_reach_is_asked_again_soon() -> None:
    hands = Hands()
    hands.asked.is_away = True
    hands.news.apply(Connected(1))
    assert hands.catch_up.if_due() is None
    hands.asked.is_away = False
    hands.now += AGAIN - 1
    assert hands.catch_up.if_due() is None
    hands.now += 1
    assert hands.catch_up.if_due() is not None


def test_what_only_rest_can_explain_is_asked_for_within_a_second_and_once_for_all_that_comes_meanwhile() -> (
    None
):
    hands = Hands()
    for _ in range(3):
        hands.catch_up.soon()
        assert hands.catch_up.if_due() is None
        hands.now += SOON / 4
    hands.now += SOON / 4
    assert hands.catch_up.if_due() is not None
    assert hands.asked.calls.count("fills") == 1


def test_other_news_asks_for_nothing() -> None:
    hands = Hands()
    hands.news.apply(Heartbeat(1))
    assert hands.catch_up.if_due() is None


def test_a_stream_that_breaks_is_opened_anew() -> None:
    """Naive: one message that nobody expects ends the early news until the process is started again."""
    stop, opened = threading.Event(), threading.Semaphore(0)

    class Breaking:
        async def run(self, sink: Callable[[Any], None]) -> None:
            opened.release()
            raise KeyError("an odd message")

        async def stop(self) -> None:
            """Nothing is open."""

    news = OwnStream("paper", Breaking, stop, again=0.0)  # type: ignore[arg-type, return-value]
    thread = threading.Thread(target=news._follow, daemon=True)
    thread.start()
    assert all(opened.acquire(timeout=10) for _ in range(3))
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
