"""The journeys of the desk in a real browser: propose, decide, fill, stop; live, without scripts, and for all eyes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import RunningDesk, manage, propose, sign_in

PATIENCE = 60_000  # ms: the analyst looks every 15 s
PAGES = (
    "/",
    "/approvals",
    "/approvals?show=decided",
    "/markets",
    "/orders?tab=all",
    "/positions",
    "/health",
    "/help/keys",
    "/help/errors",
)
ROW = "#queue tr[data-row]:not(.off)"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("trading")]


@pytest.fixture
def watched(browser: Browser, desk: RunningDesk) -> Iterator[Callable[..., Page]]:
    """Pages of signed-in people. At the end: no script error, no policy violation, no request to another host."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_as(role: str, **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, base_url=desk.base_url, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on(
            "console",
            lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None,
        )
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(desk.base_url) else faults.append(f"other host: {asked.url}")
            ),
        )
        sign_in(page, desk, role)
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert faults == []


def seconds_left(page: Page, selector: str) -> float:
    """What the server's deadline leaves, in seconds."""
    deadline = page.locator(selector).first.get_attribute("data-deadline")
    assert deadline is not None
    return int(deadline) / 1000 - time.time()


def open_proposal(desk: RunningDesk, page: Page, *, at_least: float = 15) -> str:
    """Open the waiting LOW proposal that has the most time left, or one made for this journey; returns its id."""
    page.goto("/approvals")
    rows = page.locator(ROW).filter(has_text=re.compile(r"\bLOW\b"))
    deadline = f"#{rows.last.get_attribute('id')} [data-deadline]" if rows.count() else ""
    if deadline and seconds_left(page, deadline) > at_least:
        rows.last.locator("a.rowlink").click()
    else:  # the analyst's ideas come when the market errs, not when a journey needs one
        page.goto(f"/approvals/{propose(desk, 20)}")
    page.wait_for_selector("#proposal")
    return page.url.rsplit("/", 1)[1]


