"""The autonomy level: what the analyst may do by itself, who changes that, and that a lowered level holds at once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from approvals.domain.policy import Origin
from approvals.models import Proposal
from approvals.proposals import Draft, submit
from kalshi_site import locks
from kalshi_site.models import AuditEntry
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.models import Autonomy, AutonomyEvent, Reservation, RiskLimit, TradingState
from tests import factories
from tests.callers import Caller, code_of
from tests.fakes import FakeExchange, accept
from trading.domain.orders import Action, Side, Terms
from trading.engine.decision_cycle import decision_cycle
from trading.execution import claims
from trading.execution.router import Router
from trading.models import Market, Order

D = Decimal
VENUE = factories.VENUE
OFF, PROPOSE, AUTO = AutonomyLevel

pytestmark = pytest.mark.django_db


@pytest.fixture
def market() -> Market:
    factories.funded()
    return factories.quoted_market()


def level(wanted: AutonomyLevel, **fields: Any) -> Autonomy:
    return risk.set_autonomy(
        **{"venue": VENUE, "level": wanted, "actor": "risk1", "reason": "drill"} | fields
    )


def idea(
    market: Market, quantity: int = 10, *, venue: str = VENUE, origin: Origin = Origin.AGENT
) -> Proposal:
    return submit(
        Draft(
            venue=venue,
            terms=Terms(market.ticker, Action.BUY, Side.YES, D(quantity), D("0.50")),
            origin=origin,
            proposer="offline-analyst",
            time_to_decide=timedelta(minutes=5),
            strategy="fair-value",
        )
    )


# --- what each level lets through


def test_by_default_every_proposal_asks_a_person(market: Market) -> None:
    assert risk.level_of(VENUE) is PROPOSE
    assert idea(market).state == "pending"


def test_off_stores_the_idea_as_denied_and_says_why(market: Market) -> None:
    level(OFF)
    refused = idea(market)
    assert (refused.state, refused.decision_reason) == ("denied", "E314: the autonomy level is off")
    assert not Reservation.objects.exists()


def test_off_holds_nobody_back_but_the_analyst(market: Market) -> None:
    level(OFF)
    assert idea(market, origin=Origin.PERSON).state == "pending"


def test_auto_approves_low_risk_and_reserves_for_it(market: Market) -> None:
    level(AUTO)
    passed = idea(market)
    assert (passed.state, passed.decided_by, passed.is_unattended) == ("approved", "policy", True)
    assert Reservation.objects.get().key == passed.public_id


def test_auto_asks_a_person_about_anything_that_is_not_low(market: Market) -> None:
    level(AUTO)
    asked = idea(market, 200)  # $100 of the $150 for one order
    assert (asked.risk_level, asked.state) == ("MEDIUM", "pending")
    assert asked.events.get().reason == "asks a person: the risk is MEDIUM"


def test_auto_stops_at_the_days_budget_to_the_cent(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)  # it is no midnight meanwhile
    risk.set_limit(name="auto_daily", value=D("10.00"), actor="risk1")
    level(AUTO)
    assert [idea(market).state for _ in range(3)] == ["approved", "approved", "pending"]


def test_yesterdays_approvals_do_not_count_today(market: Market) -> None:
    risk.set_limit(name="auto_daily", value=D("5.00"), actor="risk1")
    level(AUTO)
    first = idea(market)
    Proposal.objects.filter(pk=first.pk).update(decided_at=timezone.now() - timedelta(days=1))
    assert idea(market).state == "approved"


def test_auto_overrides_no_limit_and_no_stop(market: Market) -> None:
    level(AUTO)
    assert idea(market, 400).state == "denied"
    risk.halt(venue=VENUE, actor="risk1", reason="drill")
    assert idea(market).state == "denied"


def test_on_a_live_desk_auto_needs_somebody_before_the_queue(market: Market) -> None:
    factories.funded(venue="live")
    Autonomy.objects.create(venue="live", level="auto")
    assert idea(market, venue="live").state == "pending"
    risk.attend(venue="live", actor="approver1")
    assert idea(market, venue="live").state == "approved"
    Autonomy.objects.update(attended_at=timezone.now() - timedelta(seconds=31))
    assert idea(market, venue="live").state == "pending"


@pytest.mark.usefixtures("redis_server")
def test_off_asks_no_model(market: Market) -> None:
    class Counting:
        name = "counting"
        asked = 0

        def study(self, brief: Any) -> Any:
            self.asked += 1
            raise AssertionError

    class Silent:
        def trades(self, *, since: Any = None) -> list[Any]:
            return []

    level(OFF)
    analyst = Counting()
    done = decision_cycle(venue=VENUE, analyst=analyst, public=Silent())
    assert done is not None
    assert (analyst.asked, done.studied) == (0, 0)
    assert done.reasons["the autonomy level is off"] == 1


# --- a lowered level holds at once, also for what was approved a moment ago


@pytest.fixture
def held(transactional_db: None) -> Iterator[locks.Held]:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        yield lease


def _sent(held: locks.Held) -> int:
    exchange = FakeExchange()
    exchange.behaviour = accept
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1)).round(held)


def test_what_was_approved_without_a_person_is_voided_once_the_level_is_lowered(
    held: locks.Held, market: Market
) -> None:
    level(AUTO)
    passed = idea(market)
    level(PROPOSE)
    assert _sent(held) == 0
    passed.refresh_from_db()
    assert passed.state == "voided"
    assert not Reservation.objects.filter(released_at=None).exists()
    assert not Order.objects.exists()


def test_while_the_level_stands_it_is_sent(held: locks.Held, market: Market) -> None:
    level(AUTO)
    idea(market)
    assert _sent(held) == 1


def test_a_claim_that_forgets_the_level_would_send_it(
    held: locks.Held, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_lost_mandate", lambda _: "")
    level(AUTO)
    idea(market)
    level(PROPOSE)
    assert _sent(held) == 1


# --- changing it


def test_more_room_needs_a_reason_and_the_version_that_was_seen() -> None:
    level(OFF)
    with pytest.raises(risk.ReasonMissing):
        level(PROPOSE, reason=" ")
    with pytest.raises(StaleVersion):
        level(PROPOSE, version=1)
    level(PROPOSE, version=2)
    assert risk.level_of(VENUE) is PROPOSE


def test_less_room_is_never_refused() -> None:
    level(AUTO)
    level(OFF, reason="", version=77)
    assert risk.level_of(VENUE) is OFF


def test_each_change_is_remembered_and_audited() -> None:
    level(AUTO, actor="risk1", reason="calm week")
    level(OFF, actor="approver1", reason="")
    events = AutonomyEvent.objects.values_list("from_state", "to_state", "actor", "reason")
    assert list(events) == [("propose", "auto", "risk1", "calm week"), ("auto", "off", "approver1", "")]
    verbs = AuditEntry.objects.filter(object_type="autonomy").order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["autonomy.raise", "autonomy.lower"]


def test_on_a_live_desk_auto_takes_two_persons_and_the_wish_outlives_the_refusal() -> None:
    with pytest.raises(risk.SecondPersonNeeded):
        level(AUTO, venue="live", actor="risk1")
    with pytest.raises(risk.SecondPersonNeeded):
        level(AUTO, venue="live", actor="risk1")
    assert risk.level_of("live") is PROPOSE
    level(AUTO, venue="live", actor="admin1")
    assert risk.level_of("live") is AUTO


# --- the doors


def test_over_rest_the_level_is_read_and_set_with_the_version_seen() -> None:
    caller = Caller.of("risk")
    shown = caller.get("/trading/autonomy")
    assert (shown.json()["level"], shown["ETag"]) == ("propose", '"v1"')
    assert code_of(caller.put("/trading/autonomy", {"level": "auto", "reason": "x"})) == "E203"
    refused = caller.put("/trading/autonomy", {"level": "auto"}, If_Match='"v1"')
    assert code_of(refused) == "E010"
    changed = caller.put("/trading/autonomy", {"level": "auto", "reason": "calm"}, If_Match='"v1"')
    assert (changed.status_code, changed.json()["level"], changed["ETag"]) == (200, "auto", '"v2"')
    stale = caller.put("/trading/autonomy", {"level": "off"}, If_Match='"v1"')
    assert stale.json()["level"] == "off"


def test_over_rest_the_first_persons_wish_is_kept_though_it_is_refused(settings: Any) -> None:
    settings.KALSHI_PROFILE = "live"
    first, second = Caller.of("risk"), Caller.of("admin")
    body = {"level": "auto", "reason": "calm"}
    key = {"If_Match": '"v1"', "Idempotency_Key": "one"}
    assert code_of(first.put("/trading/autonomy", body, **key)) == "E309"
    assert second.put("/trading/autonomy", body, If_Match='"v1"').json()["level"] == "auto"


def test_over_rest_the_wish_to_resume_is_kept_too(settings: Any) -> None:
    settings.KALSHI_PROFILE = "live"
    risk.halt(venue="live", actor="risk1", reason="drill")
    first, second = Caller.of("risk"), Caller.of("approver")
    seen = first.get("/trading/state")["ETag"]
    assert code_of(first.post("/trading/resume", {"reason": "over"}, If_Match=seen)) == "E309"
    seen = second.get("/trading/state")["ETag"]
    assert second.post("/trading/resume", {"reason": "over"}, If_Match=seen).json()["mode"] == "ACTIVE"
    assert TradingState.objects.get(venue="live").mode == "ACTIVE"


def test_at_the_terminal_it_is_shown_and_changed() -> None:
    out = StringIO()
    call_command("trade", "autonomy", stdout=out)
    assert out.getvalue() == "paper propose: every proposal asks a person\n"
    with pytest.raises(CommandError, match="E010"):
        call_command("trade", "autonomy", "auto")
    out = StringIO()
    call_command("trade", "autonomy", "off", "--json", stdout=out)
    assert json.loads(out.getvalue())["autonomy"] == "off"


def test_the_budget_is_a_limit_like_the_others() -> None:
    assert not RiskLimit.objects.exists()
    assert risk.limits()["auto_daily"] == D(300)


def test_what_no_person_approved_says_so_on_its_page_and_in_the_list(market: Market) -> None:
    level(AUTO)
    passed = idea(market)
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    for address in (f"/approvals/{passed.public_id}", "/approvals?show=decided"):
        assert "without a person" in client.get(address).content.decode()


def test_a_script_that_follows_the_topic_gets_the_level_itself() -> None:
    level(OFF)
    told = Caller.of("viewer").get("/state?topic=trading&expand=object").json()["snapshot"]
    assert {each["id"]: each["object"]["level"] for each in told} == {"paper autonomy": "off"}
