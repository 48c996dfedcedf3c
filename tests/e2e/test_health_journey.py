"""The exchange changes a price's type: the alarm on every page, the health page by mouse and keys, and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import RunningDesk, manage, sign_in

pytestmark = pytest.mark.slow

# What the feed's sentinel writes when it has heard this; the exchange of the journeys itself speaks as agreed.
HEARD = """
from trading.exchange.conformity import DriftKind
from trading.exchange.drift import Sentinel
from trading.exchange.findings import Drift
from trading.market_data.drift import write_down
heard = Sentinel()
heard.note(Drift(DriftKind.WRONG_TYPE, "GET /markets", "markets[].yes_bid_dollars", "number", "41", True))
heard.note(Drift(DriftKind.UNKNOWN_FIELD, "GET /markets", "markets[].mascot", "text", "fox"))
write_down(venue="paper", process="feed", heard=heard.take())
"""


@pytest.fixture
def page(browser: Browser, desk: RunningDesk) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=desk.base_url)
    opened = context.new_page()
    sign_in(opened, desk, "risk")
    yield opened
    context.close()


def test_a_change_that_touches_money_is_seen_acknowledged_and_trading_resumed(
    desk: RunningDesk, page: Page
) -> None:
    page.goto("/health")
    expect(page.get_by_text("The exchange speaks as agreed")).to_be_visible()
    done = manage(desk.var, "shell", "-c", HEARD)
    assert done.returncode == 0, done.stderr
    assert desk.api("GET", "/trading/state", role="viewer")["mode"] == "REDUCING"

    page.goto("/orders")
    expect(page.get_by_role("alert").filter(has_text="does not speak as agreed")).to_be_visible()
    page.get_by_role("link", name="Look").click()
    expect(page.get_by_text("markets[].yes_bid_dollars came as number")).to_be_visible()
    faults = [
        each for each in Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}
    ]
    assert faults == []

    page.get_by_label("Acknowledge GET /markets: wrong type").check()
    page.get_by_label("Why is it safe").fill("a fault of theirs, over since noon")
    with page.expect_response(lambda answer: answer.url.endswith("/health?part=parts")):
        pass  # the live parts have refreshed; what was ticked and typed stands
    expect(page.get_by_label("Acknowledge GET /markets: wrong type")).to_be_checked()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("1 change acknowledged")).to_be_visible()
    expect(page.get_by_text("touching no money")).to_be_visible()

    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Why is it safe now?").fill("acknowledged")
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.get_by_text("Trading is on again.")).to_be_visible()
    assert desk.api("GET", "/trading/state", role="viewer")["mode"] == "ACTIVE"
