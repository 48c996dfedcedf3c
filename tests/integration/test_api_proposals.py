"""Proposals over REST: read, approve, decline."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from approvals.models import Decision, Proposal
from portfolio import risk
from portfolio.models import Reservation
from tests.callers import Caller, code_of
from tests.factories import ProposalFactory, funded

pytestmark = pytest.mark.django_db


@pytest.fixture
def approver() -> Caller:
    funded()
    return Caller.of("approver")


def test_it_lists_pending_proposals_by_status_in_lower_case(approver: Caller) -> None:
    pending = ProposalFactory()
    ProposalFactory(state="declined")
    response = approver.get("/proposals?status=pending")
    assert response.status_code == 200
    page = response.json()
    assert [row["id"] for row in page["data"]] == [pending.public_id]
    assert page["has_more"] is False
    assert page["next_cursor"] is None
    assert page["data"][0]["status"] == "pending"


def test_numbers_are_strings_with_fixed_decimals_and_times_are_utc_milliseconds(approver: Caller) -> None:
    proposal = ProposalFactory(limit_price=Decimal("0.385"), quantity=Decimal(120))
    shown = approver.get(f"/proposals/{proposal.public_id}").json()
    assert (shown["limit_price"], shown["quantity"], shown["notional"]) == ("0.3850", "120.00", "46.200000")
    assert shown["deadline_at"].endswith("Z")
    assert len(shown["deadline_at"]) == len("2026-11-23T00:00:00.000Z")
    assert shown["decided_at"] is None
    assert shown["version"] == 1


def test_the_version_is_the_entity_tag_and_an_unchanged_proposal_is_not_sent_again(approver: Caller) -> None:
    proposal = ProposalFactory()
    first = approver.get(f"/proposals/{proposal.public_id}")
    assert first["ETag"] == '"v1"'
    again = approver.get(f"/proposals/{proposal.public_id}", If_None_Match='"v1"')
    assert (again.status_code, again.content) == (304, b"")


def test_it_approves_what_was_seen_and_reserves_the_cost(approver: Caller) -> None:
    proposal = ProposalFactory()
    response = approver.approve(proposal, note="good price")
    assert response.status_code == 200, response.content
    assert response.json()["status"] == "approved"
    assert response.json()["decided_by"] == "approver1"
    assert response["ETag"] == '"v2"'
    decision = Decision.objects.get()
    assert (decision.version, decision.method, decision.reason) == (1, "rest", "good price")
    assert Reservation.objects.get().key == proposal.public_id


def test_it_declines_with_a_reason_and_nothing_is_reserved(approver: Caller) -> None:
    proposal = ProposalFactory()
    response = approver.post(
        f"/proposals/{proposal.public_id}/decline", {"reason": "thin book"}, If_Match='"v1"'
    )
    assert (response.status_code, response.json()["status"]) == (200, "declined")
    assert response.json()["decision_reason"] == "thin book"
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("verb", ["approve", "decline"])
def test_a_decision_without_the_version_seen_is_refused(approver: Caller, verb: str) -> None:
    proposal = ProposalFactory()
    response = approver.post(f"/proposals/{proposal.public_id}/{verb}")
    assert (response.status_code, code_of(response)) == (428, "E203")
    without_key_too = approver.post(f"/proposals/{proposal.public_id}/{verb}", key=None)
    assert code_of(without_key_too) == "E203"
    assert _untouched(proposal)


@pytest.mark.parametrize("tag", ["v1", '"1"', 'W/"v1"', "*", '"v0"', '"v1", "v2"', '"v٣"'])
def test_a_version_in_another_form_is_refused(approver: Caller, tag: str) -> None:
    proposal = ProposalFactory()
    response = approver.approve(proposal, seen=tag)
    assert (response.status_code, code_of(response)) == (400, "E001")
    assert _untouched(proposal)


@pytest.mark.parametrize("verb", ["approve", "decline"])
def test_a_stale_version_is_refused_and_shown_what_stands_now(approver: Caller, verb: str) -> None:
    proposal = ProposalFactory()
    other = Caller.of("approver", username="approver2")
    other.post(f"/proposals/{proposal.public_id}/decline", If_Match='"v1"')
    terms = {"terms_hash": proposal.terms_hash}
    response = approver.post(f"/proposals/{proposal.public_id}/{verb}", terms, If_Match='"v1"')
    assert (response.status_code, code_of(response)) == (412, "E204")
    current = response.json()["current"]
    assert (current["id"], current["version"], current["status"]) == (proposal.public_id, 2, "declined")


def test_a_decided_proposal_cannot_be_decided_again(approver: Caller) -> None:
    proposal = ProposalFactory(state="declined", version=2)
    response = approver.approve(proposal, seen='"v2"')
    assert (response.status_code, code_of(response)) == (409, "E212")


@pytest.mark.parametrize("verb", ["approve", "decline"])
def test_after_the_deadline_nothing_can_be_decided(approver: Caller, verb: str) -> None:
    proposal = ProposalFactory(deadline_at=timezone.now() - timedelta(seconds=1))
    terms = {"terms_hash": proposal.terms_hash}
    response = approver.post(f"/proposals/{proposal.public_id}/{verb}", terms, If_Match='"v1"')
    assert (response.status_code, code_of(response)) == (409, "E210")
    assert _untouched(proposal)


@pytest.mark.parametrize(("change", "code"), [(risk.pause, "E305"), (risk.halt, "E306")])
def test_while_trading_is_paused_or_stopped_an_approval_is_refused(
    approver: Caller, change: object, code: str
) -> None:
    proposal = ProposalFactory()
    change(venue="paper", actor="risk1", reason="drill")  # type: ignore[operator]
    response = approver.approve(proposal)
    assert (response.status_code, code_of(response)) == (409, code)
    assert response.json()["errors"][0]["pointer"] == "#/checks/trading_state"
    assert _untouched(proposal)


def test_an_approval_beyond_a_limit_names_every_limit(approver: Caller) -> None:
    proposal = ProposalFactory(quantity=Decimal(9000))
    response = approver.approve(proposal)
    assert (response.status_code, code_of(response)) == (409, "E301")
    assert {fault["pointer"] for fault in response.json()["errors"]} >= {
        "#/checks/order_notional",
        "#/checks/position",
    }
    assert _untouched(proposal)


def test_the_maker_cannot_decide(approver: Caller) -> None:
    proposal = ProposalFactory(proposer="approver1", origin="person")
    response = approver.approve(proposal)
    assert (response.status_code, code_of(response)) == (403, "E107")
    assert _untouched(proposal)


def test_a_price_off_the_grid_is_refused(approver: Caller) -> None:
    proposal = ProposalFactory(limit_price=Decimal("0.5050"))
    response = approver.approve(proposal)
    assert (response.status_code, code_of(response)) == (422, "E014")
    assert _untouched(proposal)


def test_an_unknown_proposal_is_not_found(approver: Caller) -> None:
    assert code_of(approver.get("/proposals/prop_none")) == "E021"
    assert code_of(approver.post("/proposals/prop_none/approve", If_Match='"v1"')) == "E021"


def test_pages_follow_each_other_without_gap_or_repeat(approver: Caller) -> None:
    ids = [ProposalFactory().public_id for _ in range(5)]
    first = approver.get("/proposals?limit=2").json()
    newcomer = ProposalFactory().public_id
    seen = [row["id"] for row in first["data"]]
    cursor = first["next_cursor"]
    while cursor:
        page = approver.get(f"/proposals?limit=2&cursor={cursor}").json()
        seen += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == ids[::-1]
    assert newcomer not in seen


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=sleeping", "E012"),
        ("status=PENDING", "E012"),
        ("limit=0", "E012"),
        ("limit=201", "E012"),
        ("limit=many", "E011"),
        ("cursor=forged", "E015"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(approver: Caller, query: str, code: str) -> None:
    assert code_of(approver.get(f"/proposals?{query}")) == code


def _untouched(proposal: Proposal) -> bool:
    fresh = Proposal.objects.get(pk=proposal.pk)
    return fresh.version == 1 and fresh.state == "pending" and not Reservation.objects.exists()
