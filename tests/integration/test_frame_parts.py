"""The frame's live pieces, which are fetched again and again: they belong to the page that shows them."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from tests.factories import member

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def approver() -> Client:
    client = Client()
    client.force_login(member("approver1", "approver"))
    return client


def leads_to(client: Client, **headers: str) -> set[str]:
    """Where the piece's forms lead afterwards."""
    text = client.get("/frame/state", headers=headers).content.decode()
    return set(re.findall(r'name="next" value="([^"]*)"', text))


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ("http://testserver/orders?x=1", "/orders?x=1"),
        ("http://testserver/orders?tab=all#row", "/orders?tab=all"),
        ("https://evil.example/orders", "/orders"),
        ("https://evil.example//evil.example/orders", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("http://[", "/"),
    ],
)
def test_a_piece_leads_back_to_the_page_that_shows_it(approver: Client, shown: str, wanted: str) -> None:
    """Naive: the piece's own address, so that ten seconds after loading, Pause leads to a bare fragment."""
    assert leads_to(approver, **{"HX-Current-URL": shown}) == {wanted}


def test_a_piece_that_names_no_page_leads_home(approver: Client) -> None:
    assert leads_to(approver) == {"/"}


@pytest.mark.parametrize(("name", "place"), [("alarm", "/health"), ("work", "/reconciliation")])
def test_an_alarm_stays_hidden_on_the_page_that_answers_it(
    approver: Client, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.models.DriftNote.objects.alarming", lambda _: Some())
    monkeypatch.setattr("trading.models.WorkItem.objects.unanswered", lambda _: Some())

    def is_hidden_on(path: str) -> bool:
        headers = {"HX-Current-URL": f"http://testserver{path}"}
        return " hidden>" in approver.get(f"/frame/{name}", headers=headers).content.decode()

    assert is_hidden_on(place)
    assert not is_hidden_on("/orders")


class Some:
    """Rows of which there are two."""

    def count(self) -> int:
        return 2
