"""The API's description: current, valid, and true of what is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.test import Client

from kalshi_site.api.schema import openapi_document, openapi_text
from kalshi_site.errors import REGISTRY
from tests.callers import BASE, Caller
from tests.factories import OrderFactory, ProposalFactory, funded, member, quoted_market

ROOT = Path(__file__).resolve().parents[2]


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in openapi_document()["paths"].items()
        for method, operation in item.items()
    ]


def test_the_committed_description_is_current() -> None:
    committed = (ROOT / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8")
    assert committed == openapi_text(), "run: manage.py openapi --write"


def test_it_is_openapi_3_1_with_unique_operation_ids() -> None:
    document = openapi_document()
    assert document["openapi"].startswith("3.1")
    ids = [operation["operationId"] for _, _, operation in _operations()]
    assert len(set(ids)) == len(ids) == 39


WAYS_OUT = {
    *("/orders/{public_id}/cancel", "/orders/{public_id}/decrease", "/orders/cancel-all"),
    *("/positions/{ticker}/close", "/trading/halt", "/trading/liquidate"),
}


def test_every_operation_lists_its_refusals_and_its_scope() -> None:
    for method, path, operation in _operations():
        assert {"401", "403", "500"} <= operation["responses"].keys(), f"{method} {path}"
        assert {"200", "201"} & operation["responses"].keys(), f"{method} {path}"
        is_way_out = method == "post" and path.removeprefix(BASE) in WAYS_OUT
        assert ("429" not in operation["responses"]) is is_way_out, f"{method} {path}"
        assert "Scope: `" in operation["description"], f"{method} {path}"
        assert operation["security"] == [{"token": []}, {"session": []}]


def test_decisions_ask_for_the_version_and_the_key() -> None:
    for verb in ("approve", "decline"):
        operation = openapi_document()["paths"][f"{BASE}/proposals/{{public_id}}/{verb}"]["post"]
        required = {p["name"] for p in operation["parameters"] if p["in"] == "header" and p["required"]}
        assert required == {"If-Match", "Idempotency-Key"}
        assert {"409", "412", "428"} <= operation["responses"].keys()


def test_the_codes_of_the_description_are_those_of_the_registry() -> None:
    assert openapi_document()["components"]["schemas"]["ErrorCode"]["enum"] == list(REGISTRY)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path",
    [
        "/proposals",
        "/proposals/{proposal}",
        "/orders",
        "/orders/{order}",
        "/fills",
        "/positions",
        "/portfolio",
        "/markets",
        "/markets/{ticker}",
        "/markets/{ticker}/orderbook",
        "/trading/state",
        "/trading/autonomy",
        "/trading/liquidate",
        "/health",
    ],
)
def test_answers_are_as_described(path: str) -> None:
    funded()
    market = quoted_market()
    proposal = ProposalFactory(market=market)
    order = OrderFactory(proposal=ProposalFactory(market=market, state="claimed"))
    caller = Caller.of("viewer")
    names = {"proposal": proposal.public_id, "order": order.public_id, "ticker": market.ticker}
    response = caller.get(path.format(**names))
    assert response.status_code == 200
    described = path.replace("{proposal}", "{public_id}").replace("{order}", "{public_id}")
    _validate(response.json(), f"{BASE}{described}", "200", "application/json")


@pytest.mark.django_db
def test_problems_are_as_described() -> None:
    problem = Caller.of("viewer").get("/markets/SIM-NONE").json()
    _validate(problem, f"{BASE}/markets/{{ticker}}", "404", "application/problem+json")


def _validate(body: Any, path: str, status: str, media_type: str) -> None:
    document = openapi_document()
    content = document["paths"][path]["get"]["responses"][status]["content"][media_type]
    schema = {**content["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)


@pytest.mark.django_db
def test_the_description_is_served_to_who_is_signed_in() -> None:
    assert Caller.of("viewer").get("/openapi.json").json() == json.loads(openapi_text())


@pytest.mark.django_db
def test_the_page_has_no_script_or_style_of_its_own() -> None:
    client = Client()
    assert client.get("/api/docs").status_code == 302
    client.force_login(member("viewer1", "viewer"))
    page = client.get("/api/docs")
    assert page.status_code == 200
    policy = page["Content-Security-Policy"].split("; ")
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    text = page.content.decode()
    assert "<script>" not in text
    assert "<style" not in text
    assert "http://" not in text.replace("http://testserver", "")
    assert "https://" not in text
    script = client.get("/api/docs?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert "/api/v1/openapi.json" in script.content.decode()


def test_whatever_is_asked_with_values_says_how_a_bad_one_is_refused() -> None:
    """Naive: lists alone say so, and the history of a market, which is none, refuses in a way that nobody described."""
    asked = {
        operation["operationId"]: set(operation["responses"])
        for item in openapi_document()["paths"].values()
        for operation in item.values()
        if any(each["in"] == "query" for each in operation["parameters"])
    }
    assert "get_market_history" in asked
    assert [name for name, responses in asked.items() if "422" not in responses] == []
