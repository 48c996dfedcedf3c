"""A page behind a bad line: whatever the channel or a refresh loses, in the end it shows what the server has."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgpack
import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute

from tests.e2e.conftest import HEARTBEAT, RunningDesk, decline, manage, sign_in

SILENCE = 2 * HEARTBEAT + 2.0  # seconds without a heartbeat after which the page tries a new line
HEALED_WITHIN = 5.0  # seconds after the line is good again: the second try comes after at most two
SHARE = 0.05  # of the frames in each direction, of each kind of fault
REFRESHES_LOST = 0.3
SUBMIT = """
from datetime import timedelta
from decimal import Decimal
from django.utils import timezone
from approvals.domain.policy import Origin
from approvals.proposals import Draft, submit
from trading.domain.orders import Action, Side, Terms
from trading.models import Market
soon = timezone.now() + timedelta(minutes=10)
made = 0
for row in Market.objects.open(timezone.now()).filter(close_at__gt=soon).select_related("quote"):
    price = row.quote.top.yes_ask
    if price is None or not Decimal("0.1") <= price <= Decimal("0.9"):
        continue
    terms = Terms(row.ticker, Action.BUY, Side.YES, Decimal(1), price)
    draft = Draft(venue="paper", terms=terms, origin=Origin.PERSON, proposer="journey",
                  time_to_decide=timedelta(minutes=3))
    made += submit(draft).state == "pending"
    if made == {count}:
        break
"""

LISTEN_TO_THE_PILL = """
window.fallen = [];
const pill = document.getElementById("connection");
new MutationObserver(() => pill.classList.contains("live") || fallen.push(pill.innerText))
  .observe(pill, { attributeFilter: ["class"] });
