"""One stop under load: a backlog of approvals, an execution that sends as fast as it can, a halt at a random moment.

Neither web nor Celery runs, so both are dead throughout; Redis may be too. Then execution goes by a quarter of the
account's tokens: at the tier prestige they last for 235 orders a second, about what one processor sends.
In some runs the exchange is in trouble from the stop on (TROUBLES): with its cancels, its lists, or its markets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any, Final

import redis
from django.conf import settings

from kalshi_site import wiring
from tests.reliability import desk
from tests.reliability.behaviours import Rows
from tests.reliability.desk import Prepare, Seat
from tests.reliability.venue import Stage, Venue
from trading.exchange.budget import Terms
from trading.exchange.shared_budget import ALONE

BEGINS_WITHIN: Final = 30.0
SENDS_WITHIN: Final = 60.0
RESTS_WITHIN: Final = 60.0
PAUSED: Final = 1.0  # seconds
_CREATE: Final = ("POST", "/portfolio/events/orders")
Lever = Callable[[Venue, Stage], None]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the exchange does while a stop works: planned faults, and a lever that is set back after a moment.

    `lag`: seconds that its reads are behind, from the first order on, so that the newest are not listed at the stop.
    """

    rows: Rows = field(default_factory=list)
    lag: float = 0.0
    lever: Lever | None = None
    back: Lever = lambda *_: None

    def is_met(self, venue: Venue) -> bool:
        """Whether each kind of fault has happened."""
        return {row["kind"] for row in self.rows} <= set(+venue.met())


def _at_cancels(kind: str, times: int = 20, **how: Any) -> Rows:
    return [{"endpoint": each, "kind": kind, "times": times, **how} for each in ("cancel", "batch_cancel")]


def _at_lists(kind: str, **how: Any) -> Rows:
    return [{"endpoint": "read", "path": "/portfolio/orders", "kind": kind, "times": 4, **how}]


def _pause(venue: Venue, _: Stage) -> None:
    venue.control(act="pause", what="exchange", active=False)


def _go_on(venue: Venue, _: Stage) -> None:
    venue.control(act="pause", what="exchange", active=True)


def _close_half(venue: Venue, stage: Stage) -> None:
    for ticker in stage.tickers[::2]:
        venue.control(act="market", ticker=ticker, to="closed")


LAGGING: Final = "cancels refused, and lists that lag"
TROUBLES: Final[dict[str, Trouble]] = {
    LAGGING: Trouble(_at_cancels("error_before", status=409), lag=1.0),
    "the exchange pauses": Trouble(lever=_pause, back=_go_on),
    "cancels that fail": Trouble(_at_cancels("error_before", status=503)),
    "no lists": Trouble(_at_lists("error_before", status=503)),
    "markets that close": Trouble(lever=_close_half),
    "slow cancels": Trouble(_at_cancels("delay_before", times=4, seconds=0.4)),
    "cancels that are done and fail": Trouble(_at_cancels("error_after", status=500)),
    "slow lists": Trouble(_at_lists("delay_after", seconds=0.5)),
    "cancels without an answer": Trouble(_at_cancels("drop_before", times=4)),
    "lists cut short": Trouble(_at_lists("page_short")),
}


@dataclass(frozen=True, slots=True)
class Halt:
    """`backlog`: approvals that wait when execution starts. The seed says when the stop comes.

    `trouble`: what the exchange does meanwhile, a name of TROUBLES.
    """

    seed: int
    backlog: int
    has_redis: bool = True
    trouble: str = ""


def planned(count: int, backlog: int, *, has_redis: bool) -> list[Halt]:
    """So many stops, every third of them in trouble; with and without Redis not in the same ones first."""
    names = list(TROUBLES)

    def trouble(seed: int) -> str:
        return names[(2 * (seed // 3) + has_redis) % len(names)] if seed % 3 == 2 else ""

    return [Halt(seed, backlog, has_redis, trouble(seed)) for seed in range(count)]


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
    to the exchange for orders without a claim before it, or a second time. `is_met`: the trouble, if any, came.
    """

    sent: int
    rate: float
    affordable: float
    redis_asked: int
    late_claims: int
    late_arrivals: int
    still_open: int
    watched: Watched
    trouble: str = ""
    is_met: bool = True


def _approve_backlog(stage: Stage, count: int) -> None:
    """Approvals of one contract each that rest below the house's bid, through the door that people use."""
    for number in range(count):
        price = f"0.{10 + number % 30}"
        desk.approve(desk.propose(stage.tickers[number % len(stage.tickers)], price, "1"))


def run(halt: Halt, seat: Seat, naive: Prepare = lambda _: None, within: float = RESTS_WITHIN) -> Stopped:
    """Start execution, stop while it sends, watch until nothing rests. `naive` puts a flaw into execution."""
    from trading.models import Order

    desk.take(seat)
    trouble = TROUBLES.get(halt.trouble, Trouble())
    seat.venue.plan([{"kind": "read_lag", "seconds": trouble.lag}] if trouble.lag else [])
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
            with _in(trouble, seat):
                claimed = _halt()
                committed = time.monotonic()
                watched = _watch(seat.venue, seat.stage, committed, within)
        rate = claimed / max(committed - began, 0.001)
        done = _judged(seat, claimed, watched, rate, _affordable(halt.has_redis), asked())
        return replace(done, trouble=halt.trouble, is_met=trouble.is_met(seat.venue))


@contextmanager
def _in(trouble: Trouble, seat: Seat) -> Iterator[None]:
    """The exchange's trouble for the block. A lever is set back in any case: the next run has the same exchange."""
    seat.venue.plan(trouble.rows)
    if trouble.lever is None:
        yield
        return
    trouble.lever(seat.venue, seat.stage)
    over = threading.Timer(PAUSED, trouble.back, (seat.venue, seat.stage))
    over.start()
    try:
        yield
    finally:
        over.join()


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
