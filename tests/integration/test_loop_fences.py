"""A loop whose process was frozen beyond its term, while another one worked, writes nothing when it wakes.

Each test has its naive variant in the tree: the same freeze without the guard leaves a stale write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import fenced, locks
from kalshi_site.locks import Busy, Held, Outrun
from kalshi_site.models import AuditEntry, Lease
from portfolio import risk
from portfolio.models import EquityPoint, Position, RiskLimit
from tests import factories
from tests.fakes import FakeExchange
from tests.paused_process import Pause, frozen
from trading.agent.forecaster import OfflineAnalyst
from trading.agent.schemas import Forecast, MarketBrief, Refusal
from trading.domain.orders import OrderState
from trading.engine import decision_cycle as decision_room
from trading.engine import housekeeping
from trading.engine.decision_cycle import decision_cycle
from trading.engine.ideas import Appetite
from trading.engine.update_cycle import LOOP, update_cycle
from trading.exchange.reports import OrderReport, PublicTrade
from trading.execution.reconcile import Reconciler
from trading.models import Cycle, Market, Order

D = Decimal
VENUE = factories.VENUE
TTL = timedelta(minutes=10)  # none runs out by itself: see `run_out`
SHORT = timedelta(seconds=0.4)  # where it is the subject that one does
OFTEN = timedelta(milliseconds=1)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean_redis")]


@contextlib.contextmanager
def unfenced(name: str, *, ttl: timedelta, needs_redis: bool) -> Iterator[Held]:
    """The naive holder: a lock, and trust in it."""
    with locks.hold(name, ttl=ttl, needs_redis=needs_redis) as held:
        yield held


def run_out() -> None:
    """The terms of all leases and of the gates before them end; the loops' next slot begins."""
    Lease.objects.update(expires_at=timezone.now())
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(*(f"lock:{name}" for name in Lease.objects.values_list("name", flat=True)))
    time.sleep(2 * OFTEN.total_seconds())


# -- what the fence does


def note(actor: str) -> None:
    AuditEntry.objects.create(at=timezone.now(), actor=actor, actor_kind="system", verb="test")


def outrun(name: str) -> None:
    """Somebody else takes over."""
    Lease.objects.filter(name=name).update(holder="somebody else", fence=F("fence") + 1)


@pytest.mark.parametrize("in_transaction", [True, False])
def test_once_outrun_a_write_raises_and_has_not_happened(in_transaction: bool) -> None:
    with fenced.work("a loop", ttl=timedelta(minutes=1), needs_redis=False):
        note("before")
        outrun("a loop")
        with pytest.raises(Outrun), transaction.atomic() if in_transaction else contextlib.nullcontext():
            note("after")
        assert Lease.objects.get(name="a loop").holder == "somebody else", "reading goes on"
    note("outside")
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"before", "outside"}


def test_deletes_and_raw_statements_are_writes_too() -> None:
    note("kept")
    with fenced.work("a loop", ttl=timedelta(minutes=1), needs_redis=False):
        outrun("a loop")
        with pytest.raises(Outrun):
            AuditEntry.objects.all().delete()
        with pytest.raises(Outrun), connection.cursor() as cursor:
            cursor.execute("  update kalshi_site_auditentry set actor = 'forged'")
    assert AuditEntry.objects.get().actor == "kept"


def is_kept(within: float) -> bool:
    """Whether the holder of the lease moves its end away again, from the present moment."""
    run_out()
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if Lease.objects.get(name="a loop").expires_at > timezone.now() + TTL / 2:
            return True
        time.sleep(0.01)
    return False


def test_a_lease_is_kept_while_its_holder_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fenced.RENEW_SHARE < 1 / 2, "the second try comes within the term, too"
    monkeypatch.setattr(fenced, "RENEW_SHARE", 0.05 / TTL.total_seconds())
    with fenced.work("a loop", ttl=TTL, needs_redis=False):
        assert all(is_kept(within=30) for _ in range(2))
        with pytest.raises(Busy), locks.lease("a loop", ttl=TTL):
            pass
        note("still ours")


