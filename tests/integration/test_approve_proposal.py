"""Approving and declining: what was shown, by somebody who may, in time, and only if the gateway still agrees."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from approvals import decisions, proposals
from approvals.domain.lifecycle import (
    DECIDABLE,
    FINAL,
    PROPOSAL_TRANSITIONS,
    DeadlinePassed,
    ProposalState,
    WrongState,
)
from approvals.domain.policy import Origin
from approvals.models import Decision, Proposal, ProposalEvent
from approvals.signals import proposal_approved
from kalshi_site import live
from kalshi_site.models import AuditEntry, ChangeLog, TopicHead
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.models import Position, Reservation, RiskLimit
from tests import factories
from trading.domain.orders import Action, Side, Terms
from trading.execution.exits import close_position
from trading.models import Market, Quote

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def proposal() -> Proposal:
    factories.funded()
    return factories.ProposalFactory()


def approve(proposal: Proposal, name: str = "approver1", version: int = 1) -> Proposal:
    return decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=version,
        actor=factories.approver(name),
        method="page",
    )


def draft(market: Market, quantity: str = "10", **changes: object) -> proposals.Draft:
    fields = {
        "venue": VENUE,
        "terms": Terms(market.ticker, Action.BUY, Side.YES, D(quantity), D("0.50")),
        "origin": Origin.AGENT,
        "proposer": "offline-analyst",
        "time_to_decide": timedelta(minutes=5),
    }
    return proposals.Draft(**(fields | changes))  # type: ignore[arg-type]


def test_an_approval_writes_decision_reservation_history_audit_and_announcement(proposal: Proposal) -> None:
    approved = approve(proposal)
    assert (approved.state, approved.version, approved.decided_by) == ("approved", 2, "approver1")
    decision = Decision.objects.get()
    assert (decision.version, decision.terms_hash, decision.method) == (1, proposal.terms_hash, "page")
    assert decision.risk_report["allowed"] is True
    held = Reservation.objects.get()
    assert (held.key, held.signed_quantity, held.unit_cost) == (proposal.public_id, D(10), D("0.50"))
    event = ProposalEvent.objects.get()
    assert (event.from_state, event.to_state, event.actor) == ("pending", "approved", "approver1")
    assert AuditEntry.objects.get().verb == "proposal.approved"
    change = ChangeLog.objects.get(topic="proposals")
    assert (change.key, change.version) == (
        proposal.public_id,
        TopicHead.objects.get(topic="proposals").version,
    )


def test_execution_is_woken_after_the_commit(
    proposal: Proposal, django_capture_on_commit_callbacks: object
) -> None:
    woken = []
    proposal_approved.connect(
        lambda **kwargs: woken.append(kwargs["proposal_id"]), weak=False, dispatch_uid="test"
    )
    try:
        with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
            approve(proposal)
            assert woken == []
    finally:
        proposal_approved.disconnect(dispatch_uid="test")
    assert woken == [proposal.public_id]


def test_it_refuses_a_stale_version_and_names_the_fresh_row(proposal: Proposal) -> None:
    approve(proposal)
    with pytest.raises(StaleVersion) as refusal:
        approve(proposal, "approver2")
    assert isinstance(refusal.value.current, Proposal)
    assert refusal.value.current.decided_by == "approver1"
    assert Decision.objects.count() == 1


def test_it_refuses_a_second_decision_on_the_new_version(proposal: Proposal) -> None:
    approve(proposal)
    with pytest.raises(WrongState):
        approve(proposal, "approver2", version=2)


def test_where_three_must_approve_the_third_flips_it_and_money_is_reserved_once(
    proposal: Proposal, django_capture_on_commit_callbacks: Any
) -> None:
    Proposal.objects.filter(pk=proposal.pk).update(required_approvals=3)
    seen = []
    for number in (1, 2, 3):
        with django_capture_on_commit_callbacks() as woken:
            row = approve(proposal, f"approver{number}", version=number)
        reserved = Reservation.objects.filter(key=proposal.public_id).count()
        seen.append((row.state, row.approvals_count, reserved, row.decided_at is not None))
        assert Proposal.objects.unclaimed().exists() is (number == 3), "half an approval is no outbox"
    assert seen == [
        ("half_approved", 1, 0, False),
        ("half_approved", 2, 0, False),
        ("approved", 3, 1, True),
    ]
    assert woken


def test_one_person_is_not_two_approvals(proposal: Proposal) -> None:
    Proposal.objects.filter(pk=proposal.pk).update(required_approvals=2)
    approve(proposal, version=1)
    with pytest.raises(WrongState):
        approve(proposal, version=2)
    proposal.refresh_from_db()
    assert (proposal.state, proposal.approvals_count) == ("half_approved", 1)


def test_it_refuses_after_the_deadline_whatever_the_state(proposal: Proposal) -> None:
    Proposal.objects.update(deadline_at=timezone.now())
    with pytest.raises(DeadlinePassed):
        approve(proposal)
    assert [p.state for p in proposals.expire_due()] == ["expired"]
    with pytest.raises(DeadlinePassed):
        approve(proposal)
    assert not Reservation.objects.exists()


def test_only_a_role_that_decides_may_decide(proposal: Proposal) -> None:
    for role in ("viewer", "proposer", "auditor"):
        with pytest.raises(decisions.MayNotDecide):
            decisions.approve(
                proposal=proposal,
                terms_hash=proposal.terms_hash,
                version=1,
                actor=factories.member(f"a-{role}", role),
                method="rest",
            )
    with pytest.raises(decisions.MayNotDecide):
        decisions.decline(
            proposal=proposal,
            terms_hash=proposal.terms_hash,
            version=1,
            actor=factories.stranger(),
            method="rest",
        )


@pytest.mark.usefixtures("past_the_guards")
def test_nobody_decides_their_own_proposal_not_even_past_the_activity(proposal: Proposal) -> None:
    person = factories.approver("both")
    Proposal.objects.update(proposer="both")
    proposal.refresh_from_db()
    with pytest.raises(decisions.OwnProposal):
        decisions.approve(
            proposal=proposal, terms_hash=proposal.terms_hash, version=1, actor=person, method="page"
        )
    with pytest.raises(IntegrityError), transaction.atomic():
        Decision.objects.create(
            proposal=proposal,
            version=1,
            terms_hash=proposal.terms_hash,
            actor=person,
            actor_name="both",
            proposer="both",
            verdict="approve",
            method="page",
            at=timezone.now(),
        )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"yes_ask": D("0.30"), "yes_bid": D("0.29")}, "E310"),
        ({"as_of": timezone.now() - timedelta(minutes=9), "verified_at": None}, "E312"),
        ({"trusted": False}, "E312"),
    ],
)
def test_the_gateway_is_asked_again_at_the_click(
    proposal: Proposal, change: dict[str, object], code: str
) -> None:
    Quote.objects.update(**change)
    with pytest.raises(risk.Denied) as refusal:
        approve(proposal)
    assert code in {check.code for check in refusal.value.report.blocks}
    proposal.refresh_from_db()
    assert (proposal.state, proposal.version) == ("pending", 1)
    assert not Decision.objects.exists()


@pytest.mark.parametrize(("act", "code"), [(risk.pause, "E305"), (risk.halt, "E306")])
def test_a_pause_and_a_stop_refuse_approvals_with_their_code(
    proposal: Proposal, act: object, code: str
) -> None:
    act(venue=VENUE, actor="operator", reason="drill")  # type: ignore[operator]
    with pytest.raises(risk.Denied) as refusal:
        approve(proposal)
    assert refusal.value.code == code


def test_two_approvals_cannot_both_use_the_last_of_a_limit() -> None:
    factories.funded()
    market = factories.quoted_market()
    risk.set_limit(name="event_exposure", value=D(60), actor="risk1")
    first, second = (factories.ProposalFactory(market=market, quantity=D(80)) for _ in range(2))
    approve(first)
    with pytest.raises(risk.Denied) as refusal:
        approve(second)
    assert [check.name for check in refusal.value.report.blocks] == ["event_exposure"]


def test_declining_keeps_the_reason_and_reserves_nothing(proposal: Proposal) -> None:
    declined = decisions.decline(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=1,
        actor=factories.approver(),
        method="rest",
        reason="too thin",
    )
    assert (declined.state, declined.decision_reason) == ("declined", "too thin")
    assert Decision.objects.get().verdict == "decline"
    assert not Reservation.objects.exists()


def test_a_draft_beyond_a_limit_is_stored_as_denied_with_its_reasons() -> None:
    factories.funded()
    denied = proposals.submit(draft(factories.quoted_market(), "400"))
    assert (denied.state, denied.risk_level, denied.decided_by) == ("denied", "BLOCKED", "risk gateway")
    assert "$200.00 of $150.00" in denied.decision_reason


def test_a_draft_freezes_what_was_seen_and_ends_no_later_than_the_market() -> None:
    factories.funded()
    market = factories.quoted_market(close_at=timezone.now() + timedelta(seconds=90))
    pending = proposals.submit(draft(market, rules_text=market.rules_text))
    assert pending.state == "pending"
    assert pending.deadline_at == market.close_at
    assert pending.quote["yes_ask"] == "0.500000"
    assert pending.rules_text == market.rules_text
    assert {check["name"] for check in pending.risk_report["checks"]} >= {
        "data_age",
        "cash",
        "event_exposure",
    }


def test_a_redelivered_idea_finds_its_first_row() -> None:
    factories.funded()
    market = factories.quoted_market()
    first = proposals.submit(draft(market, idea_key="decision:1:X"))
    assert proposals.submit(draft(market, idea_key="decision:1:X")).pk == first.pk
    assert Proposal.objects.count() == 1


def test_an_unknown_market_is_refused_by_name() -> None:
    with pytest.raises(risk.UnknownMarket, match="NOSUCH"):
        proposals.submit(draft(Market(ticker="NOSUCH")))


def test_nothing_leaves_a_final_state_and_every_state_is_one_or_the_other() -> None:
    assert FINAL | DECIDABLE | {ProposalState.APPROVED} == set(ProposalState)
    assert not FINAL & PROPOSAL_TRANSITIONS.keys()


def test_a_limit_that_no_rule_reads_is_refused() -> None:
    with pytest.raises(risk.UnknownLimit):
        risk.set_limit(name="order_notionl", value=D(1), actor="risk1")


def test_an_operator_resumes_only_from_the_state_that_was_seen() -> None:
    seen = risk.trading_state(VENUE)
    risk.pause(venue=VENUE, actor="one", reason="")
    with pytest.raises(StaleVersion):
        risk.resume(venue=VENUE, actor="two", reason="all clear", version=seen.version)
    stopped = risk.halt(venue=VENUE, actor="one", reason="drill")
    assert (stopped.mode, stopped.kill_epoch) == ("HALTED", 1)
    again = risk.halt(venue=VENUE, actor="one", reason="again")
    assert (again.version, again.kill_epoch) == (stopped.version + 1, stopped.kill_epoch)


def test_an_exit_names_the_versions_that_it_saw() -> None:
    factories.funded()
    market = factories.quoted_market()
    held(market)
    Position.objects.update(version=7)
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    risk.set_limit(name="data_age", value=D(60), actor="risk1")
    seen = close_position(venue=VENUE, ticker=market.ticker, actor="operator").seen_versions
    assert seen == {
        "quote_as_of": str(risk.facts_of(market.ticker).book.as_of),
        "trading_state": risk.trading_state(VENUE).version,
        "kill_epoch": 1,
        "position": 7,
        "limits": {"data_age": RiskLimit.objects.get().version},
    }


def held(market: Market, quantity: str = "40") -> None:
    Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=D(quantity), cost=D(16)
    )


@pytest.mark.parametrize("act", [risk.resume, risk.pause, risk.halt])
@pytest.mark.parametrize(("quantity", "side", "price"), [("40", "yes", "0.46"), ("-40", "no", "0.48")])
def test_closing_by_hand_is_approved_at_once_in_every_trading_state(
    act: object, quantity: str, side: str, price: str
) -> None:
    factories.funded()
    market = factories.quoted_market()
    held(market, quantity)
    act(venue=VENUE, actor="operator", reason="drill")  # type: ignore[operator]
    exit_ = close_position(venue=VENUE, ticker=market.ticker, actor="approver1")
    assert (exit_.state, exit_.action, exit_.side, exit_.reduce_only) == ("approved", "sell", side, True)
    assert (exit_.quantity, exit_.limit_price) == (D(40), D(price))


def test_closing_what_is_not_held_or_what_nobody_wants_says_so() -> None:
    market = factories.quoted_market()
    with pytest.raises(proposals.NothingHeld):
        close_position(venue=VENUE, ticker=market.ticker, actor="approver1")
    held(market)
    Quote.objects.update(yes_bid=None)
    with pytest.raises(proposals.NobodyBids):
        close_position(venue=VENUE, ticker=market.ticker, actor="approver1")


def test_the_terminal_tells_the_same_story(proposal: Proposal, capsys: pytest.CaptureFixture[str]) -> None:
    factories.approver()
    words = [
        "approve",
        proposal.public_id,
        "--seen",
        "1",
        "--terms",
        proposal.terms_hash[:12],
        "--as",
        "approver1",
    ]
    call_command("proposals", *words)
    assert "approved" in capsys.readouterr().out
    with pytest.raises(CommandError, match="E204 This has changed since you saw it") as refusal:
        call_command("proposals", *words)
    assert refusal.value.returncode == 3
    call_command("trade", "pause", "--reason", "drill")
    call_command("trade", "status", "--json")
    assert '"mode": "REDUCING"' in capsys.readouterr().out


def test_execution_is_woken_before_pages_are_told(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    """A page's news may take milliseconds; the order shall not wait for it."""
    told: list[str] = []
    monkeypatch.setattr("trading.receivers.wake", lambda: told.append("execution"))
    monkeypatch.setattr(live, "publish", lambda topic, _: told.append(topic))
    factories.funded()
    proposal = factories.ProposalFactory()
    told.clear()
    with django_capture_on_commit_callbacks(execute=True):
        decisions.approve(
            proposal=proposal,
            version=1,
            terms_hash=proposal.terms_hash,
            actor=factories.approver(),
            method="page",
        )
    assert told == ["execution", "proposals"]
