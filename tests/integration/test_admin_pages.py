"""The admin as a door to deciding and to limits: it asks as much as the pages do, and tells only what happened."""

from __future__ import annotations

from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.test import Client

from approvals.models import Decision, Proposal
from kalshi_site.models import User
from portfolio import risk
from portfolio.models import RiskLimit
from tests import factories

# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]

PROPOSALS = "/admin/approvals/proposal/"


def staff(role: str) -> Client:
    person = factories.member(f"{role}1", role)
    User.objects.filter(pk=person.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    return client


def submitted(level: str, **fields: Any) -> Proposal:
    factories.funded()
    proposal: Proposal = factories.ProposalFactory(risk_level=level, **fields)
    return proposal


def answer(client: Client, *rows: Proposal, act: str = "approve", **fields: Any) -> str:
    seen: dict[str, Any] = {f"version-{row.pk}": row.version for row in rows}
    seen |= {f"terms-{row.pk}": row.terms_hash for row in rows}
    return press(client, *rows, act=act, confirmed="yes", **seen, **fields)


def press(client: Client, *rows: Proposal, act: str = "approve", **fields: Any) -> str:
    chosen = {"action": f"{act}_selected", "_selected_action": [row.pk for row in rows]}
    return unescape(client.post(PROPOSALS, {**chosen, **fields}, follow=True).content.decode())


def states() -> list[str]:
    return list(Proposal.objects.order_by("pk").values_list("state", flat=True))


# --- deciding


def test_several_at_once_are_low_only() -> None:
    rows = [submitted(level) for level in ("LOW", "MEDIUM", "LOW", "HIGH")]
    client = staff("approver")
    asked = press(client, *rows)
    assert "Approve 2 proposals?" in asked
    assert [row.ticker in asked for row in rows] == [True, False, True, False]
    told = answer(client, *rows, quantity="10")
    assert states() == ["approved", "pending", "approved", "pending"]
    for row in (rows[1], rows[3]):
        assert f"{row.public_id} is {row.risk_level} risk" in told


def test_where_none_of_them_is_low_nothing_is_asked() -> None:
    told = press(staff("approver"), submitted("HIGH"), submitted("MEDIUM"))
    assert "Approve what is shown" not in told
    assert told.count("decide it on its page") == 2


def test_a_medium_one_alone_is_approved_after_the_question() -> None:
    row, client = submitted("MEDIUM"), staff("approver")
    assert "Approve what is shown" in press(client, row)
    assert states() == ["pending"]
    answer(client, row)
    assert states() == ["approved"]


def test_a_high_one_alone_wants_its_quantity_typed() -> None:
    row, client = submitted("HIGH"), staff("approver")
    assert 'name="quantity"' in press(client, row)
    for typed in ({}, {"quantity": ""}, {"quantity": "11"}, {"quantity": "many"}):
        told = answer(client, row, **typed)
        assert states() == ["pending"]
        assert "Approve what is shown" in told
        assert 'id="typed-e"' in told
    answer(client, row, quantity="10")
    assert (states(), Decision.objects.get().method) == (["approved"], "admin")


def test_what_was_typed_as_the_reason_outlives_a_wrong_quantity() -> None:
    told = answer(staff("approver"), submitted("HIGH"), quantity="11", reason="cheap enough")
    assert 'value="cheap enough"' in told


def test_declining_stays_quick_for_all_of_them() -> None:
    rows = [submitted("HIGH"), submitted("LOW")]
    answer(staff("approver"), *rows, act="decline")
    assert states() == ["declined", "declined"]


@pytest.mark.parametrize(("action", "words"), [("buy", "Cost $5.00"), ("sell", "Pays us $5.00")])
def test_what_a_sale_brings_is_not_called_a_cost(action: str, words: str) -> None:
    assert words in press(staff("approver"), submitted("LOW", action=action))


# --- limits


def limit_page(row: RiskLimit) -> str:
    return f"/admin/portfolio/risklimit/{row.pk}/change/"


def test_a_limit_that_changed_meanwhile_is_not_overwritten() -> None:
    client, row = staff("risk"), risk.limit_row("position")
    assert f'name="seen" value="{row.version}"' in client.get(limit_page(row)).content.decode()
    risk.set_limit(name="position", value=row.value / 2, actor="admin1")
    typed = {"value": "400", "note": "calm", "seen": row.version}
    told = client.post(limit_page(row), typed, follow=True).content.decode()
    assert "E204" in told
    assert "changed successfully" not in told
    assert risk.limits()["position"] == row.value / 2
    assert not LogEntry.objects.exists()
    assert 'value="calm"' in told, "what was typed stays"
    again = client.post(limit_page(row), {**typed, "seen": row.version + 1}, follow=True).content.decode()
    assert " is 400 from now on" in again
    assert risk.limits()["position"] == 400


def test_a_form_that_saw_no_version_changes_nothing() -> None:
    client, row = staff("risk"), risk.limit_row("position")
    client.post(limit_page(row), {"value": "400", "note": "calm"})
    assert risk.limits()["position"] == row.value


def test_a_change_that_wins_between_the_look_and_the_write_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, row, honest = staff("risk"), risk.limit_row("position"), risk.set_limit

    def late(**asked: Any) -> RiskLimit:
        honest(name="position", value=row.value / 2, actor="admin1")
        return honest(**asked)

    monkeypatch.setattr(risk, "set_limit", late)
    typed = {"value": "400", "note": "calm", "seen": row.version}
    told = client.post(limit_page(row), typed, follow=True).content.decode()
    assert "E204" in told
    assert "changed successfully" not in told
    assert risk.limits()["position"] == row.value / 2


@pytest.mark.parametrize("is_new", [True, False])
def test_waiting_for_a_second_person_is_not_called_a_change(settings: Any, is_new: bool) -> None:
    settings.KALSHI_PROFILE = "live"
    client, typed = staff("admin"), {"name": "position", "value": "900", "note": "calm", "seen": "1"}
    address = "/admin/portfolio/risklimit/add/" if is_new else limit_page(risk.limit_row("position"))
    told = client.post(address, typed, follow=True).content.decode()
    assert "E309" in told
    assert "Nothing was changed" in told
    assert "successfully" not in told
    assert not LogEntry.objects.exists()
    # The first person's wish is kept, so another one's same wish does it.
    other = factories.member("risk1", "risk")
    risk.set_limit(name="position", value=Decimal(900), actor=other.get_username())
    assert risk.limits()["position"] == 900


# --- which desk it is


@pytest.mark.parametrize("profile", ["paper", "demo", "live"])
def test_the_badge_wears_the_colour_of_its_desk(settings: Any, profile: str) -> None:
    settings.KALSHI_PROFILE = profile
    page = staff("admin").get("/admin/").content.decode()
    assert f'<span class="mode-badge" data-mode="{profile}">{profile.upper()}</span>' in page
