"""Who may call what: every door, every role, every scope; and what bad credentials get."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern
from django.utils import timezone

from kalshi_site.api.urls import v1
from kalshi_site.identity import ROLES, SCOPES, issue_token, revoke_token
from kalshi_site.models import ApiToken, AuditEntry
from portfolio.models import TradingState
from tests.callers import BASE, Caller, code_of
from tests.factories import member, stranger

pytestmark = pytest.mark.django_db

ALL = frozenset(ROLES)


@dataclass(frozen=True)
class Door:
    """One method of one address, who may use it and with which scopes."""

    method: str
    path: str
    roles: frozenset[str]
    scopes: frozenset[str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _read(path: str) -> Door:
    return Door("GET", path, ALL, frozenset({"read"}))


STOPPERS = frozenset({"approver", "risk", "admin"})
TRADE_OR_RISK = frozenset({"trade", "risk"})
DOORS = [
    *(_read(path) for path in ("proposals", "proposals/none", "orders", "orders/none", "fills", "positions")),
    *(_read(path) for path in ("positions/none", "portfolio", "markets", "markets/none")),
    *(_read(path) for path in ("markets/none/orderbook", "trading/state", "state", "health", "openapi.json")),
    _read("markets/none/history"),
    _read("exchange/drifts"),
    *(_read(f"reconciliation{path}") for path in ("", "/last", "/none")),
    _read("breakers"),
    _read("trading/autonomy"),
    _read("trading/liquidate"),
    Door("POST", "trading/liquidate", frozenset({"approver"}), frozenset({"trade"})),
    Door("PUT", "trading/autonomy", STOPPERS, TRADE_OR_RISK),
    Door("POST", "proposals/none/approve", frozenset({"approver"}), frozenset({"approve"})),
    Door("POST", "proposals/none/decline", frozenset({"approver"}), frozenset({"approve"})),
    Door("POST", "proposals/none/repeat", frozenset({"approver"}), frozenset({"approve"})),
    Door("POST", "positions/none/close", frozenset({"approver"}), frozenset({"trade"})),
    *(
        Door("POST", path, STOPPERS, TRADE_OR_RISK)
        for path in (
            "orders/none/cancel",
            "orders/none/decrease",
            "trading/order-groups/reset",
            "orders/cancel-all",
            "trading/pause",
            "trading/resume",
            "trading/halt",
            "exchange/drifts/none/acknowledge",
            "reconciliation/none/acknowledge",
            "reconciliation/none/resolve",
            "breakers/none/reset",
        )
    ),
]


def _call(caller: Caller, door: Door) -> HttpResponse:
    if door.method == "GET":
        return caller.get(f"/{door.path}")
    if door.method == "PUT":
        return caller.put(f"/{door.path}", If_Match='"v1"')
    return caller.post(f"/{door.path}", If_Match='"v1"')


def test_the_table_of_doors_is_complete() -> None:
    tabled = {door.path.replace("none", "<>") for door in DOORS}
    served = set()
    for route in v1:
        assert isinstance(route, URLPattern)
        served.add("/".join("<>" if "<" in part else part for part in str(route.pattern).split("/")))
    assert tabled == served


@pytest.mark.parametrize("role", ROLES)
def test_each_role_passes_exactly_where_it_may(role: str) -> None:
    caller = Caller.of(role, *SCOPES)
    for door in DOORS:
        response = _call(caller, door)
        allowed = response.status_code != 403
        assert allowed == (role in door.roles), f"{door}: {response.content!r}"
        if not allowed:
            assert code_of(response) == "E104"


@pytest.mark.parametrize("scope", SCOPES)
def test_each_scope_opens_exactly_its_doors(scope: str) -> None:
    user = member("approver1", "approver")
    for door in DOORS:
        assert "approver" in door.roles
        response = _call(Caller(user, scope), door)
        allowed = response.status_code != 403
        assert allowed == (scope in door.scopes), f"{door}: {response.content!r}"
        if not allowed:
            assert code_of(response) == "E103"


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_nobody_enters_without_credentials(door: Door) -> None:
    response = Client(enforce_csrf_checks=True).generic(door.method, f"{BASE}/{door.path}")
    assert (response.status_code, code_of(response)) == (401, "E101")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_person_without_a_role_sees_nothing() -> None:
    assert code_of(Caller(stranger(), "read").get("/proposals")) == "E104"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer kops_paper_wrong",
        "Bearer",
        "Bearer a b",
        "Basic YTpi",
        "kops_paper_x",
        "Bearer kops_paper_\xe9",
    ],
)
def test_a_bad_token_is_refused_even_on_an_open_session(header: str) -> None:
    client = Client(headers={"Authorization": header})
    client.force_login(member("viewer1", "viewer"))
    response = client.get(f"{BASE}/portfolio")
    assert (response.status_code, code_of(response)) == (401, "E101")


def test_a_token_ends_when_it_expires_is_revoked_or_its_owner_leaves() -> None:
    caller = Caller.of("viewer")
    assert caller.get("/portfolio").status_code == 200
    token = ApiToken.objects.get(owner=caller.user)
    ApiToken.objects.update(expires_at=timezone.now())
    assert code_of(caller.get("/portfolio")) == "E101"
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=1))
    revoke_token(token)
    assert code_of(caller.get("/portfolio")) == "E101"
    ApiToken.objects.update(revoked_at=None)
    caller.user.is_active = False
    caller.user.save()
    assert code_of(caller.get("/portfolio")) == "E101"


def test_a_role_that_is_taken_away_ends_at_the_next_request() -> None:
    caller = Caller.of("approver")
    assert caller.post("/orders/cancel-all").status_code == 200
    caller.user.groups.clear()
    assert code_of(caller.post("/orders/cancel-all")) == "E104"


def test_a_paper_token_is_unknown_in_another_profile(settings: object) -> None:
    user = member("viewer1", "viewer")
    clear = issue_token(user=user, name="t", scopes=["read"], expires_at=timezone.now() + timedelta(days=1))
    assert clear.startswith("kops_paper_")
    settings.KALSHI_PROFILE = "demo"  # type: ignore[attr-defined]
    response = Client(headers={"Authorization": f"Bearer {clear}"}).get(f"{BASE}/portfolio")
    assert code_of(response) == "E101"


def test_a_session_may_read_but_writes_need_the_form_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(member("risk1", "risk"))
    assert client.get(f"{BASE}/trading/state").status_code == 200
    refused = client.post(f"{BASE}/trading/halt", "{}", content_type="application/json")
    assert (refused.status_code, code_of(refused)) == (403, "E106")
    assert not TradingState.objects.filter(mode="HALTED").exists()


def test_a_deed_is_audited_under_the_request_id() -> None:
    caller = Caller.of("risk")
    response = caller.post("/trading/halt", {"reason": "drill"}, Request_Id="drill-2026-11-23")
    assert response["Request-Id"] == "drill-2026-11-23"
    entry = AuditEntry.objects.get(verb="trading.halt")
    assert (entry.actor, entry.reason, entry.request_id) == ("risk1", "drill", "drill-2026-11-23")
