"""The health page, the alarm on every page, and what machines are told, while the exchange speaks otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from kalshi_site.management.supervisor.doctor import _contract
from kalshi_site.views.health import READY, TRADING
from kalshi_site.views.health_page import LABELS, TOLD
from kalshi_site.views.metrics import DeskCollector
from portfolio import risk
from tests.callers import Caller
from tests.factories import member
from trading.exchange.conformity import DriftKind
from trading.exchange.drift import Sentinel
from trading.exchange.findings import Drift
from trading.market_data import drift
from trading.models import DriftNote

# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]

PRICE = Drift(
    DriftKind.WRONG_TYPE, "GET /markets", "markets[].yes_bid_dollars", "number", "42", is_money=True
)
EXTRA = Drift(DriftKind.UNKNOWN_FIELD, "GET /markets", "markets[].<b>", "text", "<script>alert(1)</script>")


def hear(*drifts: Drift) -> list[DriftNote]:
    sentinel = Sentinel()
    sentinel.answer("GET", "/markets", 200, b'{"markets": [], "cursor": ""}')
    for each in drifts:
        sentinel.note(each)
    return drift.write_down(venue="paper", process="feed", heard=sentinel.take())


def as_member(role: str = "risk") -> Client:
    client = Client()
    client.force_login(member(f"{role}1", role))
    return client


def page(client: Client, path: str = "/health") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_nothing_heard_is_not_the_same_as_all_well() -> None:
    text = page(as_member())
    assert "Nothing was checked yet" in text
    hear()
    text = page(as_member())
    assert "The exchange speaks as agreed: 1 answer and 0 messages of its stream checked, the last at" in text


def test_a_drift_is_told_in_words_and_its_text_is_text() -> None:
    hear(PRICE, EXTRA)
    text = page(as_member())
    assert "1 change at the exchange touches money" in text
    assert "<code>markets[].yes_bid_dollars</code> came as number" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "markets[].&lt;b&gt;" in text


@pytest.mark.parametrize("path", ["/", "/orders", "/positions", "/trading/resume"])
def test_the_alarm_stands_on_every_page_while_money_drift_is_not_acknowledged(path: str) -> None:
    client = as_member()
    quiet = page(client, path)
    assert "hidden" in quiet.split('id="alarm"')[1].split(">")[0]
    [note] = hear(PRICE)
    assert "hidden" not in page(client, path).split('id="alarm"')[1].split(">")[0]
    drift.acknowledge(note=note, actor="risk1", reason="seen")
    assert "hidden" in page(client, path).split('id="alarm"')[1].split(">")[0]


def test_drift_without_money_raises_no_alarm() -> None:
    hear(EXTRA)
    client = as_member()
    assert "touching no money" in page(client)
    assert "hidden" in page(client, "/").split('id="alarm"')[1].split(">")[0]


def test_a_person_acknowledges_on_the_page_and_then_resumes() -> None:
    [note] = hear(PRICE)
    client = as_member()
    assert client.post("/trading/resume", {"reason": "x", "version": 2}).status_code == 409
    given = {"note": f"{note.pk}:{note.version}", "reason": "Kalshi says they reverted it"}
    answer = client.post("/health/acknowledge", given, follow=True)
    text = answer.content.decode()
    assert "1 change acknowledged. Trading stays as it is until somebody resumes it." in text
    assert "Kalshi says they reverted it" in text
    version = risk.trading_state("paper").version
    client.post("/trading/resume", {"reason": "acknowledged", "version": version})
    assert risk.trading_state("paper").mode == "ACTIVE"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"reason": "no tick"}, 422),
        ({"note": "1:1", "reason": "  "}, 422),
        ({"note": "x:y", "reason": "r"}, 422),
        ({"note": "{pk}:9", "reason": "stale"}, 412),
    ],
)
def test_an_acknowledgement_that_is_not_one_changes_nothing(given: dict[str, str], status: int) -> None:
    [note] = hear(PRICE)
    filled = {name: value.replace("{pk}", str(note.pk)) for name, value in given.items()}
    assert as_member().post("/health/acknowledge", filled).status_code == status
    note.refresh_from_db()
    assert note.acknowledged_at is None


def test_a_refused_acknowledgement_keeps_the_ticks_of_what_was_seen() -> None:
    first, second, third = hear(PRICE, EXTRA, replace(EXTRA, field="markets[].new"))
    seen, stale = f"{first.pk}:{first.version}", f"{second.pk}:9"
    client = as_member()
    for given, status in (
        ({"note": [seen], "reason": ""}, 422),
        ({"note": [seen, stale], "reason": "calm"}, 412),
    ):
        answer = client.post("/health/acknowledge", given)
        assert answer.status_code == status
        rows = [answer.content.decode().split(f'id="drift-{n.pk}-row"')[1] for n in (first, second, third)]
        assert ["checked" in row.split("</td>", maxsplit=1)[0] for row in rows] == [True, False, False]


def test_a_viewer_sees_and_cannot_acknowledge() -> None:
    [note] = hear(PRICE)
    viewer = as_member("viewer")
    assert "disabled" in page(viewer).split('id="reason"')[1].split(">")[0]
    given = {"note": f"{note.pk}:{note.version}", "reason": "r"}
    assert viewer.post("/health/acknowledge", given).status_code == 403


def test_machines_are_told_not_fit_to_trade() -> None:
    hear(PRICE)
    fault = "E606 1 change at the exchange touches money and nobody has acknowledged it"
    answer = Client().get("/tradez")
    assert (answer.status_code, answer.json()["checks"]["contract"]) == (503, fault)
    health = Caller.of("viewer").get("/health").json()
    assert (health["trading"], health["checks"]["contract"]) == (False, fault)


def test_the_metrics_count_drifts_by_kind_and_name_no_ticker() -> None:
    hear(PRICE, EXTRA)
    registry = CollectorRegistry()
    registry.register(DeskCollector())
    text = generate_latest(registry).decode()
    assert 'kops_exchange_drift{money="yes"} 1.0' in text
    assert 'kops_exchange_drift_seen_total{kind="wrong_type"} 1.0' in text
    assert 'kops_exchange_drift_seen_total{kind="retired_endpoint"} 0.0' in text
    assert 'kops_exchange_compared_total{what="answers"} 1.0' in text


def test_the_doctor_says_so() -> None:
    [quiet] = _contract()
    assert (quiet.verdict, quiet.detail) == ("ok", "nothing heard of the exchange yet")
    hear()
    assert next(_contract()).detail.startswith("as agreed, 1 answers checked")
    hear(EXTRA)
    assert next(_contract()).verdict == "warning"
    hear(PRICE)
    [loud] = _contract()
    assert loud.verdict == "failure"
    assert "yes_bid_dollars" in loud.detail


def test_every_check_and_every_kind_has_words() -> None:
    assert LABELS.keys() >= {*READY, *TRADING}
    assert TOLD.keys() == set(DriftKind)


def test_the_parts_that_refresh_are_fragments(settings: Any) -> None:
    client = as_member()
    assert page(client, "/health?part=parts").lstrip().startswith('<div class="tiles')
    assert page(client, "/health?part=summary").lstrip().startswith('<div class="head"')
    assert "<html" in page(client, "/health?part=elsewhere")
