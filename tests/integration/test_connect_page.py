"""The page that explains how to connect, and the guides: the files of docs/how-to as they stand."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from kalshi_site import guides
from tests import factories
from trading.models import Listener

pytestmark = pytest.mark.django_db
DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "how-to"


def signed_in() -> Client:
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    return client


def words_of(page: str) -> str:
    text = unescape(re.sub(r"<[^>]+>", " ", re.sub(r"</?(code|em|strong|a)\b[^>]*>", "", page)))
    return " ".join(text.split())


def test_the_page_and_the_document_say_the_same() -> None:
    page = words_of(Client().get("/help/connect").content.decode())
    document = (DOCS / "connect-to-demo.md").read_text(encoding="utf-8")
    lines = [line for line in document.splitlines() if line and not line.startswith(("|", "#", "-", "```"))]
    assert len(lines) > 20
    for line in lines:
        assert " ".join(re.sub(r"[`]|\*\*|^\d+\. ", "", line).split()) in page, line


@pytest.mark.parametrize(
    "word",
    ["E952", "E954", "chmod 600", "write::transfer", "play money", "make run MODE=demo", "KALSHI_CA_FILE"],
)
def test_it_tells_what_one_must_know(word: str) -> None:
    assert word in words_of(Client().get("/help/connect").content.decode())


def test_who_is_signed_in_sees_how_the_connection_stands(settings: Any) -> None:
    settings.KALSHI_REST_URL = "https://external-api.demo.kalshi.co/trade-api/v2"
    tomorrow = timezone.now() + timedelta(days=1)
    planned = [[tomorrow.isoformat(), (tomorrow + timedelta(hours=2)).isoformat()]]
    factories.exchange_says(is_trading=False, maintenance=planned)
    Listener.objects.create(venue="paper", process="feed", answers=7, frames=1234, last_at=timezone.now())
    page = words_of(signed_in().get("/help/connect").content.decode())
    assert "external-api.demo.kalshi.co over TLS, certificate verified" in page
    assert "paused The exchange has paused trading" in page
    assert "not running nothing is sent" in page
    assert re.search(r"feed 7 1,?234 ", page)
    assert "Next maintenance –" not in page


def test_who_is_not_signed_in_sees_the_guide_and_no_status() -> None:
    page = words_of(Client().get("/help/connect").content.decode())
    assert "The connection now" not in page and "Make an account and two keys" in page


def test_the_status_refreshes_by_itself() -> None:
    part = signed_in().get("/help/connect", headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith("<section") and "<html" not in part


def test_help_lists_every_guide_and_each_opens() -> None:
    client = Client()
    assert "/help/connect" in client.get("/help").content.decode()
    index = client.get("/help").content.decode()
    for name in (*guides.names(guides.HOW_TO), *guides.names(guides.REFERENCE)):
        assert (f"/help/guides/{name}" in index) is (name != "connect-to-demo")
        assert client.get(f"/help/guides/{name}").status_code == 200
    assert client.get("/help/guides/nothing").status_code == 404


def test_no_link_of_a_guide_is_dead() -> None:
    """Naive: a link between files, as it stands, leads nowhere on a page."""
    reader, found = signed_in(), set[str]()
    for name in (*guides.names(guides.HOW_TO), *guides.names(guides.REFERENCE)):
        found |= set(re.findall(r'href="(?!https?:|#)([^"#]+)', guides.guide(name).body))
    assert {"/help/errors", "/api/v1/openapi.json", "/help/guides/paper-orders"} <= found
    assert {address: reader.get(address).status_code for address in found} == dict.fromkeys(found, 200)


def test_a_tag_in_a_guide_stays_text(tmp_path: Path, settings: Any) -> None:
    folder = tmp_path / "docs" / "how-to"
    folder.mkdir(parents=True)
    (folder / "odd.md").write_text("# Odd\n\n<script>alert(1)</script> [x](javascript:alert(1))\n", "utf-8")
    settings.BASE_DIR = tmp_path
    body = guides.guide("odd").body
    assert "<script" not in body and 'href="javascript' not in body


def test_the_paper_desks_dashboard_leads_there_and_the_side_to_help() -> None:
    page = signed_in().get("/").content.decode()
    assert 'href="/help/connect"' in page and 'href="/help"' in page
