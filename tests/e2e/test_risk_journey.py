"""Somebody of the role risk pauses a series, a proposal of it is refused, and it is resumed with a reason."""

from __future__ import annotations

import json
import time
import urllib.error
import uuid
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import RunningDesk, propose, sign_in

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Browser, desk: RunningDesk) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=desk.base_url)
    opened = context.new_page()
    sign_in(opened, desk, "risk")
    yield opened
    context.close()


def _approve(desk: RunningDesk, proposal: str) -> str:
    """What the API answers to an approval: a status, or the code of its refusal."""
    shown = desk.api("GET", f"/proposals/{proposal}", role="approver")
    try:
        answer = desk.api(
            "POST",
            f"/proposals/{proposal}/approve",
            role="approver",
            body={"terms_hash": shown["terms_hash"]},
            If_Match=f'"v{shown["version"]}"',
            Idempotency_Key=uuid.uuid4().hex,  # a key's refusal is kept, too
        )
    except urllib.error.HTTPError as refused:
        return str(json.load(refused)["code"])
    return str(answer["status"])


def _held(desk: RunningDesk) -> set[str]:
    return {each["ticker"] for each in desk.api("GET", "/positions", role="viewer")["data"]}


def _soon(holds: Callable[[], object], *, within: float = 75) -> bool:
    """Whether it holds before the time is over."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def test_a_paused_series_refuses_its_proposals_until_it_is_resumed(desk: RunningDesk, page: Page) -> None:
    proposal = propose(desk, 10)
    ticker = desk.api("GET", f"/proposals/{proposal}", role="viewer")["ticker"]
    series = ticker.partition("-")[0]

    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/risk")
    page.get_by_label("What", exact=True).select_option("series")
    page.get_by_label("Name or ticker").fill(series)
    page.get_by_role("button", name="Pause it").click()
    expect(page.get_by_text(f"Trading is paused for the series {series}")).to_be_visible()
    expect(page.locator("#risk-limits").get_by_text("denied: Trading state: paused").first).to_be_visible()
    faults = [
        each for each in Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}
    ]
    assert faults == []

    assert _approve(desk, proposal) == "E305"

    page.get_by_role("link", name=f"Resume… the series {series}").click()
    page.get_by_label("Why is it safe now?").fill("the odd fills are explained")
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.get_by_text(f"Trading is on again for the series {series}")).to_be_visible()
    expect(page.locator("#risk-changes").get_by_text("the odd fills are explained")).to_be_visible()
    assert _approve(desk, proposal) != "E305"


def test_control_e_opens_the_liquidation_and_nothing_happens_without_the_word(
    desk: RunningDesk, page: Page
) -> None:
    before = desk.api("GET", "/trading/liquidate", role="viewer")["last"]
    page.goto("/orders")
    page.keyboard.press("Control+e")
    page.wait_for_url("**/risk/liquidate")
    expect(page.get_by_role("heading", name="Emergency liquidation")).to_be_visible()
    expect(page.get_by_role("button", name="Liquidate")).to_be_disabled()
    assert desk.api("GET", "/trading/liquidate", role="viewer")["last"] == before


def test_an_approver_sells_everything_by_the_typed_word_and_watches_it(
    desk: RunningDesk, browser: Browser
) -> None:
    # Between the proposal and the send the ask may rise: then it is refused, or rests.
    assert any(
        _approve(desk, propose(desk, 10)) == "approved" and _soon(lambda: bool(_held(desk)), within=20)
        for _ in range(6)
    ), "six proposals and no fill"
    context = browser.new_context(base_url=desk.base_url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("User name").fill("approver")
    page.get_by_label("Password").fill(desk.passwords["approver"])
    page.get_by_role("button", name="Sign in").click()
    page.goto("/risk/liquidate")
    page.get_by_label("Type LIQUIDATE").fill("LIQUIDATE")
    page.get_by_role("button", name="Liquidate").click()
    expect(page.get_by_text("asked for by approver").or_(page.get_by_text("Ended:"))).to_be_visible()
    assert _soon(lambda: desk.api("GET", "/trading/liquidate", role="viewer")["last"]["finished_at"])
    last = desk.api("GET", "/trading/liquidate", role="viewer")["last"]
    assert {each["ticker"] for each in last["remaining"]} == _held(desk)
    assert any("selling" in step["text"] for step in last["steps"])
    page.reload()
    expect(page.get_by_text("Ended:")).to_be_visible()
    assert desk.api("GET", "/trading/state", role="viewer")["mode"] == "HALTED"
    context.close()
    seen = desk.api("GET", "/trading/state", role="viewer")["version"]
    desk.api(
        "POST",
        "/trading/resume",
        role="risk",
        body={"reason": "the journey is over"},
        If_Match=f'"v{seen}"',
        Idempotency_Key=f"resume-{last['id']}",
    )
