"""One stop under load: a backlog of approvals, an execution that sends as fast as it can, a halt at a random moment.

Neither web nor Celery runs, so both are dead throughout; Redis may be too. Then execution goes by a quarter of the
account's tokens: at the tier prestige they last for 235 orders a second, about what one processor sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, Final

import redis
from django.conf import settings

from kalshi_site import wiring
from tests.reliability import desk
from tests.reliability.desk import Prepare, Seat
from tests.reliability.venue import Stage, Venue
from trading.exchange.budget import Terms
from trading.exchange.shared_budget import ALONE

BEGINS_WITHIN: Final = 30.0
SENDS_WITHIN: Final = 60.0
RESTS_WITHIN: Final = 60.0
_CREATE: Final = ("POST", "/portfolio/events/orders")


@dataclass(frozen=True, slots=True)
class Halt:
    """`backlog`: approvals that wait when execution starts. The seed says when the stop comes."""

    seed: int
    backlog: int
    has_redis: bool = True


@dataclass(slots=True)
class Watched:
    """When it was over, in seconds from the return of the halt's commit."""

    rest_after: float | None = None  # the exchange's own ledger holds no resting order any more, for good
    proven_after: float | None = None  # the desk has written down that it lists none
    is_belied: bool = False  # something rested although the desk had written that down before

    def look(self, now: float, *, is_proven: bool, is_resting: bool) -> None:
        """One look: what the desk said, and what was so afterwards."""
        self.is_belied |= is_proven and is_resting
        if is_resting:
            self.rest_after = None
        elif self.rest_after is None:
            self.rest_after = now
        if is_proven and self.proven_after is None:
            self.proven_after = now


@dataclass(frozen=True, slots=True)
class Stopped:
    """What one stop did.

    `rate`: orders a second that execution had sent by then; `affordable`: for how many its tokens last. `redis_asked`:
    commands that Redis was given meanwhile. `late_claims`: claims after the commit. `late_arrivals`: requests that came
    to the exchange for orders without a claim before it, or a second time.
    """

    sent: int
    rate: float
    affordable: float
    redis_asked: int
    late_claims: int
    late_arrivals: int
    still_open: int
    watched: Watched


def _approve_backlog(stage: Stage, count: int) -> None:
    """Approvals of one contract each that rest below the house's bid, through the door that people use."""
    for number in range(count):
        price = f"0.{10 + number % 30}"
        desk.approve(desk.propose(stage.tickers[number % len(stage.tickers)], price, "1"))


def run(halt: Halt, seat: Seat, naive: Prepare = lambda _: None, within: float = RESTS_WITHIN) -> Stopped:
    """Start execution, stop while it sends, watch until nothing rests. `naive` puts a flaw into execution."""
    from trading.models import Order

    desk.take(seat)
    redis_url = settings.REDIS_URL
    if not halt.has_redis:
        desk.lose_redis()
    with _commands(redis_url) as asked:
        _approve_backlog(seat.stage, halt.backlog)

        def prepare(execution: Any) -> None:
            execution.router.rules = replace(
                execution.router.rules, approval_life=timedelta(hours=1), orders_per_minute=None
            )
            naive(execution)

        with desk.executing(seat.tempo, prepare):
            assert desk.wait_for(Order.objects.exists, BEGINS_WITHIN), "execution sent nothing"
            began = time.monotonic()
            chance = Random(halt.seed)
            some = chance.randrange(1, halt.backlog * 3 // 4)
            desk.wait_for(lambda: Order.objects.count() >= some, SENDS_WITHIN)
            time.sleep(chance.uniform(0.0, 0.05))
            claimed = _halt()
            committed = time.monotonic()
            watched = _watch(seat.venue, seat.stage, committed, within)
        rate = claimed / max(committed - began, 0.001)
        return _judged(seat, claimed, watched, rate, _affordable(halt.has_redis), asked())


@contextmanager
def _commands(redis_url: str) -> Iterator[Callable[[], int]]:
    """How many commands Redis is given from here on, by its own count. No other run asks it meanwhile."""
    with redis.Redis.from_url(redis_url, single_connection_client=True) as client:

        def count() -> int:
            return int(client.info("stats")["total_commands_processed"])

        before = count()
        yield lambda: count() - before - 1  # the first question is counted too


def _affordable(has_redis: bool) -> float:
    """Orders a second for which execution's tokens last."""
    tariff = wiring.budget().tariff
    terms = Terms.of("write", tariff.write, share=1.0 if has_redis else ALONE)
    return terms.per_second / tariff.charge(*_CREATE).cost


def _halt() -> int:
    """Stop everything; returns how many orders had been claimed at the commit: no claim passes the held row."""
    from django.db import transaction

    from portfolio import risk
    from trading.models import Order

    with transaction.atomic():
        risk.halt(venue="paper", actor="operator", reason="drill")
        return Order.objects.count()


def _watch(venue: Venue, stage: Stage, since: float, within: float) -> Watched:
    """Watch until no approval waits any more: whatever would still be sent is sent by then. A belied proof stays so."""
    from approvals.models import Proposal
    from portfolio.models import TradingState

    watched = Watched()
    while time.monotonic() - since < within:
        is_proven = TradingState.objects.filter(venue="paper", scope="").exclude(cleared_at=None).exists()
        is_resting = any(order.status == "resting" for order in venue.truth(stage).orders)
        watched.look(time.monotonic() - since, is_proven=is_proven, is_resting=is_resting)
        if watched.is_belied:
            break
        if is_proven and not is_resting and not Proposal.objects.filter(state="approved").exists():
            break
        time.sleep(0.02)
    return watched


def _judged(
    seat: Seat, claimed: int, watched: Watched, rate: float, affordable: float, redis_asked: int
) -> Stopped:
    from trading.models import Order

    ours = set(Order.objects.order_by("pk").values_list("client_order_id", flat=True)[:claimed])
    truth = seat.venue.truth(seat.stage)
    return Stopped(
        sent=claimed,
        rate=rate,
        affordable=affordable,
        redis_asked=redis_asked,
        late_claims=Order.objects.count() - claimed,
        late_arrivals=sum(
            count - (name in ours) for name, count in truth.posts.items() if count > 1 or name not in ours
        ),
        still_open=sum(order.status == "resting" for order in truth.orders),
        watched=watched,
    )
