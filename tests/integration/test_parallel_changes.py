"""Writers at the same moment: a topic's numbers are given out once, in the order of the commits, without a gap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connections, transaction

from kalshi_site import live
from kalshi_site.models import ChangeLog, TopicHead

TOPIC = "orders"
WRITERS, ROUNDS = 4, 25

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(autouse=True)
def without_announcements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "publish", lambda *_: True)


def change(writer: int, turn: int) -> int | None:
    """One change; every fifth transaction comes to nothing. The number that it got."""
    with transaction.atomic():
        number = live.changed(TOPIC, key=f"ord_{writer}", version=turn)
        if (writer + turn) % 5 == 0:
            transaction.set_rollback(True)
            return None
    return number


def at_once(work: Callable[[int, int], int | None]) -> list[int]:
    """Let all writers do this so many times, each time at the same moment. The numbers that were given out."""
    start = threading.Barrier(WRITERS)

    def writer(which: int) -> list[int | None]:
        try:
            told = []
            for turn in range(ROUNDS):
                start.wait(30)
                told.append(work(which, turn))
            return told
        finally:
            connections.close_all()

    with ThreadPoolExecutor(WRITERS) as threads:
        told = [number for each in threads.map(writer, range(WRITERS)) for number in each]
    return sorted(number for number in told if number is not None)


def test_parallel_writers_get_each_number_once_and_leave_none_out() -> None:
    given = at_once(change)
    assert given == list(range(1, len(given) + 1))
    assert list(ChangeLog.objects.order_by("version").values_list("version", flat=True)) == given
    assert TopicHead.objects.get(topic=TOPIC).version == len(given) == WRITERS * ROUNDS * 4 // 5


def test_whoever_reads_meanwhile_never_sees_a_number_without_those_before_it() -> None:
    seen: list[list[int]] = []
    is_over = threading.Event()

    def read() -> None:
        try:
            while not is_over.is_set():
                seen.append(list(ChangeLog.objects.order_by("version").values_list("version", flat=True)))
        finally:
            connections.close_all()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        at_once(change)
    finally:
        is_over.set()
        reader.join(30)
    assert len(seen) > 1
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seen)


def test_naive_writers_that_read_and_add_one_give_a_number_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    TopicHead.objects.create(topic=TOPIC)
    all_have_read = threading.Barrier(WRITERS)

    def read_and_add_one(topic: str) -> int:
        number = TopicHead.objects.get(topic=topic).version + 1
        all_have_read.wait(30)
        TopicHead.objects.filter(topic=topic).update(version=number)
        return number

    def naive(writer: int, turn: int) -> int | None:
        try:
            return live.changed(TOPIC, key=f"ord_{writer}", version=turn)
        except IntegrityError:  # the log's own constraint: this change is told to nobody
            return None

    monkeypatch.setattr(live, "_next_number", read_and_add_one)
    assert len(at_once(naive)) == ROUNDS, "of four changes in each round one was numbered"


def test_naive_numbers_that_are_drawn_beside_the_transaction_leave_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a sequence of the database would."""
    TopicHead.objects.create(topic=TOPIC)
    drawn: dict[int, int] = {}
    real = live._next_number

    def drawn_before(_: str) -> int:
        return drawn.pop(threading.get_ident())

    def naive(writer: int, turn: int) -> int | None:
        number = real(TOPIC)
        assert number is not None
        drawn[threading.get_ident()] = number
        return change(writer, turn)

    monkeypatch.setattr(live, "_next_number", drawn_before)
    given = at_once(naive)
    assert given != list(range(1, len(given) + 1))
    assert len(set(given)) == len(given), "each once, and some for nothing"
