"""Breakers between processes, without Redis, on the page and over REST."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.test import Client

from kalshi_site import breakers
from kalshi_site.breakers import Breaker, State, Unshared, memories
from kalshi_site.errors import NotFound
from kalshi_site.models import AuditEntry
from tests.callers import Caller, code_of
from tests.factories import member

Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]


@pytest.fixture(autouse=True)
def as_a_process_that_has_just_begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memories, "FRESH", 0.0)
    memories.forget()
    yield
    memories.forget()


def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/redis.sock")


def trip(name: str = "exchange_write") -> Breaker:
    breaker = Breaker(name)
    for _ in range(breakers.BREAKERS[name].rules.opens_after):
        assert breaker.allows()
        breaker.failed("no answer")
    return breaker


def state_of(name: str) -> breakers.BreakerState:
    return next(each for each in breakers.states() if each.name == name)


def test_what_one_process_learns_holds_for_all() -> None:
    breaker = trip()
    assert not breaker.allows()
    # Its state, which time does not change: on a slow machine the rest may be over before the other process asks.
    asked = "from kalshi_site import breakers; print(*(each.state for each in breakers.states()))"
    script = f"import django; django.setup(); {asked}"
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_environment()
    )
    assert other.stdout.split() == ["closed", "open", "closed", "closed", "closed"]
    assert Breaker("exchange_read").allows(), "its neighbours are none of its business"


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "DJANGO_SETTINGS_MODULE": "kalshi_site.settings"}


def test_a_process_that_keeps_its_own_count_never_learns_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive variant of the test above: a breaker in memory."""
    without_redis(monkeypatch)
    assert not trip().allows()
    memories.forget()
    assert Breaker("exchange_write").allows()


def test_without_redis_it_guards_its_own_process_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_redis(monkeypatch)
    breaker = trip()
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert {each.state for each in breakers.states()} == {State.CLOSED}


def test_an_emptied_redis_forgets_nothing_that_a_process_knows(redis_server: str) -> None:
    breaker = trip()
    redis.Redis.from_url(redis_server).flushall()
    assert not breaker.allows()


def test_nonsense_under_its_key_counts_as_closed(redis_server: str) -> None:
    for told in (b"", b"[]", b"{}", b'{"state": "ajar"}', b'{"state": "open", "surprise": 1}'):
        redis.Redis.from_url(redis_server).set(f"breaker:{settings.KALSHI_PROFILE}:model", told)
        assert Breaker("model").allows()


def test_a_way_out_passes_an_open_breaker_and_closes_it_when_it_succeeds() -> None:
    trip()
    way_out = Breaker("exchange_write", blocks=False)
    assert all(way_out.allows() for _ in range(5))
    assert state_of("exchange_write").state is State.OPEN, "passing by is no probe"
    way_out.succeeded()
    assert Breaker("exchange_write").allows()


def test_cancels_pass_whatever_their_breaker_says() -> None:
    breaker = trip("exchange_cancel")
    assert state_of("exchange_cancel").state is State.OPEN
    assert all(breaker.allows() for _ in range(5))


def test_a_reset_closes_it_for_all_and_stands_in_the_record() -> None:
    trip()
    assert breakers.reset("exchange_write", "risk1", "the line is mended").state is State.CLOSED
    assert Breaker("exchange_write").allows()
    entry = AuditEntry.objects.get(verb="breaker.reset")
    assert (entry.actor, entry.object_id, entry.reason) == ("risk1", "exchange_write", "the line is mended")
    assert entry.detail == {"was": "open", "failures": 3}


def test_a_reset_that_the_others_cannot_hear_of_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_redis(monkeypatch)
    with pytest.raises(Unshared):
        breakers.reset("exchange_write", "risk1")
    assert not AuditEntry.objects.exists()


def test_there_is_no_other_breaker() -> None:
    with pytest.raises(NotFound):
        breakers.reset("kettle", "risk1")


def as_member(role: str) -> Client:
    client = Client()
    client.force_login(member(f"{role}1", role))
    return client


def test_the_fragment_tells_what_waits_and_why() -> None:
    trip()
    text = as_member("viewer").get("/health/breakers").content.decode()
    assert "<html" not in text
    row = text.split('id="breaker-exchange_write-row"')[1].split("</tr>")[0]
    assert "open" in row and "no answer" in row and "Approved proposals wait" in row
    assert "disabled" in row
    closed = text.split('id="breaker-model-row"')[1].split("</tr>")[0]
    assert "closed" in closed and "<button" not in closed
    assert "breaker-exchange_write-row" in as_member("risk").get("/health").content.decode()


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("proposer", 403), ("risk", 302)])
def test_resetting_on_the_page_needs_the_right(role: str, status: int) -> None:
    trip()
    assert as_member(role).post("/health/breakers/exchange_write/reset").status_code == status
    # Its state, not whether it lets one pass: after its rest it does.
    assert (state_of("exchange_write").state is State.CLOSED) == (status == 302)


def test_htmx_gets_the_fragment_back() -> None:
    trip()
    answer = as_member("risk").post("/health/breakers/exchange_write/reset", headers={"HX-Request": "true"})
    assert answer.status_code == 200 and b'id="breakers"' in answer.content
    assert as_member("risk").post("/health/breakers/kettle/reset").status_code == 404


def test_the_page_says_when_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client = as_member("risk")
    without_redis(monkeypatch)
    answer = client.post("/health/breakers/exchange_write/reset", headers={"HX-Request": "true"})
    assert answer.status_code == 503 and b"E902" in answer.content


def test_the_form_shows_that_answer_though_pages_swap_in_no_other_fault() -> None:
    """Naive: the body's rule for 5xx holds here too, and the press is silent."""
    trip()
    text = as_member("risk").get("/health/breakers").content.decode()
    form = text.split('hx-post="/health/breakers/exchange_write/reset"')[1].split(">")[0]
    assert 'hx-status:5xx="swap:outerMorph"' in form


def test_without_scripts_the_health_page_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    client = as_member("risk")
    without_redis(monkeypatch)
    answer = client.post("/health/breakers/exchange_write/reset", follow=True)
    assert answer.redirect_chain == [("/health", 302)]
    assert "E902" in answer.content.decode()


def test_rest_lists_and_resets() -> None:
    trip()
    caller = Caller.of("risk", "read", "risk")
    found = {each["name"]: each for each in caller.get("/breakers").json()["breakers"]}
    assert list(found) == list(breakers.BREAKERS)
    assert found["exchange_write"]["state"] == "open" and found["exchange_write"]["retry_at"]
    done = caller.post("/breakers/exchange_write/reset", {"reason": "mended"})
    assert (done.status_code, done.json()["state"]) == (200, "closed")
    assert code_of(caller.post("/breakers/kettle/reset", {})) == "E021"


def test_a_process_keeps_its_shelf_and_the_client_of_it() -> None:
    assert memories.shelf() is memories.shelf()
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memories, "Shelf", lambda *at: made.append(at))
        memories.shelf()
    assert not made
