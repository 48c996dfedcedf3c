"""The analyst thinks while the world goes on: fills, stops, pauses, limits and prices change under its thought.

Every proposal names the versions that it saw, and none is stored that rests on a state, a position or an epoch of
before; and the loop's lock is free while the analyst thinks. The naive loops, which store what they thought or hold the
lock meanwhile, are found out.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from approvals import proposals
from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.models import Lease
from portfolio import risk
from portfolio.models import Position, RiskLimit, TradingState
from tests import factories
from tests.reliability.conftest import Figure, worst_hundredth
from tests.reliability.sizes import is_full, size
from trading.agent.forecaster import OfflineAnalyst
from trading.agent.schemas import Forecast, MarketBrief, Refusal
from trading.domain.orders import Side
from trading.engine import decision_cycle as room
from trading.engine.decision_cycle import decision_cycle
from trading.engine.ideas import Appetite
from trading.exchange.reports import PublicTrade
from trading.models import Market, Quote

D = Decimal
VENUE = factories.VENUE
LONGEST_HOLD = 0.25  # seconds, the 99th of a hundred: the goal, shown beside the figure (RELIABILITY.md D5)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean_redis")]


# -- what happens meanwhile; True when an idea for the market is void after it


def nothing(market: Market) -> bool:
    return False


def fill(market: Market) -> bool:
    row, _ = Position.objects.get_or_create(
        venue=VENUE, ticker=market.ticker, defaults={"event_ticker": market.event_ticker}
    )
    Position.objects.filter(pk=row.pk).update(version=F("version") + 1)
    return True


def fill_elsewhere(market: Market) -> bool:
    Position.objects.create(
        venue=VENUE, ticker=f"SIMTEST-{time.time_ns()}", event_ticker="SIMTEST-1", quantity=D(0), cost=D(0)
    )
    return False


def stop_and_resume(market: Market) -> bool:
    risk.halt(venue=VENUE, actor="operator", reason="a look")
    risk.resume(venue=VENUE, actor="operator", reason="all is well")
    return True


def pause_the_market_and_resume(market: Market) -> bool:
    scope = f"market:{market.ticker}"
    risk.pause(venue=VENUE, actor="operator", reason="odd", scope=scope)
    risk.resume(venue=VENUE, actor="operator", reason="all is well", scope=scope)
    return True


def set_a_limit(market: Market) -> bool:
    risk.set_limit(name="data_age", value=D(random.randint(50, 60)), actor="risk1")
    return False


def move_the_price(market: Market) -> bool:
    Quote.objects.update(yes_bid=D("0.47"), as_of=timezone.now(), verified_at=timezone.now())
    return False


HAPPENINGS: tuple[Callable[[Market], bool], ...] = (
    *(nothing, fill, fill_elsewhere, stop_and_resume, pause_the_market_and_resume),
    *(set_a_limit, move_the_price),
)


@dataclass
class Tape:
    ticker: str

    def trades(self, *, since: datetime | None = None) -> list[PublicTrade]:
        now = timezone.now()
        return [
            PublicTrade(
                f"t{n}", self.ticker, D("0.58"), D(20), Side.YES, now - timedelta(seconds=5 * n), False
            )
            for n in range(12)
        ]


@dataclass
class Thinker:
    """Thinks, and lets something happen meanwhile. Remembers what it must have seen, and whether it is void.

    `was_locked`: the loop held its lock while it asked.
    """

    market: Market
    happens: Callable[[Market], bool]
    name: str = "thinker"
    is_void: bool = False
    was_locked: bool = False
    saw: dict[str, Any] = field(default_factory=dict)

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        told = OfflineAnalyst().study(brief)
        self.was_locked = Lease.objects.filter(name=room.LOOP).exclude(holder="").exists()
        state = TradingState.objects.get(venue=VENUE, scope="")
        position = Position.objects.filter(venue=VENUE, ticker=self.market.ticker).first()
        self.saw = {
            "trading_state": state.version,
            "kill_epoch": state.kill_epoch,
            "position": position.version if position else 0,
            "limits": dict(RiskLimit.objects.values_list("name", "version")),
        }
        self.is_void = self.happens(self.market)
        return told


@pytest.fixture
def market() -> Market:
    factories.funded()
    return factories.quoted_market(close_at=timezone.now() + timedelta(days=3))


def look(thinker: Thinker) -> Any:
    for waiting in Proposal.objects.filter(venue=VENUE).decidable():
        proposals.withdraw(proposal=waiting, actor="thinker", reason="the next look")
    Quote.objects.update(as_of=timezone.now(), verified_at=timezone.now())
    appetite = Appetite(interval=timedelta(milliseconds=1), rest=timedelta(0))
    return decision_cycle(venue=VENUE, analyst=thinker, public=Tape(thinker.market.ticker), appetite=appetite)


def test_every_proposal_names_what_it_saw_and_none_rests_on_a_world_that_is_gone(
    market: Market, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, count = int(os.environ.get("SEED", random.randrange(10**6))), size("looks_for_trades")
    chance, holds, told = random.Random(seed), timed_holds(monkeypatch), Counter[str]()
    for _ in range(count):
        thinker = Thinker(market, chance.choice(HAPPENINGS))
        done = look(thinker)
        assert thinker.saw, done.reasons
        assert not thinker.was_locked
        stored = Proposal.objects.filter(public_id__in=done.proposed).first()
        assert (stored is None) == thinker.is_void, f"{thinker.happens.__name__}: {done.reasons}"
        if stored is not None:
            assert thinker.saw.items() <= stored.seen_versions.items()
        told[f"{thinker.happens.__name__} {'dropped' if stored is None else 'stored'}"] += 1
    figure(
        f"seed {seed}: {count} looks, {dict(told)}; lock held p99 {worst_hundredth(holds) * 1000:.0f} ms of"
        f" {len(holds)} (goal {LONGEST_HOLD * 1000:.0f}), and never while the analyst thinks"
    )
    assert worst_hundredth(holds) <= LONGEST_HOLD or not is_full()


def test_the_naive_loop_proposes_from_a_world_that_is_gone(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_overtaken", lambda *_: "")
    stale = 0
    for happens in (fill, stop_and_resume, pause_the_market_and_resume):
        done = look(thinker := Thinker(market, happens))
        stale += thinker.is_void and bool(done.proposed)
    assert stale == 3


def test_a_loop_that_holds_its_lock_while_it_thinks_is_found_out(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = room._look

    def whole(*args: Any) -> None:
        with locks.hold(room.LOOP, ttl=room.TTL, needs_redis=True):
            usual(*args)

    monkeypatch.setattr(room, "_look", whole)
    look(thinker := Thinker(market, nothing))
    assert thinker.was_locked


def timed_holds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the loop's lock is held each time, in seconds."""
    seconds: list[float] = []
    hold = locks.hold

    class Timed:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.inner = hold(*args, **options)

        def __enter__(self) -> locks.Held:
            held = self.inner.__enter__()
            self.began = time.monotonic()
            return held

        def __exit__(self, *error: Any) -> Any:
            seconds.append(time.monotonic() - self.began)
            return self.inner.__exit__(*error)

    monkeypatch.setattr(locks, "hold", Timed)
    return seconds
