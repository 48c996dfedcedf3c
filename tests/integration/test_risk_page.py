"""The page Risk without a script: limits and their use, scopes, autonomy, history; every form, every right."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from approvals import decisions
from kalshi_site.models import AuditEntry
from portfolio import risk
from portfolio.models import RiskLimit, TradingState
from tests import factories

D = Decimal
VENUE = factories.VENUE
# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def as_member(role: str, username: str = "") -> Client:
    client = Client()
    client.force_login(factories.member(username or f"{role}1", role))
    return client


def shown(client: Client, address: str = "/risk") -> str:
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def sent(client: Client, address: str, **fields: Any) -> tuple[int, str]:
    response = client.post(address, fields, follow=True)
    return response.status_code, response.content.decode()


# --- what it shows


def test_each_limit_stands_with_its_use_and_what_uses_it_most() -> None:
    factories.funded()
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    uses = {use.limit.name: use for use in risk.limit_use(VENUE, unattended=D(3))}
    assert (uses["event_exposure"].used, uses["event_exposure"].subject) == (D(5), proposal.event_ticker)
    assert (uses["position"].used, uses["position"].subject) == (D(10), proposal.ticker)
    assert (uses["total_exposure"].used, uses["total_exposure"].left) == (D(5), D(5995))
    assert (uses["auto_daily"].used, uses["price_collar"].used) == (D(3), None)
    page = shown(as_member("viewer"))
    assert "This event, most to lose" in page
    assert "$5,995.00" in page


def test_the_use_agrees_with_the_gateways_own_numbers() -> None:
    factories.funded()
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    facts = risk.portfolio_facts(VENUE, risk.facts_of(proposal.ticker))
    uses = {use.limit.name: use.used for use in risk.limit_use(VENUE, unattended=D(0))}
    assert uses["event_exposure"] == facts.event_exposure
    assert uses["total_exposure"] == facts.total_exposure
    assert uses["cash_committed"] == facts.reserved_cash
    assert uses["position"] == abs(facts.held + facts.pending)


def test_what_is_nearest_to_its_limit_comes_first() -> None:
    factories.funded()
    risk.set_limit(name="event_exposure", value=D(6), actor="risk1")
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    first = risk.nearest(VENUE, shown=3)[0]
    assert (first.limit.name, first.left, first.is_near) == ("event_exposure", D(1), True)
    assert "1 above 75%" in shown(as_member("viewer"))


def test_a_waiting_proposal_that_would_be_denied_now_is_named_with_the_reason() -> None:
    factories.funded()
    proposal = factories.ProposalFactory()
    risk.set_limit(name="event_exposure", value=D(1), actor="risk1")
    page = shown(as_member("viewer"))
    assert f"/approvals/{proposal.public_id}" in page
    assert "denied: This event, most to lose: $5.00 of $1.00" in page


def test_the_one_that_would_be_denied_is_found_behind_others_that_end_sooner() -> None:
    factories.funded()
    for _ in range(8):
        factories.ProposalFactory()
    last = factories.ProposalFactory(quantity=D(11))
    risk.set_limit(name="order_notional", value=D("5.20"), actor="risk1")
    page = shown(as_member("viewer"))
    assert f'/approvals/{last.public_id}">' in page
    assert page.count("is approved now") == 1


def test_every_role_sees_it_and_who_may_not_act_is_told_who_may() -> None:
    page = shown(as_member("viewer"))
    assert "The roles <b>risk</b> and <b>admin</b> edit limits" in page
    assert "Pausing needs the role approver, risk or admin." in page


@pytest.mark.parametrize("part", ["limits", "state", "changes"])
def test_its_live_parts_come_alone(part: str) -> None:
    piece = shown(as_member("risk"), f"/risk?part={part}")
    assert f'id="risk-{part}"' in piece
    assert "<html" not in piece


def test_the_breakers_are_there() -> None:
    assert 'id="breakers"' in shown(as_member("viewer"))


# --- scopes


def test_a_series_is_paused_by_kind_and_name_and_listed_with_who_and_why() -> None:
    client = as_member("risk")
    status, page = sent(
        client,
        "/trading/state",
        to="REDUCING",
        kind="series",
        name="SIMTEST",
        reason="odd fills",
        next="/risk",
    )
    assert status == 200
    assert "Trading is paused for the series SIMTEST" in page
    assert "The series SIMTEST" in page
    assert "odd fills" in page
    assert TradingState.objects.get(scope="series:SIMTEST").mode == "REDUCING"
    assert risk.trading_state(VENUE).mode == "ACTIVE"


@pytest.mark.parametrize(
    "fields", [{"kind": "series", "name": " "}, {"scope": "serie:X"}, {"kind": "all", "name": "X"}]
)
def test_a_scope_that_names_nothing_stops_nothing_and_says_so(fields: dict[str, str]) -> None:
    _, page = sent(as_member("risk"), "/trading/state", to="HALTED", next="/risk", **fields)
    assert "E012" in page
    assert not TradingState.objects.exclude(mode="ACTIVE").exists()


def test_a_scope_is_resumed_with_a_reason_and_the_version_seen() -> None:
    client = as_member("risk")
    state = risk.halt(venue=VENUE, actor="risk1", reason="drill", scope="market:SIM-1")
    form = shown(client, "/trading/resume?scope=market:SIM-1&next=/risk")
    assert "Resume trading for the market SIM-1" in form
    fields = {"scope": "market:SIM-1", "next": "/risk", "reason": "over"}
    assert sent(client, "/trading/resume", version=state.version - 1, **fields)[0] == 412
    status, page = sent(client, "/trading/resume", version=state.version, **fields)
    assert status == 200
    assert "Trading is on again for the market SIM-1" in page
    assert TradingState.objects.get(scope="market:SIM-1").mode == "ACTIVE"


def test_a_pause_pressed_on_a_stop_says_that_it_is_stopped() -> None:
    risk.halt(venue=VENUE, actor="risk1", reason="drill", scope="series:SIMTEST")
    _, page = sent(as_member("risk"), "/trading/state", to="REDUCING", scope="series:SIMTEST", next="/risk")
    assert "Trading is already stopped for the series SIMTEST" in page
    assert "Trading is paused" not in page
    assert TradingState.objects.get(scope="series:SIMTEST").mode == "HALTED"


@pytest.mark.parametrize("scope", ["serie:X", "market:" + "X" * 200])
def test_a_scope_that_names_nothing_does_not_resume_everything(scope: str) -> None:
    state = risk.halt(venue=VENUE, actor="risk1", reason="drill")
    client = as_member("risk")
    fields = {"scope": scope, "reason": "over", "version": state.version}
    status, page = sent(client, "/trading/resume", **fields)
    assert (status, "Nothing was changed" in page) == (200, True)
    assert client.get("/trading/resume", {"scope": scope}).headers["Location"] == "/risk"
    assert sent(client, "/trading/state", to="REDUCING", scope=scope)[0] == 200
    assert risk.trading_state(VENUE).mode == "HALTED"


def test_a_series_in_small_letters_is_the_series() -> None:
    sent(as_member("risk"), "/trading/state", to="HALTED", kind="series", name="simtest")
    assert [row.scope for row in risk.standing(VENUE)] == ["series:SIMTEST"]


def test_on_a_live_desk_a_second_person_resumes(settings: Any) -> None:
    settings.KALSHI_PROFILE = "live"
    state = risk.halt(venue="live", actor="risk1", reason="drill")
    fields = {"version": state.version, "reason": "over", "next": "/risk"}
    status, page = sent(as_member("risk"), "/trading/resume", **fields)
    assert status == 409
    assert "E309" in page
    assert sent(as_member("admin"), "/trading/resume", **fields)[0] == 200
    assert risk.trading_state("live").mode == "ACTIVE"


# --- limits


def test_a_tighter_limit_holds_at_once_and_is_remembered() -> None:
    client = as_member("risk")
    assert "built in is $150.00" in shown(client, "/risk/limits/order_notional")
    status, page = sent(client, "/risk/limits/order_notional", value="80", version=1)
    assert status == 200
    assert "Order notional is $80.00 from now on" in page
    assert "<del>$150.00</del>" in page
    assert risk.limits()["order_notional"] == D(80)
    entry = AuditEntry.objects.get(verb="limit.set")
    assert (entry.actor, entry.detail["before"], entry.detail["after"]) == ("risk1", "150.000000", "80")


def test_a_looser_limit_needs_a_reason() -> None:
    client = as_member("risk")
    status, page = sent(client, "/risk/limits/order_notional", value="500", version=1)
    assert status == 422
    assert "E010" in page
    assert sent(client, "/risk/limits/order_notional", value="500", version=1, reason="calm")[0] == 200
    assert risk.limits()["order_notional"] == D(500)


def test_less_time_to_the_close_is_the_looser_way() -> None:
    client = as_member("risk")
    assert sent(client, "/risk/limits/time_to_close", value="5", version=1)[0] == 422
    assert sent(client, "/risk/limits/time_to_close", value="60", version=1)[0] == 200


def test_a_limit_that_changed_meanwhile_is_not_overwritten() -> None:
    client = as_member("risk")
    shown(client, "/risk/limits/position")
    risk.set_limit(name="position", value=D(100), actor="admin1")
    status, page = sent(client, "/risk/limits/position", value="400", version=1, reason="calm")
    assert status == 412
    assert "E204" in page
    assert risk.limits()["position"] == D(100)


@pytest.mark.parametrize("value", ["-1", "", "many", "1.1234567", "NaN", "Infinity"])
def test_a_value_that_is_no_amount_changes_nothing(value: str) -> None:
    status, page = sent(as_member("risk"), "/risk/limits/position", value=value, version=1, reason="x")
    assert status == 422
    assert "E012" in page
    assert risk.limits()["position"] == D(500)


def test_on_a_live_desk_a_looser_limit_takes_two_persons_with_the_same_wish(settings: Any) -> None:
    settings.KALSHI_PROFILE = "live"
    first, second = as_member("risk"), as_member("admin")
    address, fields = "/risk/limits/position", {"version": 1, "reason": "calm"}
    assert sent(first, address, value="600", **fields)[0] == 409
    assert sent(first, address, value="600", **fields)[0] == 409
    assert sent(second, address, value="900", **fields)[0] == 409  # another wish
    assert risk.limits()["position"] == D(500)
    assert sent(first, address, value="900", **fields)[0] == 200
    assert risk.limits()["position"] == D(900)


def test_on_a_live_desk_a_tighter_limit_takes_one(settings: Any) -> None:
    settings.KALSHI_PROFILE = "live"
    assert sent(as_member("risk"), "/risk/limits/position", value="10", version=1)[0] == 200


def test_the_admin_is_held_to_the_second_person_too(settings: Any) -> None:
    settings.KALSHI_PROFILE = "live"
    user = factories.member("admin1", "admin")
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    row = risk.limit_row("position")
    address = f"/admin/portfolio/risklimit/{row.pk}/change/"
    fields = {"name": "position", "value": "900", "note": "calm", "seen": row.version}
    response = client.post(address, fields, follow=True)
    assert "E309" in response.content.decode()
    assert RiskLimit.objects.get(name="position").value == D(500)


@pytest.mark.parametrize("role", ["viewer", "proposer", "approver", "auditor"])
def test_other_roles_edit_no_limit(role: str) -> None:
    client = as_member(role)
    assert client.get("/risk/limits/position").status_code == 403
    assert client.post("/risk/limits/position", {"value": "1", "version": 1}).status_code == 403


def test_an_unknown_limit_is_not_found() -> None:
    assert as_member("risk").get("/risk/limits/positoin").status_code == 404


# --- autonomy


def test_less_autonomy_is_one_press() -> None:
    status, page = sent(as_member("approver"), "/trading/autonomy", level="off", version=9)
    assert status == 200
    assert "The autonomy level is off" in page
    assert risk.level_of(VENUE) == "off"


def test_more_autonomy_asks_why() -> None:
    client = as_member("risk")
    assert "approved without a person" in shown(client, "/trading/autonomy?level=auto")
    status, page = sent(client, "/trading/autonomy", level="auto", version=1)
    assert status == 422
    assert "Say why it is safe now" in page
    assert sent(client, "/trading/autonomy", level="auto", version=7, reason="calm")[0] == 412
    assert sent(client, "/trading/autonomy", level="auto", version=1, reason="calm")[0] == 200
    assert risk.level_of(VENUE) == "auto"
    assert "calm" in shown(client)


@pytest.mark.parametrize(("version", "status"), [(7, 412), (1, 409)])
def test_a_refused_raise_keeps_what_was_typed(settings: Any, version: int, status: int) -> None:
    settings.KALSHI_PROFILE = "live"
    fields = {"level": "auto", "version": version, "reason": "calm all week"}
    refused, page = sent(as_member("risk"), "/trading/autonomy", **fields)
    assert refused == status
    assert 'value="calm all week"' in page


def test_more_room_leads_nowhere_for_who_may_not_give_it_and_says_why() -> None:
    page = shown(as_member("viewer"))
    assert "/trading/autonomy?level=" not in page
    assert 'aria-disabled="true" aria-describedby="who-autonomy">Auto…<' in page
    assert 'id="who-autonomy">Changing the level needs the role approver, risk or admin.<' in page
    assert 'href="/trading/autonomy?level=auto"' in shown(as_member("risk"))


def test_a_viewer_changes_no_autonomy() -> None:
    client = as_member("viewer")
    assert client.post("/trading/autonomy", {"level": "off", "version": 1}).status_code == 403
    assert risk.level_of(VENUE) == "propose"


def test_only_who_may_decide_attends() -> None:
    as_member("viewer").post("/trading/attend")
    assert risk.autonomy(VENUE).attended_at is None
    as_member("approver").post("/trading/attend")
    assert risk.autonomy(VENUE).attended_by == "approver1"
