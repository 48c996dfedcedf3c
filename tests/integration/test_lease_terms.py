"""A lease is used for four fifths of its term, by its holder's own clock: what leaves the database stops in time.

Nobody has taken the lease over in these tests, so that the fence alone would let everything pass.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import transaction

from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.locks import Held, Outrun
from tests import factories
from tests.fakes import FakeExchange
from trading.execution.router import Router

TTL = timedelta(seconds=10)
Begin = Callable[[], AbstractContextManager[Held]]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean_redis")]


class Seconds:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    seconds = Seconds()
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=seconds))
    return seconds


def leased() -> AbstractContextManager[Held]:
    return locks.lease("a loop", ttl=TTL)


def behind_the_gate() -> AbstractContextManager[Held]:
    return locks.hold("a loop", ttl=TTL, needs_redis=True)


def taken_over() -> AbstractContextManager[Held]:
    return locks.take_over("a loop", ttl=TTL, unheard_for=timedelta(seconds=1))


@contextmanager
def renewed() -> Iterator[Held]:
    with locks.lease("a loop", ttl=TTL) as held:
        yield replace(held, stop_at=0.0).renewed(TTL)


@pytest.mark.parametrize("begin", [leased, behind_the_gate, taken_over, renewed])
def test_a_lease_may_be_used_for_four_fifths_of_its_term(begin: Begin, clock: Seconds) -> None:
    with begin() as held:
        clock.now += 7.9
        with transaction.atomic():
            held.require()
        clock.now += 0.2
        with pytest.raises(Outrun, match="has run out"), transaction.atomic():
            held.require()
        with transaction.atomic():
            held.require_fence()  # the naive check


def test_the_time_that_taking_it_took_is_part_of_the_term(
    clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: count from when the database has answered. A slow answer would be used beyond the lease's end."""
    take = locks._take

    def slow(name: str, holder: str, ttl: timedelta) -> int:
        fence = take(name, holder, ttl)
        clock.now += 9
        return fence

    monkeypatch.setattr(locks, "_take", slow)
    with leased() as held, pytest.raises(Outrun, match="has run out"):
        held.require()


@pytest.mark.parametrize(("late", "sent"), [(7.9, 1), (8.1, 0)])
def test_an_execution_late_in_its_term_claims_and_sends_nothing(
    late: float, sent: int, clock: Seconds
) -> None:
    factories.approved()
    exchange = FakeExchange()
    router = Router(venue=factories.VENUE, orders=exchange, deployment=uuid.UUID(int=1))
    ends = nullcontext() if sent else pytest.raises(Outrun, match="has run out")
    with leased() as held, ends:
        clock.now += late
        router.round(held)
    assert len(exchange.sent) == sent
    assert Proposal.objects.get().state == ("claimed" if sent else "approved")