"""

pytestmark = pytest.mark.slow


class BadLine:
    """What stands between one page and the desk. `lost` is the share of refreshes that come to nothing; if
    any, the first does.

    While `holds`, refreshes are under way and do not arrive. `hushed` names the kinds of server frames that are lost.
    """

    def __init__(self, page: Page, chance: random.Random) -> None:
        self.share, self.lost = 0.0, 0.0
        self.holds = False
        self.hushed: tuple[str, ...] = ()
        self.counts: Counter[str] = Counter()
        self._chance = chance
        self._socket: WebSocketRoute | None = None
        self._held: tuple[WebSocketRoute, str | bytes] | None = None
        self._on_their_way: list[Route] = []
        page.route("**/*", self._refresh)
        page.route_web_socket(re.compile("/ws/v1/live$"), self._connect)

    def cut(self) -> None:
        """End the socket; the page makes a new one."""
        if self._socket is not None:
            self._socket.close(code=1012)
            self.counts["cut"] += 1

    def release(self) -> None:
        """Let those refreshes arrive that were held, and all after them."""
        self.holds = False
        while self._on_their_way:
            self._on_their_way.pop().continue_()

    def _refresh(self, route: Route) -> None:
        asked = route.request
        if asked.headers.get("hx-request") != "true" or asked.method != "GET":
            route.fallback()
        elif self.holds:
            self._on_their_way.append(route)
        elif not self._loses():
            route.continue_()
        else:
            self.counts["refreshes lost"] += 1
            if self.counts["refreshes lost"] % 2:
                route.abort()
            else:
                route.fulfill(status=503, body="the desk is busy")

    def _loses(self) -> bool:
        """By chance, but for the first: of a dozen, none lost would be chance, too."""
        drawn = self._chance.random() < self.lost
        return drawn or (self.lost > 0 and not self.counts["refreshes lost"])

    def _connect(self, near: WebSocketRoute) -> None:
        far = near.connect_to_server()
        far.on_message(lambda frame: self._tell(near, frame))
        near.on_message(lambda frame: self._pass(far, frame))
        self._socket, self._held = near, None
        self.counts["connected"] += 1

    def _tell(self, near: WebSocketRoute, frame: str | bytes) -> None:
        if not self.hushed or msgpack.unpackb(frame)["k"] not in self.hushed:
            self._pass(near, frame)

    def _pass(self, sink: WebSocketRoute, frame: str | bytes) -> None:
        draw = self._chance.random()
        fates = ("lost", "repeated", "swapped")
        fate = next((fate for n, fate in enumerate(fates, 1) if draw < n * self.share), "passed")
        self.counts[fate] += 1
        held = self._held
        if fate == "swapped" and held is None:
            self._held = (sink, frame)
            return
        for _ in range({"lost": 0, "repeated": 2}.get(fate, 1)):
            sink.send(frame)
        if held is not None:
            self._held = None
            held[0].send(held[1])


@pytest.fixture
def opened(browser: Browser, desk: RunningDesk) -> Iterator[Callable[..., tuple[Page, BadLine]]]:
    """Approvals, in pages of somebody who is signed in, each behind a line of its own."""
    context = browser.new_context(base_url=desk.base_url)

    def open_page(seed: int, scripts: str = "", hushed: tuple[str, ...] = ()) -> tuple[Page, BadLine]:
        page = context.new_page()
        sign_in(page, desk, "approver")
        line = BadLine(page, random.Random(seed))
        line.hushed = hushed
        if scripts:
            naive = "export function keepRefreshing() {}"
            page.route(scripts, lambda route: route.fulfill(body=naive, content_type="text/javascript"))
        page.goto("/approvals")
        page.wait_for_selector("#connection" if hushed else "#connection.live")
        return page, line

    yield open_page
    context.close()


def _propose(desk: RunningDesk, count: int) -> None:
    done = manage(desk.var, "shell", "-v", "0", "-c", SUBMIT.format(count=count))
    assert done.returncode == 0, done.stderr


def _waiting(desk: RunningDesk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = desk.api("GET", "/proposals?status=pending", role="viewer")["data"]
    return found


def _shows(page: Page, proposal: dict[str, Any]) -> bool:
    return page.locator(f"#queue tr[data-proposal={proposal['id']}]").count() > 0


def _agrees(page: Page, desk: RunningDesk) -> bool:
    """The list and the count of the frame, row by row."""
    rows = page.locator("#queue tr[data-row]:not(.off)").evaluate_all(
        "rows => rows.map(row => row.dataset.proposal)"
    )
    count = page.locator("#waiting-count").get_attribute("data-count")
    waiting = {each["id"] for each in _waiting(desk)}
    return set(rows) == waiting and count == str(len(waiting))


def _is_live(page: Page) -> bool:
    return page.locator("#connection.live").count() > 0


def _within(page: Page, seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        page.wait_for_timeout(100)
    return True


def _miss_one(page: Page, line: BadLine, desk: RunningDesk) -> dict[str, Any]:
    """Decline a proposal while no refresh comes through: the page still shows it."""
    _propose(desk, 1)
    proposal = _waiting(desk)[0]
    assert _within(page, HEARTBEAT, lambda: _shows(page, proposal))
    line.lost, before = 1.0, line.counts["refreshes lost"]
    decline(desk, proposal["id"])
    assert _within(page, HEARTBEAT, lambda: line.counts["refreshes lost"] > before)
    page.wait_for_timeout(500)
    assert _shows(page, proposal)
    return proposal


def _heals(page: Page, line: BadLine, proposal: dict[str, Any]) -> bool:
    line.lost = 0.0
    return _within(page, HEALED_WITHIN, lambda: not _shows(page, proposal))


def test_a_part_whose_refresh_failed_says_that_it_is_old_and_asks_again(
    desk: RunningDesk, opened: Callable[..., tuple[Page, BadLine]]
) -> None:
    page, line = opened(1)
    missed = _miss_one(page, line, desk)
    assert page.locator("#queue[data-old]").count() == 1
    assert _heals(page, line, missed)
    assert page.locator("#queue[data-old]").count() == 0


def test_a_page_that_only_listens_stays_old(
    desk: RunningDesk, opened: Callable[..., tuple[Page, BadLine]]
) -> None:
    """Negative control. Another change would refresh it, so one of ten tries is enough: the first that stays old."""
    page, line = opened(2, scripts="**/js/refresh*.js")
    assert not all(_heals(page, line, _miss_one(page, line, desk)) for _ in range(10))


def test_on_a_good_line_changes_come_and_the_page_stays_live(
    desk: RunningDesk, opened: Callable[..., tuple[Page, BadLine]]
) -> None:
    page, _ = opened(6)
    page.evaluate(LISTEN_TO_THE_PILL)
    until = time.monotonic() + HEARTBEAT + HEALED_WITHIN
    while time.monotonic() < until:
        _propose(desk, 1)
        made = _waiting(desk)[0]
        assert _within(page, HEALED_WITHIN, partial(_shows, page, made))
        decline(desk, made["id"])
    assert page.evaluate("fallen") == []


@pytest.mark.parametrize("line_is", ["slow", "broken"])
def test_a_page_that_missed_a_change_is_not_live_until_it_shows_it(
    desk: RunningDesk, opened: Callable[..., tuple[Page, BadLine]], line_is: str
) -> None:
    """Naive: an open socket is live, whatever the heartbeat says and however the refresh goes."""
    page, line = opened(4)
    line.hushed = ("delta",)
    line.holds, line.lost = line_is == "slow", 1.0
    _propose(desk, 1)
    missed = next(each for each in _waiting(desk) if not _shows(page, each))
    assert _within(page, HEARTBEAT + HEALED_WITHIN, lambda: not _is_live(page))
    page.wait_for_timeout(2_000)
    assert not _is_live(page)
    assert not _shows(page, missed)
    line.lost = 0.0
    line.release()
    assert _within(page, HEALED_WITHIN, lambda: _shows(page, missed))
    # Where another change was missed meanwhile, the next heartbeat tells.
    assert _within(page, HEARTBEAT + HEALED_WITHIN, lambda: _is_live(page)), line.counts
    line.hushed = ()
    decline(desk, missed["id"])


def test_a_page_without_heartbeats_is_not_live_and_tries_a_new_line(
    desk: RunningDesk, opened: Callable[..., tuple[Page, BadLine]]
) -> None:
    """Naive: prices that come keep the page from noticing."""
    page, line = opened(5, hushed=("ping", "pong"))
    assert not _within(page, SILENCE / 2, lambda: _is_live(page) or line.counts["connected"] > 1)
    assert line.counts["passed"] > 0
    assert _within(page, SILENCE / 2 + HEALED_WITHIN, lambda: line.counts["connected"] > 1)
    assert not _is_live(page)
    line.hushed = ()
    assert _within(page, HEARTBEAT + HEALED_WITHIN, lambda: _is_live(page))


def test_after_any_weather_the_page_shows_what_waits(
    desk: RunningDesk, opened: Callable[..., tuple[Page, BadLine]]
) -> None:
    page, line = opened(3)
    _propose(desk, 12)
    line.share, line.lost = SHARE, REFRESHES_LOST
    for number, proposal in enumerate(_waiting(desk)):
        decline(desk, proposal["id"])
        if number % 5 == 4:
            line.cut()
        page.wait_for_timeout(400)
    line.share, line.lost = 0.0, 0.0
    assert _within(page, HEARTBEAT + HEALED_WITHIN, lambda: _agrees(page, desk)), line.counts
    assert line.counts["refreshes lost"] > 0