def test_the_analyst_proposes_by_itself(desk: RunningDesk) -> None:
    """It looks every 15 s, and has an idea when the market errs: mostly within a minute."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        found = desk.api("GET", "/proposals", role="viewer")["data"]
        if any(proposal["proposer"] == "offline-analyst" for proposal in found):
            return
        time.sleep(1)
    pytest.fail("the analyst had no idea within ten minutes")


def test_the_one_time_link_opens_the_desk_once(desk: RunningDesk, browser: Browser) -> None:
    script = (
        "from kalshi_site.identity import issue_entry_code; from kalshi_site.models import User;"
        "print('code=' + issue_entry_code(User.objects.get(username='approver')))"
    )
    found = re.search(r"code=(\w+)", manage(desk.var, "shell", "-v", "0", "-c", script).stdout)
    assert found
    page = browser.new_page(base_url=desk.base_url)
    page.goto(f"/enter/{found[1]}")
    page.reload()  # looking at the link, as a preview does, spends nothing
    page.get_by_role("button", name="Enter").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.goto(f"/enter/{found[1]}")
    expect(page.get_by_role("heading", name="This link does not open")).to_be_visible()
    page.close()


def test_a_proposal_arrives_without_reload(desk: RunningDesk, watched: Callable[..., Page]) -> None:
    page = watched("approver")
    page.goto("/approvals")
    expect(page.locator("#connection")).to_contain_text("Live", timeout=10_000)
    known = page.locator(ROW).evaluate_all("rows => rows.map(row => row.id)")
    page.evaluate("window.sameDocument = true")
    # Not wait_for_function: it evaluates text, which our policy forbids.
    arrived = page.locator(ROW + "".join(f":not([id='{row}'])" for row in known))
    try:
        expect(arrived.first).to_be_visible(timeout=PATIENCE / 2)
    except AssertionError:
        propose(desk, 20)
        expect(arrived.first).to_be_visible(timeout=PATIENCE / 2)
    assert page.evaluate("window.sameDocument") is True
    expect(page).to_have_title(re.compile(r"^\(\d+\) PAPER · Approvals"))


def test_an_approved_proposal_becomes_an_order_a_fill_and_a_position(
    desk: RunningDesk, watched: Callable[..., Page]
) -> None:
    page = watched("approver")
    seen: list[str] = []
    for attempt in range(6):
        proposal = open_proposal(desk, page) if attempt < 3 else propose(desk, 20)
        page.goto(f"/approvals/{proposal}")
        page.get_by_role("button", name="Approve").click()
        answered = page.locator("#proposal .clock.over, #proposal .note[role=alert]").first
        expect(answered).to_be_visible(timeout=15_000)
        page.wait_for_timeout(1500)
        if (refusal := page.locator(".note[role=alert]:not(#alarm):visible")).count():
            seen.append(
                refusal.inner_text()
            )  # the price moved on meanwhile: the refusal is right, try the next
            continue
        expect(page.locator("#proposal")).to_contain_text("approved")
        page.get_by_role("link", name="Order", exact=True).click(timeout=15_000)
        expect(page.locator("#order .tag").first).to_be_visible()
        page.wait_for_timeout(3000)
        order = order_of(desk, proposal)
        expect(page.locator("#order .tag").first).to_have_text(
            re.compile("filled|resting|canceled|expired"), timeout=15_000
        )
        if order["filled_quantity"] == "0.00":
            seen.append(f"{proposal} is {order['status']}")  # nobody sold at our price: try the next
            continue
        page.goto("/positions")
        ticker = desk.api("GET", f"/proposals/{proposal}", role="approver")["ticker"]
        expect(page.locator(f"[id='{ticker}-row']")).to_be_visible(timeout=15_000)
        page.goto("/")
        expect(page.locator("#dashboard")).to_contain_text("Approved")
        return
    pytest.fail(f"six approvals and no fill: {seen}")


def order_of(desk: RunningDesk, proposal: str) -> dict[str, Any]:
    """The order that a proposal became."""
    orders = desk.api("GET", "/orders?limit=200", role="approver")["data"]
    found: dict[str, Any] = next(order for order in orders if order["proposal_id"] == proposal)
    return found


def test_a_declined_proposal_keeps_its_reason_and_is_not_traded(
    desk: RunningDesk, watched: Callable[..., Page]
) -> None:
    page = watched("approver")
    proposal = open_proposal(desk, page)
    page.keyboard.press("r")
    expect(page.locator("#decline-dialog")).to_be_visible()
    page.keyboard.press("3")
    page.locator("#decline-dialog").get_by_role("button", name="Decline").click()
    expect(page.locator("#proposal")).to_contain_text("Edge too small")
    expect(page.locator("#proposal")).to_contain_text("Declined, not traded")
    assert desk.api("GET", f"/proposals/{proposal}", role="approver")["status"] == "declined"
    orders = desk.api("GET", "/orders?limit=200", role="approver")["data"]
    assert proposal not in {order["proposal_id"] for order in orders}


def test_a_deadline_passes_and_nothing_is_traded(desk: RunningDesk, watched: Callable[..., Page]) -> None:
    proposal = propose(desk, 20, seconds=25)
    page = watched("viewer")
    page.goto(f"/approvals/{proposal}")
    expect(page.locator("#proposal")).to_contain_text("expires, not traded")
    expect(page.locator("#why-not")).to_contain_text("role approver")
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#proposal .clock")).to_contain_text("Expired", timeout=60_000)
    assert page.evaluate("window.sameDocument") is True
    orders = desk.api("GET", "/orders?limit=200", role="viewer")["data"]
    assert proposal not in {order["proposal_id"] for order in orders}


def test_after_a_stop_an_approval_is_refused_with_the_reason(
    desk: RunningDesk, watched: Callable[..., Page]
) -> None:
    second = watched("viewer")
    second.goto("/orders")
    expect(second.locator("#connection")).to_contain_text("Live", timeout=10_000)
    page = watched("approver")
    open_proposal(desk, page, at_least=30)
    page.locator("h1").click()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#trading-state")).to_contain_text("STOPPED", timeout=10_000)
    expect(second.locator("#trading-state")).to_contain_text("STOPPED", timeout=10_000)
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#proposal .note[role=alert]")).to_contain_text("E306")
    expect(page.locator("#proposal .note[role=alert]")).to_contain_text("stopped")
    with page.expect_response(lambda answer: answer.request.method == "GET" and answer.url == page.url):
        page.evaluate("document.body.dispatchEvent(new CustomEvent('orders:changed', { detail: {} }))")
    page.wait_for_timeout(500)  # the card has refreshed itself: the refusal is still there to be read
    expect(page.locator("#proposal .note[role=alert]")).to_contain_text("E306")
    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Why is it safe now?").fill("the journey is over")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#trading-state")).to_contain_text("TRADING")


def test_high_risk_asks_for_the_quantity_in_a_dialog(desk: RunningDesk, watched: Callable[..., Page]) -> None:
    """More than three quarters of the order limit of $150 warns, and a warning makes it HIGH."""
    page = watched("approver")
    page.goto(f"/approvals/{propose(desk, 125, 'HIGH')}")
    page.keyboard.press("a")
    dialog = page.locator("#approve-dialog")
    expect(dialog).to_be_visible()
    typed = dialog.get_by_label("Type the quantity to approve")
    quantity = str(typed.get_attribute("placeholder"))
    typed.fill("1")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_contain_text("the quantity of this proposal")
    typed.fill(quantity)
    dialog.get_by_role("button", name="Approve").click()
    expect(page.locator("#proposal .note").first).to_contain_text(re.compile("approved|E31", re.IGNORECASE))


def test_medium_risk_wants_a_second_press_in_place(desk: RunningDesk, watched: Callable[..., Page]) -> None:
    page = watched("approver")
    proposal = propose(desk, 90, "MEDIUM")
    page.goto(f"/approvals/{proposal}")
    button = page.locator("button[data-decide=approve]")
    button.dblclick()  # a double click is one press
    expect(button).to_contain_text("Press again to approve")
    assert desk.api("GET", f"/proposals/{proposal}", role="approver")["status"] == "pending"
    page.wait_for_timeout(700)
    page.keyboard.press("a")
    expect(page.locator("#proposal .note").first).to_contain_text(re.compile("approved|E31", re.IGNORECASE))


def test_decisions_and_the_stop_work_without_scripts(desk: RunningDesk, watched: Callable[..., Page]) -> None:
    page = watched("approver", java_script_enabled=False)
    approved = open_proposal(desk, page)
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#main")).to_contain_text(re.compile("Execution sends the order once|E310|E312"))
    declined = open_proposal(desk, page)
    assert declined != approved
    page.get_by_role("button", name="Decline").click()
    page.get_by_label("Too large").check()
    page.get_by_role("button", name="Decline").click()
    expect(page.locator("#main")).to_contain_text("Too large")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#trading-state")).to_contain_text("STOPPED")
    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Why is it safe now?").fill("only a drill")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#trading-state")).to_contain_text("TRADING")


def test_keys_move_and_jump(desk: RunningDesk, watched: Callable[..., Page]) -> None:
    propose(desk, 20)  # so that there is a row to move to
    page = watched("approver")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/approvals")
    page.wait_for_selector(ROW, timeout=PATIENCE)
    page.keyboard.press("j")
    expect(page.locator("#queue tr[data-row].on")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys-help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys-help")).to_be_hidden()
    page.keyboard.press("o")
    page.wait_for_selector("#proposal")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_page_has_a_serious_accessibility_fault(
    desk: RunningDesk, watched: Callable[..., Page], theme: str
) -> None:
    page = watched("approver", color_scheme=theme, reduced_motion="reduce")
    proposal = open_proposal(desk, page).partition("#")[0]
    market = desk.api("GET", f"/proposals/{proposal}", role="approver")["ticker"]
    found: dict[str, list[str]] = {}
    for address in (*PAGES, f"/approvals/{proposal}", f"/markets/{market}", "/trading/resume", "/nowhere"):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == (404 if address == "/nowhere" else 200), address
        found |= {f"{theme} {address}": faults} if (faults := serious(page)) else {}
    page.goto(f"/approvals/{proposal}")
    if page.locator("#decline-dialog").count():
        page.keyboard.press("r")
        found |= {f"{theme} decline dialog": faults} if (faults := serious(page)) else {}
    assert found == {}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_door_and_the_admin_have_no_serious_accessibility_fault(
    desk: RunningDesk, watched: Callable[..., Page], theme: str
) -> None:
    page = watched("admin", color_scheme=theme)
    found: dict[str, list[str]] = {}
    for address in (
        "/admin/",
        "/admin/approvals/proposal/",
        "/admin/trading/order/",
        "/admin/kalshi_site/auditentry/",
    ):
        page.goto(address)
        found |= {f"{theme} {address}": faults} if (faults := serious(page)) else {}
    page.context.clear_cookies()
    page.goto("/accounts/login/")
    found |= {f"{theme} sign-in": faults} if (faults := serious(page)) else {}
    assert found == {}


def serious(page: Page) -> list[str]:
    """Axe's serious and critical findings, each with its first place."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:160]} ({len(fault['nodes'])})"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
    ]
