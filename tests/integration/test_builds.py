"""Only the accepted code sends: an execution left running on another build claims nothing (RELIABILITY.md, C3)."""

from __future__ import annotations

import logging
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from approvals import decisions
from approvals.models import Proposal
from kalshi_site import guards, locks
from kalshi_site.build import build_id
from kalshi_site.models import AuditEntry, ProcessBeat
from kalshi_site.views.health import TRADING
from portfolio import risk
from portfolio.models import Position, TradingState
from tests import factories
from tests.fakes import FakeExchange, fill
from trading.execution import cancels
from trading.execution.exits import close_position
from trading.execution.router import Router
from trading.models import Order

VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def desk(exchange: FakeExchange, build: str) -> Router:
    return Router(VENUE, exchange, uuid.UUID(int=1), build=build)


def approve_one() -> Proposal:
    factories.funded()
    proposal = factories.ProposalFactory()
    return decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )


def accept(build: str) -> bool:
    return risk.accept_build(venue=VENUE, build=build, actor="op", reason="release")


def test_an_execution_of_another_build_sends_nothing_says_so_and_still_cancels(
    held: locks.Held, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = FakeExchange()
    accept("new")
    approve_one()
    assert desk(exchange, "new").round(held) == 1
    waiting = approve_one()
    cancels.request_cancel_all(venue=VENUE, actor="op")
    caplog.set_level(logging.ERROR)
    assert desk(exchange, "old").round(held) == 0
    assert len(exchange.sent) == 1
    assert "execution.build.refused" in caplog.text
    waiting.refresh_from_db()
    assert waiting.state == "approved", "it waits for the accepted build"
    assert [report.state.value for report in exchange.book.values()] == ["canceled"]
    assert desk(exchange, "new").round(held) == 1


def test_without_a_word_on_builds_the_old_execution_sends(held: locks.Held) -> None:
    """The naive desk: nobody has said which code may send."""
    exchange = FakeExchange()
    approve_one()
    assert desk(exchange, "old").round(held) == 1


def test_a_persons_own_exit_passes_on_any_build(held: locks.Held) -> None:
    exchange = FakeExchange(behaviour=fill)
    market = factories.quoted_market()
    factories.funded()
    Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=5, cost=2
    )
    accept("new")
    close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    assert desk(exchange, "old").round(held) == 1
    assert Order.objects.get().reduce_only


def test_the_first_build_is_accepted_by_running_and_the_next_by_a_word() -> None:
    assert risk.accept_build(venue=VENUE, build="one", actor="execution", is_first=True)
    assert not risk.accept_build(venue=VENUE, build="two", actor="execution", is_first=True)
    assert accept("two")
    assert not accept("two")
    assert TradingState.objects.get(scope="").expected_build == "two"
    accepted = AuditEntry.objects.filter(verb="build.accepted").order_by("pk")
    assert [entry.detail["after"] for entry in accepted] == ["one", "two"]


def test_the_terminal_accepts_the_code_of_its_directory_with_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(CommandError, match="E010"):
        call_command("trade", "accept-build")
    call_command("trade", "accept-build", "--reason", "release 5")
    assert build_id() in capsys.readouterr().out
    assert TradingState.objects.get(scope="").expected_build == build_id()


def test_health_names_an_execution_of_another_build_and_missing_guards() -> None:
    now = timezone.now()
    assert TRADING["build"]() == ""
    ProcessBeat.objects.create(name="execution", host="h", pid=1, build="old", started_at=now, beat_at=now)
    accept("new")
    assert TRADING["build"]() == "E807 execution runs build old, accepted is new"
    accept("old")
    assert TRADING["build"]() == ""
    assert TRADING["guards"]() == ""
    from django.db import connection

    guards.remove(connection)
    assert TRADING["guards"]().startswith("E806 ")
    guards.install(connection)
