"""What a page gets back for a press, and how old what its frame shows may be."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from approvals.models import Decision, Proposal
from portfolio.models import EquityPoint
from tests import factories
from trading.models import Quote

D = Decimal
HTMX = {"HX-Request": "true"}

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def signed_in(role: str = "approver", *, strict: bool = False) -> Client:
    client = Client(enforce_csrf_checks=strict)
    client.force_login(factories.member(f"{role}1", role))
    return client


@pytest.fixture
def proposal() -> Proposal:
    factories.funded()
    return factories.ProposalFactory()


def seen(proposal: Proposal) -> dict[str, object]:
    return {"version": proposal.version, "terms_hash": proposal.terms_hash}


@pytest.mark.parametrize(("act", "reason"), [("approve", {}), ("decline", {"reason": "price"})])
def test_the_second_press_of_one_person_is_told_the_outcome_of_the_first(
    proposal: Proposal, act: str, reason: dict[str, str]
) -> None:
    """Naive: "decide again" in red over a success."""
    client, address = signed_in(), f"/approvals/{proposal.public_id}/{act}"
    assert client.post(address, seen(proposal) | reason, headers=HTMX).status_code == 200
    again = client.post(address, seen(proposal) | reason, headers=HTMX)
    assert again.status_code == 200
    assert "E204" not in again.content.decode()
    assert Decision.objects.count() == 1


def test_who_presses_after_somebody_else_is_told_so(proposal: Proposal) -> None:
    address = f"/approvals/{proposal.public_id}/approve"
    assert signed_in().post(address, seen(proposal), headers=HTMX).status_code == 200
    other = Client()
    other.force_login(factories.member("approver2", "approver"))
    late = other.post(address, seen(proposal), headers=HTMX)
    assert late.status_code == 412
    assert "E204" in late.content.decode()


def test_a_press_that_meets_a_fault_gets_words_above_the_page_and_no_second_frame(proposal: Proposal) -> None:
    """Naive: a whole page is morphed into the card."""
    answer = signed_in(strict=True).post(
        f"/approvals/{proposal.public_id}/approve", seen(proposal), headers=HTMX
    )
    text = answer.content.decode()
    assert answer.status_code == 403
    assert "E106" in text and "<html" not in text and "<main" not in text
    assert 'id="fault"' in text and "hx-swap-oob" in text


def test_the_header_says_when_prices_were_last_proven_and_how_old_they_may_be(proposal: Proposal) -> None:
    """Naive: the time of the last price that moved, so that a quiet market holds approvals and exits up."""
    proven = timezone.now()
    Quote.objects.update(verified_at=proven)
    part = signed_in().get("/frame/state", headers=HTMX).content.decode()
    assert f'data-quotes-as-of="{int(proven.timestamp() * 1000)}"' in part
    assert 'data-too-old="10000"' in part


@pytest.mark.parametrize("is_exit", [True, False])
def test_only_an_exit_is_never_held_up_by_old_prices(is_exit: bool) -> None:
    factories.funded()
    proposal = factories.ProposalFactory(reduce_only=is_exit)
    client = signed_in()
    for page in ("/approvals", f"/approvals/{proposal.public_id}"):
        (button,) = re.findall(r'<button[^>]*data-decide="approve"[^>]*>', client.get(page).content.decode())
        assert ("data-exit" in button) is is_exit


@pytest.mark.parametrize(
    ("age", "shown"), [(timedelta(minutes=1), "$10,123.00"), (timedelta(minutes=5), "–")]
)
def test_an_equity_of_long_ago_is_not_shown_as_the_present_one(age: timedelta, shown: str) -> None:
    """Naive: the last point that there is, hours old where a held market has no bid."""
    equity = D("10123.00")
    EquityPoint.objects.create(
        venue="paper", at=timezone.now() - age, equity=equity, cash=equity, realized=D(0), unrealized=D(0)
    )
    assert f"<b>{shown}</b>" in signed_in().get("/frame/vitals", headers=HTMX).content.decode()
