"""What a press does in a real page when the world is not as it looked: nothing is told wrongly, nothing goes twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import RunningDesk, decline, propose, sign_in

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("trading")]
REFUSED = """
<article id="proposal" class="proposal" data-proposal="p" data-main><nav class="crumbs"></nav>
<div class="note bad" role="alert">E310 The price has moved.</div><div class="ask"><h1>Buy 10 YES</h1></div>
<dialog id="approve-dialog"><form method="post"><button>Approve</button></form></dialog></article>
"""


@pytest.fixture
def page(browser: Browser, desk: RunningDesk) -> Iterator[Page]:
    context = browser.new_context(base_url=desk.base_url)
    opened = context.new_page()
    sign_in(opened, desk, "approver")
    yield opened
    context.close()


def test_a_refusal_closes_the_dialog_it_came_to_and_takes_the_focus(page: Page, desk: RunningDesk) -> None:
    """Naive: the dialog stays open over the refusal, which nobody sees or hears."""
    page.route("**/approve", lambda route: route.fulfill(status=409, body=REFUSED, content_type="text/html"))
    page.goto(f"/approvals/{propose(desk, 120, level='HIGH')}")
    page.locator("button[data-opens=approve-dialog]").click()
    expect(page.locator("#approve-dialog")).to_be_visible()
    page.locator("#typed").fill("1")
    page.locator("#approve-dialog button.primary").click()
    expect(page.get_by_text("E310 The price has moved.")).to_be_focused()
    expect(page.locator("#approve-dialog")).to_be_hidden()


def test_a_sign_of_life_moves_neither_the_page_nor_the_focus(page: Page, desk: RunningDesk) -> None:
    """Naive: every answer to a POST is an outcome, so that each ten seconds the reader is thrown to the top."""
    page.goto(f"/approvals/{propose(desk, 10)}")
    page.locator("button[data-decide=decline]").click()
    page.locator("#decline-dialog textarea").fill("half a sente")
    with page.expect_response("**/trading/attend", timeout=30_000):
        pass
    page.wait_for_timeout(300)
    expect(page.locator("#decline-dialog textarea")).to_be_focused()
    expect(page.locator("#decline-dialog textarea")).to_have_value("half a sente")


def test_a_list_whose_refresh_failed_strikes_nothing(page: Page, desk: RunningDesk) -> None:
    """Naive: the words of the fault are taken for a list in which every row is over."""
    proposal = propose(desk, 10)
    page.goto("/approvals")
    row = page.locator(f"tr[data-proposal={proposal}]")
    row.hover()
    page.route("**/approvals", lambda route: route.fulfill(status=503, body="busy"))
    page.evaluate("document.body.dispatchEvent(new CustomEvent('proposals:changed', { detail: {} }))")
    expect(page.locator("#queue[data-old]")).to_have_count(1)
    assert "off" not in (row.get_attribute("class") or "")
    expect(row.locator("button[data-decide=approve]")).to_be_enabled()


def test_a_press_without_an_answer_is_told_as_one_that_may_have_been_done(
    page: Page, desk: RunningDesk
) -> None:
    """Naive: "the page shows old data"; or nothing, where a refresh failed within the last seconds."""
    page.route("**/decline", lambda route: route.abort())
    page.goto(f"/approvals/{propose(desk, 10)}")
    page.keyboard.press("r")
    page.keyboard.press("1")
    page.locator("#decline-dialog button.primary").click()
    expect(page.locator("#toasts").get_by_text("it may have been done")).to_be_visible()


def test_a_key_held_down_is_one_press(page: Page, desk: RunningDesk) -> None:
    """Naive: Escape held for half a second stops trading and cancels everything."""
    page.goto("/orders")
    stopped: list[str] = []
    page.on("request", lambda request: stopped.append(request.url) if request.method == "POST" else None)
    for _ in range(30):
        page.keyboard.down("Escape")
    page.keyboard.up("Escape")
    expect(page.get_by_text("Press Esc again within 2 s to stop trading").first).to_be_visible()
    assert not stopped


def test_the_row_under_the_pointer_stays_when_somebody_decides_another(page: Page, desk: RunningDesk) -> None:
    """Naive: the next row slides under the pointer, and the press approves that."""
    second, first = propose(desk, 10), propose(desk, 10)
    page.goto("/approvals")
    page.wait_for_selector("#connection.live")
    button, gone = (page.locator(f"tr[data-proposal={which}]") for which in (second, first))
    button = button.locator("button[data-decide=approve]")
    button.hover()
    top = "button => button.getBoundingClientRect().top - document.getElementById('queue').getBoundingClientRect().top"
    before = button.evaluate(top)
    decline(desk, first)
    expect(gone).to_have_class("off", timeout=30_000)
    assert button.evaluate(top) == before
    expect(gone.locator("button[data-decide=approve]")).to_be_disabled()
    page.mouse.move(0, 0)
    expect(gone).to_have_count(0, timeout=20_000)


def test_single_keys_can_be_switched_off_and_on_again(page: Page, desk: RunningDesk) -> None:
    for key_works in (False, True):
        page.goto("/help/keys")
        page.locator("main button[data-keys-switch]").click()
        page.keyboard.press("g")
        page.keyboard.press("o")
        if key_works:
            page.wait_for_url("**/orders")
        else:
            page.wait_for_timeout(500)
            assert page.url.endswith("/help/keys")
