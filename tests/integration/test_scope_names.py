"""A stop of a scope that nothing goes by stands, as no way out is refused; each door says that it may be a typo."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from portfolio import risk
from portfolio.models import TradingState
from tests.callers import Caller
from tests.factories import VENUE, MarketFactory, ProposalFactory, member

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]

DOUBT = "nothing here goes by the name of"
TYPO = "market:SIM-TYPO"


def _pressed(scope: str, to: str) -> str:
    client = Client()
    client.force_login(member("risk1", "risk"))
    sent = {"to": to, "scope": scope, "next": "/risk"}
    return client.post("/trading/state", sent, follow=True).content.decode()


def _mode(scope: str) -> str:
    return TradingState.objects.get(scope=scope).mode


@pytest.mark.parametrize(("to", "mode"), [("HALTED", "HALTED"), ("REDUCING", "REDUCING")])
def test_the_page_does_it_and_says_that_nothing_goes_by_the_name(to: str, mode: str) -> None:
    assert DOUBT in _pressed(TYPO, to)
    assert _mode(TYPO) == mode


@pytest.mark.parametrize("deed", ["halt", "pause"])
def test_so_does_rest(deed: str) -> None:
    caller = Caller.of("risk")
    answer = caller.post(f"/trading/{deed}", {"scope": TYPO})
    assert answer.status_code == 200, answer.content
    assert answer.json()["warning"].startswith(DOUBT)
    assert caller.post(f"/trading/{deed}").json()["warning"] == ""


def test_so_does_the_terminal() -> None:
    told, warned = io.StringIO(), io.StringIO()
    call_command("trade", "pause", scope=TYPO, stdout=told, stderr=warned)
    assert DOUBT in warned.getvalue()
    assert _mode(TYPO) == "REDUCING"


def _market() -> str:
    return f"market:{MarketFactory().ticker}"


def _series() -> str:
    return f"series:{MarketFactory().series_ticker}"


def _strategy() -> str:
    return f"strategy:{ProposalFactory(strategy='ladder').strategy}"


@pytest.mark.parametrize("named", [_market, _series, _strategy, lambda: risk.trading_state(VENUE).scope])
def test_what_goes_by_its_name_raises_no_doubt(named: Any) -> None:
    scope = named()
    assert risk.doubt_of(scope) == ""
    assert DOUBT not in _pressed(scope, "HALTED")


@pytest.mark.parametrize("scope", ["series:SIMTYPO", "strategy:laddr", TYPO])
def test_what_is_near_a_name_is_not_the_name(scope: str) -> None:
    _market()
    _strategy()
    assert risk.doubt_of(scope).startswith(DOUBT)
