"""The desk's own metrics: every state is there, broken books show, nothing names a market or a person."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from portfolio import risk
from portfolio.models import Position, Reservation
from tests import factories
from trading.domain.orders import OrderState
from trading.execution import work_items
from trading.execution.work_items import Difference
from trading.models import Cycle, WorkKind

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def scrape() -> dict[str, float]:
    lines = Client().get("/metrics").content.decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("kops_"))
    }


def test_every_state_is_counted_and_an_empty_desk_is_whole() -> None:
    seen = scrape()
    for state in OrderState:
        assert seen[f'kops_orders{{state="{state}"}}'] == 0
    assert seen['kops_trading_mode{mode="ACTIVE"}'] == 1
    assert {value for name, value in seen.items() if name.startswith("kops_broken_")} == {0.0}


def test_the_numbers_follow_the_books() -> None:
    factories.funded()
    order = factories.OrderFactory()
    risk.halt(venue=factories.VENUE, actor="operator", reason="drill")
    seen = scrape()
    assert seen['kops_orders{state="resting"}'] == 1
    assert seen['kops_trading_mode{mode="HALTED"}'] == 1
    assert seen["kops_cash_dollars"] == seen["kops_equity_dollars"] == 10_000
    assert seen["kops_quote_age_seconds"] < 60
    assert not any(order.ticker in name for name in seen)


def test_broken_books_and_a_standing_drift_are_not_zero() -> None:
    order = factories.OrderFactory(state="canceled")
    assert order.proposal is not None
    Reservation.objects.create(
        venue=factories.VENUE,
        key=order.proposal.public_id,
        ticker=order.ticker,
        event_ticker=order.event_ticker,
        signed_quantity=Decimal(10),
        unit_cost=Decimal("0.5"),
        unit_fee=Decimal("0.02"),
    )
    Position.objects.create(
        venue=factories.VENUE, ticker="SIMX", event_ticker="SIMX", quantity=Decimal(0), cost=Decimal(1)
    )
    for slot in (1, 2):
        Cycle.objects.create(
            loop="update",
            slot=slot,
            started_at=timezone.now(),
            finished_at=timezone.now(),
            detail={"drift": "-1.25"},
        )
    seen = scrape()
    assert seen["kops_broken_left_over"] == 1
    assert seen["kops_broken_costly_nothing"] == 1
    assert seen["kops_broken_cash_drift_dollars"] == -1.25
    assert "−$1.25" in Client().get("/tradez").json()["checks"]["books"]


def test_they_are_there_too_where_several_processes_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So the supervisor starts the desk: the package then shows what files of all processes say, and nothing else."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    seen = scrape()
    assert "kops_broken_two_orders" in seen and 'kops_breaker{breaker="model"}' in seen


def test_what_nobody_has_answered_is_counted_and_a_comparison_by_command_is_no_loop() -> None:
    work_items.report(factories.VENUE, Difference(WorkKind.CASH_DRIFT, "cash", theirs="2", ours="1"))
    for loop in ("update", "reconcile"):
        Cycle.objects.create(loop=loop, slot=1, started_at=timezone.now(), finished_at=timezone.now())
    seen = scrape()
    assert seen['kops_work_items{kind="cash_drift"}'] == 1
    assert seen['kops_work_items{kind="orphan_order"}'] == 0
    assert 'kops_loop_age_seconds{loop="update"}' in seen
    assert 'kops_loop_age_seconds{loop="reconcile"}' not in seen
