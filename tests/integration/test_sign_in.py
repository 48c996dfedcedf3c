"""Signing in: by name and password, as often as a person may try, and also while the cache is away."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.test import Client

from kalshi_site.models import User
from tests import factories

LOGIN = "/accounts/login/"
SECRET = "a long secret of nobody else"
DEAD = "unix:///nowhere/redis.sock"
Path(configured.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    user = factories.approver()
    user.set_password(SECRET)
    user.save()
    return user


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def cache_at(settings: Any, location: str, **changes: Any) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": location, **changes}}


def sign_in(client: Client, password: str = SECRET) -> tuple[int, str]:
    """The status, and where it leads to."""
    answer = client.post(LOGIN, {"login": "approver1", "password": password})
    return answer.status_code, answer.headers.get("Location", "")


def test_with_a_dead_cache_people_sign_in_and_the_log_says_that_nobody_counts(
    client: Client, person: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache_at(settings, DEAD)
    assert sign_in(client) == (302, "/")
    assert client.get("/risk").status_code == 200
    assert [record.getMessage() for record in caplog.records if record.name == "kalshi_site.cache"]


def test_a_cache_that_raises_keeps_everybody_out(client: Client, person: User, settings: Any) -> None:
    """The naive variant: Django's own."""
    cache_at(settings, DEAD, BACKEND="django.core.cache.backends.redis.RedisCache")
    assert sign_in(client) == (500, "")


def test_a_dead_cache_lets_no_wrong_password_in(client: Client, person: User, settings: Any) -> None:
    cache_at(settings, DEAD)
    assert sign_in(client, "another") == (200, "")
    assert client.get("/risk").status_code == 302


def test_with_a_dead_cache_a_person_changes_the_password_and_proves_who_it_is(
    client: Client, person: User, settings: Any
) -> None:
    cache_at(settings, DEAD)
    client.force_login(person, backend="kalshi_site.signin.Backend")
    assert client.post("/accounts/reauthenticate/", {"password": SECRET}).status_code == 302
    other = f"{SECRET} and more"
    changed = {"oldpassword": SECRET, "password1": other, "password2": other}
    assert client.post("/accounts/password/change/", changed).status_code == 302
    person.refresh_from_db()
    assert person.check_password(other)


@pytest.fixture
def silent_server(tmp_path: Path) -> Iterator[str]:
    """It takes connections and answers none, as a frozen Redis does."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield f"unix://{path}"


def test_a_frozen_cache_costs_a_sign_in_its_patience_once(
    client: Client, person: User, settings: Any, silent_server: str
) -> None:
    """Naive: each of twenty questions waits for its own second."""
    cache_at(settings, silent_server)
    begun = time.monotonic()
    assert sign_in(client) == (302, "/")
    assert time.monotonic() - begun < 15


def test_who_tries_too_often_is_held_off_while_the_cache_counts(
    client: Client, person: User, clean_redis: str
) -> None:
    for _ in range(5):
        assert sign_in(client, "another") == (200, "")
    assert sign_in(client) == (200, ""), "too many tries: not even with the right one"
    assert "_auth_user_id" not in client.session
