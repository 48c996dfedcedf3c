"""Whatever is sent, the API answers as described: no server error, no success without rights (RELIABILITY.md F6)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_site.api.schema import openapi_document
from portfolio.models import CashEntry
from tests.callers import Caller
from tests.factories import OrderFactory, ProposalFactory, funded

OPERATIONS = [
    (method.upper(), path.removeprefix("/api/v1"), operation)
    for path, item in openapi_document()["paths"].items()
    for method, operation in item.items()
]
PARTS = st.text(max_size=30) | st.sampled_from(["..", "%00", "\x00", "SIM", "'--", "0", "é/ü", " "])
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda body: json.dumps(body).encode()),
    st.fixed_dictionaries({}, optional={"note": JSON, "reason": JSON}).map(lambda b: json.dumps(b).encode()),
)
QUERIES = st.dictionaries(
    st.sampled_from(
        ["status", "ticker", "limit", "cursor", "proposal_id", "order_id", "event_ticker", "minutes"]
    ),
    PARTS,
    max_size=3,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "If-Match": LATIN | st.just('"v1"'),
        "If-None-Match": LATIN,
        "Idempotency-Key": LATIN | st.just("k"),
        "Accept": LATIN,
        "Request-Id": LATIN,
    },
)


@pytest.mark.django_db
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_request_makes_a_server_error(fuzzed: Caller, data: Any) -> None:
    method, path, operation = data.draw(st.sampled_from(OPERATIONS))
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(data.draw(PARTS), safe=""))
    response = fuzzed.client.generic(
        method,
        f"/api/v1{path}?{urlencode(data.draw(QUERIES))}",
        data=data.draw(BODIES) if method == "POST" else b"",
        content_type=data.draw(
            st.sampled_from(["application/json", "text/plain", "application/json; charset=latin1"])
        ),
        headers=data.draw(HEADERS),
    )
    assert response.status_code < 500, response.content
    described = {*operation["responses"], "304", "404", "405", "406"}
    assert str(response.status_code) in described, response.content


@pytest.fixture
def fuzzed() -> Caller:
    """A caller with every scope, and something to hit."""
    if not CashEntry.objects.exists():
        funded()
        OrderFactory(proposal=ProposalFactory(state="claimed"))
    return Caller.of("approver", "read", "approve", "trade", "risk", "propose", "admin")
