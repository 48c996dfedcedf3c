"""The desk as it is wired stands behind its breakers, each by its own name; one that nobody calls says so."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from kalshi_site import wiring
from kalshi_site.breakers import BREAKERS, Breaker
from tests.callers import Caller
from tests.factories import member

Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]

IDLE = "Nothing yet: no message leaves the desk."


def wired() -> set[str]:
    """The names of the breakers that the wiring hands to anybody."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(wiring))) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Breaker"]
    return {str(ast.literal_eval(call.args[0])) for call in made}


def trip(name: str) -> None:
    for _ in range(BREAKERS[name].rules.opens_after):
        Breaker(name).failed("no answer")


def test_a_breaker_that_nobody_calls_says_that_it_stops_nothing_yet() -> None:
    assert {name for name, kind in BREAKERS.items() if kind.stops == IDLE} == BREAKERS.keys() - wired()


def test_page_and_rest_say_so_too() -> None:
    trip("notifier")
    told = {each["name"]: each["stops"] for each in Caller.of("viewer").get("/breakers").json()["breakers"]}
    assert told["notifier"] == IDLE
    client = Client()
    client.force_login(member("viewer1", "viewer"))
    assert IDLE in client.get("/health").content.decode()