def test_a_lease_that_nobody_keeps_is_free_after_its_term() -> None:
    """The naive variant of the test above."""
    with locks.hold("a loop", ttl=SHORT, needs_redis=False):
        time.sleep(SHORT.total_seconds() * 1.5)
        with locks.lease("a loop", ttl=TTL):
            pass
    with locks.hold("a loop", ttl=TTL, needs_redis=False):
        assert not is_kept(within=0.2)


# -- the update loop


class Listing(FakeExchange):
    """Shows somebody else's order, and lets the process be frozen between the read and what follows from it."""

    def __init__(self, pause: Pause) -> None:
        super().__init__()
        self.pause = pause

    def orders(self, **asked: Any) -> list[OrderReport]:
        self.rest({"client_order_id": "", "ticker": "SIMX-1", "side": "bid", "price": "0.40", "count": "10"})
        told = super().orders(**asked)
        self.pause()
        return told


def compare(exchange: FakeExchange, *, ttl: timedelta = TTL) -> Any:
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    return update_cycle(reconciler=judge, interval=OFTEN, ttl=ttl)


def freeze_the_update_loop() -> None:
    """It has read that an order rests; while it is frozen the order goes, and another process compares."""
    compare(FakeExchange())  # opens the account
    points = EquityPoint.objects.count()
    with frozen(lambda pause: compare(Listing(pause))) as wake:
        run_out()
        assert compare(FakeExchange()) is not None
        EquityPoint.objects.all().delete()
        wake()
    assert points == 1


def test_a_frozen_comparison_writes_nothing_once_another_has_compared() -> None:
    freeze_the_update_loop()
    assert not Order.objects.exists(), "an order that is long gone is not adopted"
    assert not EquityPoint.objects.exists()
    first, paused, other = Cycle.objects.order_by("id")
    assert (first.outcome, paused.outcome, other.outcome) == ("clean", "", "clean")
    assert other.fence > paused.fence > first.fence


def test_the_naive_comparison_books_what_is_long_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fenced, "work", unfenced)
    freeze_the_update_loop()
    assert Order.objects.get().state == OrderState.RESTING


# -- the decision loop


class Tape:
    def __init__(self, ticker: str) -> None:
        from trading.domain.orders import Side

        now = timezone.now()
        self.prints = [
            PublicTrade(f"t{n}", ticker, D("0.58"), D(20), Side.YES, now - timedelta(seconds=5 * n), False)
            for n in range(12)
        ]

    def trades(self, *, since: Any = None) -> list[PublicTrade]:
        return self.prints


@dataclass
class Thinking:
    """Does something, or is frozen, in the middle of a thought."""

    deed: Pause
    name: str = "thinking"

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        told = OfflineAnalyst().study(brief)
        self.deed()
        return told


@pytest.fixture
def market() -> Market:
    factories.funded()
    return factories.quoted_market(close_at=timezone.now() + timedelta(days=3))


def look(market: Market, deed: Pause = lambda: None, **appetite: Any) -> Any:
    wanted = Appetite(interval=OFTEN, rest=timedelta(0), **appetite)
    return decision_cycle(venue=VENUE, analyst=Thinking(deed), public=Tape(market.ticker), appetite=wanted)


def freeze_the_decision_loop(market: Market) -> None:
    with frozen(lambda pause: look(market, pause)) as wake:
        run_out()
        assert look(market).proposed
        wake()


def test_a_frozen_look_for_trades_proposes_nothing_once_a_newer_one_has_begun(market: Market) -> None:
    freeze_the_decision_loop(market)
    proposal = Proposal.objects.get()
    paused, other = Cycle.objects.order_by("id")
    assert proposal.seen_versions["cycle"] == other.pk
    assert paused.detail["reasons"] == {"a newer cycle has begun": 1}


def test_the_naive_look_proposes_the_same_twice(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_room, "_overtaken", lambda *_: "")
    freeze_the_decision_loop(market)
    assert Proposal.objects.count() == 2


