"""Bad requests, faults and limits: each a clear problem document, and nothing half done."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from django.db import OperationalError
from django.test import Client

from approvals import decisions
from approvals.models import Proposal
from kalshi_site.api import throttling
from kalshi_site.errors import REGISTRY
from portfolio import ledger
from portfolio.models import Position, TradingState
from tests.callers import BASE, Caller, code_of
from tests.factories import VENUE, OrderFactory, ProposalFactory, funded, quoted_market
from trading.models import Liquidation

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller() -> Caller:
    funded()
    return Caller.of("approver")


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ("{", "E001", 400),
        ("", "E010", 422),
        ('{"note": "a"}', "E010", 422),
        ('{"terms_hash": null}', "E010", 422),
        ('{"terms_hash": ""}', "E010", 422),
        ("[1]", "E001", 400),
        ("null", "E001", 400),
        ('"text"', "E001", 400),
        ('{"note": NaN}', "E001", 400),
        ('{"note": "a", "note": "b"}', "E001", 400),
        (b'{"note": "\xff"}', "E001", 400),
        ("[" * 100_000, "E001", 400),
        ('{"note": "\\ud800"}', "E001", 400),
        ('{"note": ' + "9" * 5000 + "}", "E001", 400),
        ('{"terms_hash": "t", "note": "\\u0000"}', "E011", 422),
        ('{"count": 5}', "E013", 422),
        ('{"note": 5, "state": "approved"}', "E013", 422),
        ('{"terms_hash": "t", "note": {"a": 1}}', "E011", 422),
        ('{"terms_hash": "t", "note": null}', "E010", 422),
        (json.dumps({"terms_hash": "t", "note": "x" * 1001}), "E012", 422),
    ],
)
def test_a_body_that_cannot_be_meant_changes_nothing(
    caller: Caller, body: str | bytes, code: str, status: int
) -> None:
    proposal = ProposalFactory()
    response = caller.client.post(
        f"{BASE}/proposals/{proposal.public_id}/approve",
        data=body,
        content_type="application/json",
        headers={"If-Match": '"v1"', "Idempotency-Key": "k"},
    )
    assert (response.status_code, code_of(response)) == (status, code), response.content
    proposal.refresh_from_db()
    assert (proposal.version, proposal.state) == (1, "pending")


def test_each_bad_field_is_pointed_at(caller: Caller) -> None:
    proposal = ProposalFactory()
    response = caller.post(f"/proposals/{proposal.public_id}/approve", {"a": 1, "b": 2}, If_Match='"v1"')
    assert [fault["pointer"] for fault in response.json()["errors"]] == ["/a", "/b"]


def test_another_media_type_is_refused(caller: Caller) -> None:
    proposal = ProposalFactory()
    response = caller.client.post(
        f"{BASE}/proposals/{proposal.public_id}/approve",
        data="note=x",
        content_type="application/x-www-form-urlencoded",
        headers={"If-Match": '"v1"', "Idempotency-Key": "k"},
    )
    assert (response.status_code, code_of(response)) == (415, "E002")


def test_a_form_content_type_without_a_body_is_a_post_without_a_body(caller: Caller) -> None:
    response = caller.client.post(
        f"{BASE}/trading/halt", data="", content_type="application/x-www-form-urlencoded"
    )
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_a_method_that_is_not_there_is_named(caller: Caller, method: str) -> None:
    response = caller.client.generic(method, f"{BASE}/portfolio")
    assert (response.status_code, code_of(response)) == (405, "E003")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v1/proposals/", "/api/v2/proposals", "/api/", "/api/v1"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_that_does_not_exist_is_a_problem_document_too(method: str, path: str) -> None:
    response = Client().generic(method, path)
    assert (response.status_code, code_of(response)) == (404, "E004")


def test_a_form_of_answer_that_we_do_not_have_is_refused(caller: Caller) -> None:
    response = caller.get("/portfolio", Accept="application/xml")
    assert (response.status_code, code_of(response)) == (406, "E005")


def test_an_unexpected_fault_tells_its_request_id_and_nothing_else(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(venue: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(ledger, "valuation", breaks)
    response = caller.get("/portfolio")
    assert (response.status_code, code_of(response)) == (500, "E901")
    assert b"secret" not in response.content
    assert response.json()["instance"] == f"urn:request:{response['Request-Id']}"


def test_a_busy_database_asks_to_come_back_with_the_same_key(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal = ProposalFactory()

    def busy(**_: object) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as locked:
        locked.setattr(decisions, "approve", busy)
        response = caller.approve(proposal, key="one")
    assert (response.status_code, code_of(response)) == (503, "E801")
    assert response["Retry-After"] == "5"
    again = caller.approve(proposal, key="one")
    assert again.status_code == 200


def test_every_answer_is_kept_out_of_caches(caller: Caller) -> None:
    for response in (caller.get("/portfolio"), caller.get("/nothing"), caller.get("/markets/SIM-NONE")):
        assert response["Cache-Control"] == "private, no-store"


def test_the_problem_document_follows_the_registry(caller: Caller) -> None:
    problem = caller.get("/markets/SIM-NONE").json()
    kind = REGISTRY["E020"]
    assert problem == {
        "type": "/help/errors/E020",
        "title": kind.title,
        "status": kind.status,
        "code": "E020",
        "detail": "No market has the ticker SIM-NONE.",
        "instance": f"urn:request:{problem['request_id']}",
        "request_id": problem["request_id"],
        "retryable": False,
        "hint": kind.recovery,
    }


def test_answers_tell_what_is_left_of_the_rate(caller: Caller, clean_redis: str) -> None:
    first, second = caller.get("/portfolio"), caller.get("/portfolio")
    assert first["RateLimit-Policy"] == '"read";q=200;w=10'
    assert second["RateLimit"].startswith('"read";r=')
    assert caller.post("/trading/pause")["RateLimit-Policy"] == '"write";q=50;w=10'


@pytest.fixture
def spent(caller: Caller, clean_redis: str, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """A script that has used up its writes, in a window that is long enough for the whole test."""
    monkeypatch.setattr(throttling, "WRITES", 3)
    monkeypatch.setattr(throttling, "WINDOW", 10_000)
    answers = [caller.post("/trading/pause") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert code_of(answers[3]) == "E108"
    assert int(answers[3]["Retry-After"]) >= 1
    return caller


def test_too_many_requests_are_refused_per_token_but_stopping_is_not(spent: Caller) -> None:
    assert spent.post("/trading/halt").status_code == 200
    assert TradingState.objects.get().mode == "HALTED"
    other = Caller.of("approver", username="approver2")
    assert other.post("/trading/pause").status_code == 200


def test_a_script_that_has_spent_its_writes_still_cancels_and_sells(spent: Caller) -> None:
    """Naive: each of them answers 429 until the next window."""
    order, other = OrderFactory(), OrderFactory()
    market = quoted_market()
    Position.objects.create(
        venue=VENUE,
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        quantity=Decimal(5),
        cost=Decimal(2),
    )
    ways_out = [
        (f"/orders/{order.public_id}/decrease", {"remaining": "4"}),
        (f"/orders/{order.public_id}/cancel", {}),
        ("/orders/cancel-all", {}),
        (f"/positions/{market.ticker}/close", {}),
        ("/trading/liquidate", {"confirm": "LIQUIDATE"}),
    ]
    for path, body in ways_out * 2:
        answer = spent.post(path, body)
        assert answer.status_code != 429, path
        assert "RateLimit" not in answer, f"{path} counts towards nothing"
    order.refresh_from_db()
    other.refresh_from_db()
    assert order.decrease_to == 4
    assert order.cancel_requested_at and other.cancel_requested_at
    assert Proposal.objects.get(ticker=market.ticker).state == "approved"
    assert Liquidation.objects.count() == 1
    assert spent.get("/trading/liquidate")["RateLimit-Policy"].startswith('"read"')
    assert spent.post("/trading/pause").status_code == 429


def test_without_the_cache_requests_pass_uncounted(caller: Caller, settings: object) -> None:
    settings.REDIS_CACHE_URL = "unix:///nowhere/redis.sock"  # type: ignore[attr-defined]
    assert caller.get("/portfolio").status_code == 200
