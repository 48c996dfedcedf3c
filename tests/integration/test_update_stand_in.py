"""With Redis or Celery dead the comparison goes on, and what is due still expires."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from tests import factories
from tests.fakes import FakeExchange
from trading.engine.stand_in import MISSED, StandIn
from trading.engine.update_cycle import LOOP, TTL
from trading.exchange.errors import NoAnswer
from trading.execution.reconcile import Reconciler
from trading.models import Cycle

VENUE = factories.VENUE
LONG_AGO = timezone.now() - timedelta(hours=1)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def redis_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/redis.sock")


def stand_in(exchange: FakeExchange | None = None, **fields: Any) -> StandIn:
    asked = exchange or FakeExchange()
    return StandIn(Reconciler(VENUE, asked, asked), _since=LONG_AGO, **fields)  # type: ignore[arg-type]


def rounds() -> int:
    return Cycle.objects.filter(loop=LOOP).exclude(finished_at=None).count()


def test_where_nobody_compares_it_does_and_expires_what_is_due() -> None:
    proposal = factories.ProposalFactory(deadline_at=timezone.now() - timedelta(seconds=1))
    assert stand_in().look()
    assert rounds() == 1
    assert Proposal.objects.get(pk=proposal.pk).state == "expired"


def test_while_tasks_come_it_does_nothing() -> None:
    Cycle.objects.create(loop=LOOP, slot=1, started_at=timezone.now() - MISSED / 2)
    assert not stand_in().look()
    assert rounds() == 0


def test_it_gives_the_workers_time_to_start() -> None:
    exchange = FakeExchange()
    assert not StandIn(Reconciler(VENUE, exchange, exchange)).look()  # type: ignore[arg-type]
    assert rounds() == 0


def test_it_leaves_the_loop_to_whoever_holds_it() -> None:
    with locks.hold(LOOP, ttl=TTL, needs_redis=False):
        assert stand_in().look()
    assert rounds() == 0


def test_an_exchange_out_of_reach_ends_nothing() -> None:
    class Gone(FakeExchange):
        def balance(self) -> Any:
            raise NoAnswer("nothing")

    assert stand_in(Gone()).look()
    assert Cycle.objects.get().outcome == "failed"