# -- two loops and one world


def stop_and_resume(_: str) -> None:
    risk.halt(venue=VENUE, actor="operator", reason="a look")
    risk.resume(venue=VENUE, actor="operator", reason="all is well")


def pause_the_series(_: str) -> None:
    risk.pause(venue=VENUE, actor="operator", reason="odd", scope="series:SIMTEST")


def fill_something(ticker: str) -> None:
    Position.objects.create(venue=VENUE, ticker=ticker, event_ticker="SIMTEST-1", quantity=D(3), cost=D(1))


CHANGES: dict[str, tuple[Callable[[str], None], str]] = {
    "a stop, even when it is over": (stop_and_resume, "trading was stopped meanwhile"),
    "a pause of its series": (
        pause_the_series,
        "the trading state of the series SIMTEST changed meanwhile",
    ),
    "a fill in its market": (
        fill_something,
        "the position changed meanwhile",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_idea_whose_world_has_changed_is_dropped(market: Market, change: str) -> None:
    deed, reason = CHANGES[change]
    assert look(market, lambda: deed(market.ticker)).reasons == {reason: 1}
    assert not Proposal.objects.exists()


@pytest.mark.parametrize("change", CHANGES)
def test_the_naive_loop_proposes_from_a_world_that_is_gone(
    market: Market, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_room, "_overtaken", lambda *_: "")
    deed, _ = CHANGES[change]
    assert look(market, lambda: deed(market.ticker)).proposed


def test_a_change_elsewhere_voids_nothing_and_a_new_limit_is_asked_by_the_gateway(market: Market) -> None:
    def elsewhere() -> None:
        fill_something("SIMTEST-ELSEWHERE")
        risk.pause(venue=VENUE, actor="operator", reason="odd", scope="series:OTHER")
        risk.set_limit(name="order_notional", value=D(1), actor="risk1")

    assert look(market, elsewhere).proposed
    proposal = Proposal.objects.get()
    assert proposal.state == "denied", "by the limit that was set while the analyst thought"
    assert proposal.seen_versions["limits"] == {}


def test_a_proposal_names_the_versions_that_it_saw(market: Market) -> None:
    state = risk.trading_state(VENUE)
    risk.set_limit(name="data_age", value=D(60), actor="risk1")
    look(market)
    seen = Proposal.objects.get().seen_versions
    assert seen["trading_state"] == state.version and seen["kill_epoch"] == 0 and seen["position"] == 0
    assert seen["limits"] == {"data_age": RiskLimit.objects.get().version}
    assert seen["quote_as_of"] and seen["cycle"] == Cycle.objects.get().pk


def test_no_lock_is_held_while_the_analyst_thinks(market: Market) -> None:
    taken: list[str] = []

    def take() -> None:
        with locks.hold(decision_room.LOOP, ttl=TTL, needs_redis=True) as held:
            taken.append(held.name)

    look(market, take)
    assert taken == ["decision"]


# -- housekeeping


def freeze_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(pause: Pause) -> None:
        monkeypatch.setattr(housekeeping, "look_after_charts", lambda _: pause() or {})
        with contextlib.suppress(Outrun):
            housekeeping.keep_house(timezone.now() + timedelta(days=30), ttl=TTL)

    with frozen(keep) as wake:
        run_out()
        housekeeping.keep_house(timezone.now(), ttl=TTL)
        Cycle.objects.create(loop=LOOP, slot=1, started_at=timezone.now())
        wake()


def test_frozen_housekeeping_deletes_nothing_once_another_has_kept_house(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freeze_housekeeping(monkeypatch)
    assert Cycle.objects.count() == 1


def test_naive_housekeeping_deletes_by_a_time_that_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fenced, "work", unfenced)
    freeze_housekeeping(monkeypatch)
    assert not Cycle.objects.exists()


# -- Redis at fault


def raising(error: Exception) -> Any:
    def command(*_: Any, **__: Any) -> Any:
        raise error

    return command


def late(*_: Any, **__: Any) -> bool:
    time.sleep(SHORT.total_seconds())
    return True


FAULTS = {
    "refuses": raising(redis.ConnectionError("connection refused")),
    "times out": raising(redis.TimeoutError("no answer")),
    "is loading": raising(redis.exceptions.BusyLoadingError("loading")),
    "is read only": raising(redis.exceptions.ReadOnlyError("a replica")),
    "asks for a password": raising(redis.exceptions.AuthenticationError("no")),
    "answers an error": raising(redis.ResponseError("OOM command not allowed")),
    "breaks the socket": raising(OSError("broken pipe")),
    "answers late": late,
    "answers nothing": lambda *_, **__: None,
    "answers nonsense": lambda *_, **__: "PERHAPS",
}
TAKEN = {"answers nothing", "answers nonsense"}  # an answer, and not a yes: somebody else has it


def term(fault: str) -> timedelta:
    return SHORT if fault == "answers late" else TTL


@contextlib.contextmanager
def trusting(name: str, *, ttl: timedelta, needs_redis: bool) -> Iterator[None]:
    """The naive lock, as beat schedulers have had it: an error while locking is logged, and both run."""
    with contextlib.suppress(redis.RedisError, OSError):
        if redis.Redis.from_url(settings.REDIS_URL).set(f"lock:{name}", "x", nx=True, px=ttl) is None:
            raise Busy(name)
    yield


def enters(lock: Callable[..., contextlib.AbstractContextManager[object]], fault: str) -> bool:
    try:
        with lock("decision", ttl=term(fault), needs_redis=True):
            return True
    except Busy:
        return False


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_redis_does_wrong_the_lock_is_not_held(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.Redis, "set", FAULTS[fault])
    assert not enters(locks.hold, fault)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "answers nothing"])
