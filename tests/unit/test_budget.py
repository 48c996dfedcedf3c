"""Tokens before requests: what costs what, who waits, and that a way out is never refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trading.exchange.account_reports import EndpointCost, EndpointCosts
from trading.exchange.budget import LONGEST_WAIT_OUT, NEVER, LocalBudget, Unlimited
from trading.exchange.errors import OverBudget
from trading.exchange.reports import AccountLimits
from trading.exchange.tariff import Charge, Rate, Tariff

BASIC = Tariff()
ORDERS = "/portfolio/events/orders"
ALL_SHARDS = ("write", "write:1", "write:2", "write:3")


# --- the tariff


@pytest.mark.parametrize(
    ("method", "resource", "given", "charge"),
    [
        ("GET", "/portfolio/orders", {}, Charge("read", ("read",), 10)),
        ("GET", "/portfolio/orders/o-1", {}, Charge("read", ("read",), 2)),
        ("GET", "/portfolio/orders/queue_positions", {}, Charge("read", ("read",), 10)),
        ("GET", "/portfolio/balance", {}, Charge("balance", ("balance",), 1)),
        ("GET", "/markets", {"is_signed": False}, Charge("public", ("public",), 10)),
        ("POST", ORDERS, {"exchange_index": 0}, Charge("write", ("write",), 10)),
        ("POST", ORDERS, {"exchange_index": 2}, Charge("write", ("write:2",), 10)),
        ("POST", ORDERS, {}, Charge("write", ALL_SHARDS, 10)),
        ("POST", ORDERS, {"exchange_index": -1}, Charge("write", ALL_SHARDS, 10)),
        ("POST", f"{ORDERS}/o-1/amend", {"exchange_index": 1}, Charge("write", ("write:1",), 10)),
        ("POST", f"{ORDERS}/o-1/decrease", {}, Charge("write", ALL_SHARDS, 10, is_way_out=True)),
        ("POST", f"{ORDERS}/batched", {"items": 7}, Charge("write", ("write",), 70)),
        ("DELETE", f"{ORDERS}/batched", {"items": 7}, Charge("write", ("write",), 14, is_way_out=True)),
        ("DELETE", f"{ORDERS}/o-1", {"exchange_index": 0}, Charge("write", ("write",), 2, is_way_out=True)),
        ("DELETE", ORDERS, {}, Charge("write", ("write",), 2, is_way_out=True)),
        (
            "PUT",
            "/portfolio/order_groups/g/trigger",
            {"exchange_index": 3},
            Charge("write", ("write:3",), 10, is_way_out=True),
        ),
        ("PUT", "/portfolio/order_groups/g/reset", {"exchange_index": 0}, Charge("write", ("write",), 10)),
        ("POST", "/portfolio/subaccounts/transfer", {}, Charge("write", ("write",), 10)),
    ],
)
def test_each_request_has_its_price_and_its_bucket(
    method: str, resource: str, given: dict[str, int], charge: Charge
) -> None:
    assert BASIC.charge(method, resource, **given) == charge


def test_costs_and_rates_come_from_the_exchange() -> None:
    costs = EndpointCosts(
        12,
        (
            EndpointCost("get", "/trade-api/v2/portfolio/orders/:order_id", 3),
            EndpointCost("DELETE", "/portfolio/events/orders/{id}", 1),
        ),
    )
    told = Tariff.told(AccountLimits("expert", 600, 600, 600, 1_800), costs)
    assert told.charge("GET", "/portfolio/orders/o-1").cost == 3
    assert told.charge("DELETE", f"{ORDERS}/o-1").cost == 1
    assert told.charge("POST", ORDERS, exchange_index=0).cost == 12
    assert (told.rate("read"), told.rate("write")) == (Rate(600, 600), Rate(600, 1_800))
    assert told.rate("balance") == Rate(5, 5)
    assert BASIC.rate("balance") == Rate(1, 1)


def test_a_rate_of_nothing_is_not_believed() -> None:
    told = Tariff.told(AccountLimits("basic", 0, 0, -5, 0), EndpointCosts(10, ()))
    assert (told.read, told.write) == (BASIC.read, BASIC.write)


# --- the buckets


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> LocalBudget:
    return LocalBudget(monotonic=clock, sleep=clock.sleep)


CREATE = BASIC.charge("POST", ORDERS, exchange_index=0)
CANCEL = BASIC.charge("DELETE", f"{ORDERS}/o-1", exchange_index=0)
READ = BASIC.charge("GET", "/portfolio/orders")


def passes(budget: LocalBudget, charge: Charge, *, patience: float = 0.0) -> bool:
    try:
        budget.take(charge, patience=patience)
    except OverBudget:
        return False
    return True


def drain(budget: LocalBudget, charge: Charge) -> int:
    count = 0
    while passes(budget, charge):
        count += 1
    return count


def test_over_time_nearly_all_of_the_account_s_tokens_are_used_and_never_more(
    budget: LocalBudget, clock: Clock
) -> None:
    start, sent = clock.now, 0
    while clock.now < start + 60:
        budget.take(CREATE, patience=5)
        sent += 1
    assert 0.9 * 600 <= sent <= 600  # 100 tokens a second, 10 for a create


def test_a_bucket_is_never_emptier_at_the_exchange_than_with_us(budget: LocalBudget, clock: Clock) -> None:
    exchange, at = 100.0, clock.now  # the exchange's own bucket, full
    for _ in range(500):
        budget.take(CREATE, patience=5)
        exchange = min(100.0, exchange + (clock.now - at) * 100) - 10
        at = clock.now
        assert exchange >= 0


def test_a_request_that_cannot_be_sent_in_time_is_refused_at_once(budget: LocalBudget, clock: Clock) -> None:
    drain(budget, READ)
    before = clock.now
    with pytest.raises(OverBudget) as error:
        budget.take(READ, patience=0.01)
    assert (clock.now, error.value.code) == (before, "E602")


def test_a_batch_that_the_bucket_can_never_hold_is_refused_at_once(budget: LocalBudget) -> None:
    batch = BASIC.charge("POST", f"{ORDERS}/batched", items=9)
    assert budget.ask(batch) == NEVER
    assert not passes(budget, batch, patience=1_000)


def test_a_part_is_kept_back_for_ways_out(budget: LocalBudget, clock: Clock) -> None:
    drain(budget, CREATE)
    for _ in range(9):
        budget.take(CANCEL, patience=0)
    assert clock.slept == []


def test_a_way_out_is_never_refused_and_never_held_up_for_long(budget: LocalBudget, clock: Clock) -> None:
    for _ in range(200):
        before = clock.now
        budget.take(CANCEL, patience=0)
        assert clock.now - before <= LONGEST_WAIT_OUT
    budget.throttled(CANCEL)
    before = clock.now
    budget.take(CANCEL, patience=0)
    assert clock.now - before <= LONGEST_WAIT_OUT


def test_what_a_way_out_has_overdrawn_the_creates_wait_for(budget: LocalBudget, clock: Clock) -> None:
    for _ in range(45):
        budget.ask(CANCEL)
    assert not passes(budget, CREATE, patience=0.2)
    assert passes(budget, CREATE, patience=2)


def test_a_write_that_is_routed_by_ticker_waits_for_every_shard(budget: LocalBudget) -> None:
    drain(budget, BASIC.charge("POST", ORDERS, exchange_index=2))
    routed = BASIC.charge("POST", ORDERS)
    assert not passes(budget, routed)
    assert passes(budget, BASIC.charge("POST", ORDERS, exchange_index=1))


def test_a_429_empties_the_bucket_pauses_and_slows_down(budget: LocalBudget, clock: Clock) -> None:
    budget.throttled(READ)
    first = budget.ask(READ)
    assert first >= 0.25
    clock.now += 0.3
    budget.throttled(READ)
    assert budget.ask(READ) > first  # twice in a row: twice as long


def test_many_429_of_one_overshoot_count_once(budget: LocalBudget) -> None:
    budget.throttled(READ)
    once = budget.ask(READ)
    for _ in range(20):
        budget.throttled(READ)
    assert budget.ask(READ) == once


def rate_after(budget: LocalBudget, clock: Clock, seconds: float) -> float:
    """Reads per second over five seconds, after a pause."""
    clock.now += seconds
    drain(budget, READ)
    start, sent = clock.now, 0
    while clock.now < start + 5:
        budget.take(READ, patience=60)
        sent += 1
    return sent / 5


def test_after_a_while_without_429_the_full_pace_returns(budget: LocalBudget, clock: Clock) -> None:
    full = rate_after(budget, clock, 0)
    for _ in range(4):
        budget.throttled(READ)
        clock.now += 4
    assert rate_after(budget, clock, 0) < 0.9 * full
    assert rate_after(budget, clock, 60) == pytest.approx(full, rel=0.05)


def test_a_lone_process_keeps_to_its_share_and_may_still_send_single_requests(clock: Clock) -> None:
    alone = LocalBudget(share=0.25, monotonic=clock, sleep=clock.sleep)
    start, sent = clock.now, 0
    while clock.now < start + 60:
        alone.take(CREATE, patience=10)
        sent += 1
    assert 0.2 * 600 <= sent <= 0.26 * 600


def test_without_a_budget_everything_passes() -> None:
    budget = Unlimited()
    take: Callable[..., None] = budget.take
    for _ in range(1_000):
        take(CREATE, patience=0)
    budget.throttled(CREATE)
