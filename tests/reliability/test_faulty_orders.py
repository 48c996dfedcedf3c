"""Orders under random faults: each is sent at most once, and what we say of it at the end is what the exchange says.

The exchange counts requests at its own door; every final state must name its evidence.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.reliability import desk, faulty_day
from tests.reliability.books import Books
from tests.reliability.conftest import Figure
from tests.reliability.desk import Seat
from tests.reliability.faulty_day import BATCH, Day
from tests.reliability.sizes import is_full, size
from tests.reliability.tempo import Tempo
from tests.reliability.venue import Venue
from trading.exchange.outcomes import Refused, SubmitOutcome, Unknown
from trading.execution.process import Execution

TEMPO = Tempo(15, fence_divisor=5)
RUN_WITHIN = 300.0
GIVEN_UP_AFTER = 8.0  # a naive desk's books do not come right, however long it is given

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def one_day(books: Books, seed: int, venue: Venue, slot: int, **how: Any) -> Day:
    with books.copied() as database:
        return faulty_day.run(seed, Seat(venue, venue.stage(BATCH), database, 2 + slot, TEMPO), **how)


def test_every_order_is_sent_at_most_once_and_ends_as_the_exchange_says(
    books: Books, exchanges: list[Venue], figure: Figure
) -> None:
    began, wanted = time.monotonic(), size("faulty_orders")
    run = partial(one_day, books)
    days = faulty_day.until(
        wanted, lambda seeds: desk.in_parallel(list(seeds), exchanges, run, within=RUN_WITHIN)
    )
    broke = [str(each) for each in days if not isinstance(each, Day)]
    done = [each for each in days if isinstance(each, Day)]
    orders = sum(each.orders for each in done)
    met = sum((each.met for each in done), Counter[str]())
    states = sum((each.states for each in done), Counter[str]())
    figure(
        f"{len(done) * BATCH} proposals in {time.monotonic() - began:.0f} s, {orders}"
        f" orders came of them, {sum(each.posts for each in done)} requests counted,"
        f" {met.total()} faults of {len(+met)} kinds, {sum(bool(each.faults) for each in done)} of"
        f" {len(done)} batches with a fault; they came to rest as {dict(states)}"
    )
    assert not broke
    faulty = {each.seed: each.faults for each in done if each.faults}
    assert not faulty, json.dumps(faulty, indent=1)
    assert orders >= wanted or not is_full()


def day(seed: int, orders: int, *faults: str) -> Day:
    return Day(seed, list(faults), orders, orders, Counter())


@pytest.mark.parametrize(
    ("one", "days"),
    [
        (lambda seed: day(seed, 20), 5),
        (lambda seed: day(seed, 17), 6),  # fewer than usual
        (lambda seed: day(seed, 0), 12),  # a desk that makes no orders
        (lambda seed: day(seed, 0, "doubled"), 5),
        (lambda _: RuntimeError("it died"), 5),
    ],
)
def test_days_go_on_until_there_are_orders_enough_or_something_went_wrong(
    one: Callable[[int], Any], days: int
) -> None:
    assert len(faulty_day.until(100, lambda seeds: [one(seed) for seed in seeds])) == days


class _Sender:
    """The order endpoints with a flaw in how a create is sent."""

    def __init__(self, orders: Any) -> None:
        self._orders = orders

    def __getattr__(self, name: str) -> Any:
        return getattr(self._orders, name)


class Again(_Sender):
    """What a retry decorator on every request does to an order."""

    def send_create(self, *sent: Any, **how: Any) -> SubmitOutcome:
        outcome: SubmitOutcome = self._orders.send_create(*sent, **how)
        return self._orders.send_create(*sent, **how) if isinstance(outcome, Unknown) else outcome


class Guessing(_Sender):
    """No answer, so it was not placed."""

    def send_create(self, *sent: Any, **how: Any) -> SubmitOutcome:
        outcome: SubmitOutcome = self._orders.send_create(*sent, **how)
        return Refused(400, "timeout", "no answer") if isinstance(outcome, Unknown) else outcome


def flawed(sender: type[_Sender], execution: Execution) -> None:
    execution.router.orders = sender(execution.router.orders)  # type: ignore[assignment]


@pytest.mark.parametrize(("sender", "word"), [(Again, "doubled"), (Guessing, "wrong")])
def test_the_same_judgement_finds_a_naive_sender(
    books: Books, exchanges: list[Venue], figure: Figure, sender: type[_Sender], word: str
) -> None:
    run = partial(one_day, books, prepare=partial(flawed, sender), within=GIVEN_UP_AFTER)
    days = desk.in_parallel([1, 2, 3, 4], exchanges, run, within=RUN_WITHIN)
    found = [fault for day in days for fault in day.faults if word in fault]
    orders = sum(day.orders for day in days)
    figure(f"{len(found)} of {orders} orders of {len(days) * BATCH} proposals {word} by {sender.__name__}")
    assert found