def test_the_naive_lock_takes_a_fault_for_a_yes(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.Redis, "set", FAULTS[fault])
    assert enters(trusting, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_then_the_analyst_rests_and_the_comparison_goes_on(
    fault: str, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_room, "TTL", term(fault))
    monkeypatch.setattr(redis.Redis, "set", FAULTS[fault])
    assert look(market) is None
    assert (compare(FakeExchange(), ttl=term(fault)) is None) == (fault in TAKEN)


@pytest.mark.parametrize("fault", ["times out", "answers an error", "breaks the socket"])
def test_a_release_that_fails_frees_the_lease_all_the_same(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis.Redis, "eval", FAULTS[fault])
    with locks.hold("decision", ttl=TTL, needs_redis=True):
        pass
    assert Lease.objects.get(name="decision").holder == ""


def test_a_redis_that_was_restarted_meanwhile_costs_no_round(clean_redis: str) -> None:
    with locks.hold("decision", ttl=TTL, needs_redis=True):
        pass
    with redis.Redis.from_url(clean_redis) as other:
        other.client_kill_filter(_type="normal", skipme=True)
    with locks.hold("decision", ttl=TTL, needs_redis=True) as held:
        assert held.fence == 2


def test_a_change_of_the_trading_state_wakes_execution_once_it_is_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[str] = []
    monkeypatch.setattr("trading.receivers.wake", lambda: woken.append(risk.trading_state("paper").mode))
    with transaction.atomic():
        risk.halt(venue="paper", actor="ann", reason="enough")
        assert not woken
    risk.resume(venue="paper", actor="ann", reason="looked at it")
    risk.pause(venue="paper", actor="ann", reason="lunch", scope="series:KXTEST")
    assert woken == ["HALTED", "ACTIVE", "ACTIVE"]


def test_a_stop_wakes_execution_before_pages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive: pages first, and a layer that hangs holds the stop up for its second of patience."""
    told: list[str] = []
    monkeypatch.setattr("trading.receivers.wake", lambda: told.append("execution"))
    monkeypatch.setattr("kalshi_site.live.publish", lambda *_: told.append("pages"))
    risk.halt(venue="paper", actor="ann", reason="enough")
    assert told == ["execution", "pages"]
