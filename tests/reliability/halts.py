"""One stop under load: a backlog of approvals, an execution that sends as fast as it can, a halt at a random moment.

Neither web nor Celery runs, so both are dead throughout; Redis may be too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, Final

from tests.reliability import desk
from tests.reliability.desk import Prepare, Seat
from tests.reliability.venue import Stage, Venue

BEGINS_WITHIN: Final = 30.0
SENDS_WITHIN: Final = 60.0
RESTS_WITHIN: Final = 60.0
NOWHERE: Final = "redis://127.0.0.1:1/0"


@dataclass(frozen=True, slots=True)
class Halt:
    """`backlog`: approvals that wait when execution starts. The seed says when the stop comes."""

    seed: int
    backlog: int
    has_redis: bool = True


@dataclass(frozen=True, slots=True)
class Stopped:
    """What one stop did. Seconds are counted from the return of the halt's commit.

    `rate`: orders a second that execution had sent by then. `late_claims`: claims after the commit. `late_arrivals`:
    requests that came to the exchange for orders without a claim before it, or a second time.
    """

    sent: int
    rate: float
    late_claims: int
    late_arrivals: int
    still_open: int
    rest_after: float | None  # the exchange lists nothing any more
    proven_after: float | None  # the desk has written down that it does


def _approve_backlog(stage: Stage, count: int) -> None:
    """Approvals of one contract each that rest below the house's bid, through the door that people use."""
    for number in range(count):
        price = f"0.{10 + number % 30}"
        desk.approve(desk.propose(stage.tickers[number % len(stage.tickers)], price, "1"))


def run(halt: Halt, seat: Seat, naive: Prepare = lambda _: None) -> Stopped:
    """Start execution, stop while it sends, watch until nothing rests. `naive` puts a flaw into execution."""
    from django.conf import settings

    from trading.models import Order

    desk.take(seat)
    _approve_backlog(seat.stage, halt.backlog)
    if not halt.has_redis:
        settings.REDIS_URL = NOWHERE

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
        rest, proven = _watch(seat.venue, seat.stage, committed)
    return _judged(seat, claimed, (committed - began), rest, proven)


def _halt() -> int:
    """Stop everything; returns how many orders had been claimed at the commit: no claim passes the held row."""
    from django.db import transaction

    from portfolio import risk
    from trading.models import Order

    with transaction.atomic():
        risk.halt(venue="paper", actor="operator", reason="drill")
        return Order.objects.count()


def _watch(venue: Venue, stage: Stage, since: float) -> tuple[float | None, float | None]:
    """When the exchange's own ledger held no resting order for good, and when the desk had proven it.

    Watches until no approval waits any more: whatever would still be sent is sent by then.
    """
    from approvals.models import Proposal
    from portfolio.models import TradingState

    rest = proven = None
    while time.monotonic() - since < RESTS_WITHIN:
        resting = any(order.status == "resting" for order in venue.truth(stage).orders)
        now = time.monotonic() - since
        rest = None if resting else now if rest is None else rest
        cleared = TradingState.objects.filter(venue="paper", scope="").exclude(cleared_at=None).exists()
        proven = now if cleared and proven is None else proven
        if cleared and rest is not None and not Proposal.objects.filter(state="approved").exists():
            break
        time.sleep(0.02)
    return rest, proven


def _judged(seat: Seat, claimed: int, seconds: float, rest: float | None, proven: float | None) -> Stopped:
    from trading.models import Order

    ours = set(Order.objects.order_by("pk").values_list("client_order_id", flat=True)[:claimed])
    truth = seat.venue.truth(seat.stage)
    return Stopped(
        sent=claimed,
        rate=claimed / max(seconds, 0.001),
        late_claims=Order.objects.count() - claimed,
        late_arrivals=sum(
            count - (name in ours) for name, count in truth.posts.items() if count > 1 or name not in ours
        ),
        still_open=sum(order.status == "resting" for order in truth.orders),
        rest_after=rest,
        proven_after=proven,
    )
