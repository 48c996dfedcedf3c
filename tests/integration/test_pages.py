"""The pages as a plain browser without scripts meets them: every answer, every refusal, every right."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings
from django.template import Context, Template
from django.test import Client
from django.utils import timezone

from approvals.models import Decision, Proposal
from kalshi_site.errors import REGISTRY
from kalshi_site.identity import issue_entry_code
from kalshi_site.models import User
from portfolio import ledger, risk
from portfolio.models import TradingState
from tests import factories
from trading.domain.orders import BookSide
from trading.models import Market, Order, Quote

D = Decimal
# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def as_member(role: str, username: str = "") -> Client:
    client = Client()
    client.force_login(factories.member(username or f"{role}1", role))
    return client


@pytest.fixture
def approver() -> Client:
    return as_member("approver")


@pytest.fixture
def proposal() -> Proposal:
    factories.funded()
    return factories.ProposalFactory()


def answer(client: Client, proposal: Proposal, act: str, **fields: object) -> tuple[int, str]:
    data = {"version": proposal.version, "terms_hash": proposal.terms_hash, **fields}
    response = client.post(f"/approvals/{proposal.public_id}/{act}", data, follow=True)
    return response.status_code, response.content.decode()


def test_nobody_sees_a_page_without_signing_in() -> None:
    for address in (
        "/",
        "/approvals",
        "/orders",
        "/positions",
        "/markets",
        "/health",
        "/frame/state",
        "/trading/resume",
    ):
        response = Client().get(address)
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize(
    "address",
    [
        *("/", "/approvals", "/approvals?show=decided&risk=LOW", "/markets", "/orders?tab=all", "/positions"),
        "/health",
    ],
)
def test_every_page_stands_on_an_empty_desk(approver: Client, address: str) -> None:
    page = approver.get(address)
    assert page.status_code == 200
    assert "default-src 'none'" in page["Content-Security-Policy"]
    assert "PAPER" in page.content.decode()


def test_unknown_figures_are_a_dash_not_a_zero(approver: Client) -> None:
    text = approver.get("/").content.decode()
    assert "<dt>Equity</dt><dd>–<small>the account is not read yet" in text


def test_htmx_gets_the_fragment_and_a_browser_the_page(approver: Client, proposal: Proposal) -> None:
    address = f"/approvals/{proposal.public_id}"
    fragment = approver.get(address, headers={"HX-Request": "true"}).content.decode()
    assert fragment.lstrip().startswith('<article id="proposal"')
    assert "<html" in approver.get(address).content.decode()


def test_the_analysts_text_is_shown_as_text(approver: Client) -> None:
    found = factories.ProposalFactory(
        forecast={
            "probability": "0.6",
            "claims": [{"text": "<img src=x onerror=alert(1)>", "source": "<b>"}],
        },
        title="<script>alert(1)</script>",
    )
    text = approver.get(f"/approvals/{found.public_id}").content.decode()
    assert "<img" not in text
    assert "<script>alert" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_low_goes_out_at_one_press(approver: Client, proposal: Proposal) -> None:
    status, text = answer(approver, proposal, "approve")
    assert (status, Proposal.objects.get().state) == (200, "approved")
    assert "Execution sends the order once" in text
    assert Decision.objects.get().method == "page"


@pytest.mark.parametrize("address", ["/", "/approvals", "/approvals/{}"])
def test_the_form_of_every_page_that_offers_it_approves(
    approver: Client, proposal: Proposal, address: str
) -> None:
    """The page's own fields, and no others: a page that leaves one out offers a button that is always refused."""
    page = approver.get(address.format(proposal.public_id)).content.decode()
    [form] = re.findall(
        rf'<form[^>]*action="(/approvals/{proposal.public_id}/approve)"[^>]*>(.*?)</form>', page, re.DOTALL
    )
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[1]))
    approver.post(form[0], fields)
    assert Proposal.objects.get().state == "approved"


def test_medium_asks_once_more(approver: Client, proposal: Proposal) -> None:
    Proposal.objects.update(risk_level="MEDIUM")
    _, text = answer(approver, proposal, "approve")
    assert "Approve a MEDIUM risk trade?" in text
    assert Proposal.objects.get().state == "pending"
    answer(approver, proposal, "approve", confirmed="yes")
    assert Proposal.objects.get().state == "approved"


def test_high_wants_the_quantity(approver: Client, proposal: Proposal) -> None:
    Proposal.objects.update(risk_level="HIGH")
    assert answer(approver, proposal, "approve", confirmed="yes")[0] == 200
    status, text = answer(approver, proposal, "approve", quantity="11")
    assert (status, Proposal.objects.get().state) == (422, "pending")
    assert "Type 10, the quantity of this proposal." in text
    answer(approver, proposal, "approve", quantity="10")
    assert Proposal.objects.get().state == "approved"


def test_a_stale_version_shows_the_fresh_card_and_who_decided(approver: Client, proposal: Proposal) -> None:
    answer(as_member("approver", "approver2"), proposal, "decline", why="Too large")
    response = approver.post(
        f"/approvals/{proposal.public_id}/approve",
        {"version": 1, "terms_hash": proposal.terms_hash},
        headers={"HX-Request": "true"},
    )
    text = response.content.decode()
    assert response.status_code == 412
    assert text.lstrip().startswith('<article id="proposal"')
    assert "version 2 is declined by approver2" in text
    assert "E204" in text


def test_after_the_deadline_the_answer_is_e210(approver: Client, proposal: Proposal) -> None:
    Proposal.objects.update(deadline_at=timezone.now() - timedelta(seconds=1))
    status, text = answer(approver, proposal, "approve")
    assert (status, Proposal.objects.get().state) == (409, "pending")
    assert "E210" in text
    assert "expires, not traded" in text
    assert "data-decide" not in text


def test_a_stop_refuses_the_approval_with_its_code(approver: Client, proposal: Proposal) -> None:
    approver.post("/trading/state", {"to": "HALTED", "next": "/"})
    status, text = answer(approver, proposal, "approve")
    assert (status, Proposal.objects.get().state) == (409, "pending")
    assert "E306" in text


def test_a_viewer_sees_why_deciding_is_not_possible(proposal: Proposal) -> None:
    viewer = as_member("viewer")
    text = viewer.get(f"/approvals/{proposal.public_id}").content.decode()
    assert "Deciding needs the role approver" in text
    assert answer(viewer, proposal, "approve")[0] == 403
    assert Proposal.objects.get().state == "pending"


def test_declining_keeps_choice_and_words(approver: Client, proposal: Proposal) -> None:
    assert "Too large" in approver.get(f"/approvals/{proposal.public_id}/decline").content.decode()
    answer(approver, proposal, "decline", why="Too large", words="half would do")
    assert Proposal.objects.get().decision_reason == "Too large: half would do"


def test_a_form_without_a_version_decides_nothing(approver: Client, proposal: Proposal) -> None:
    assert answer(approver, proposal, "approve", version="")[0] == 422
    assert answer(approver, proposal, "decline", version="x")[0] == 422
    assert Proposal.objects.get().state == "pending"


def test_pause_and_stop_ask_for_nothing_and_resume_for_a_reason(approver: Client) -> None:
    approver.post("/trading/state", {"to": "REDUCING"})
    assert TradingState.objects.get().mode == "REDUCING"
    approver.post("/trading/state", {"to": "HALTED"})
    state = TradingState.objects.get()
    assert (state.mode, state.changed_by) == ("HALTED", "approver1")
    assert approver.post("/trading/resume", {"version": state.version}).status_code == 422
    assert approver.post("/trading/resume", {"version": 1, "reason": "fine"}).status_code == 412
    assert TradingState.objects.get().mode == "HALTED"
    approver.post("/trading/resume", {"version": state.version, "reason": "checked", "next": "/orders"})
    assert TradingState.objects.get().mode == "ACTIVE"


def test_a_viewer_cannot_stop_cancel_or_close() -> None:
    viewer = as_member("viewer")
    order = factories.OrderFactory()
    for address in (
        "/trading/state",
        f"/orders/{order.public_id}/cancel",
        "/orders/cancel-all",
        "/positions/X/close",
    ):
        response = viewer.post(address, {"to": "HALTED"})
        assert response.status_code == 403
        assert "E104" in response.content.decode()


def test_nothing_leads_to_another_host(approver: Client) -> None:
    for wanted in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        assert approver.post("/trading/state", {"to": "REDUCING", "next": wanted})["Location"] == "/"
        assert approver.post("/appearance", {"theme": "dark", "next": wanted})["Location"] == "/"


def test_canceling_asks_execution(approver: Client) -> None:
    order = factories.OrderFactory()
    approver.post(f"/orders/{order.public_id}/cancel")
    assert Order.objects.get().cancel_requested_by == "approver1"
    other = factories.OrderFactory()
    approver.post("/orders/cancel-all")
    assert Order.objects.get(pk=other.pk).cancel_requested_at is not None
    assert order.public_id in approver.get(f"/orders/{order.public_id}").content.decode()


def test_closing_sells_the_holding_at_once(approver: Client) -> None:
    factories.funded()
    market = factories.quoted_market()
    ledger.book_fill(
        venue="paper",
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        title=market.title,
        book_side=BookSide.BID,
        count=D(12),
        yes_price=D("0.45"),
        fee=D("0.10"),
        reference="one",
        at=timezone.now(),
    )
    page = approver.get("/positions").content.decode()
    assert "48.0¢" in page  # marked at the bid
    assert "+$0.36" in page  # 12 × (48 − 45)¢
    approver.post(f"/positions/{market.ticker}/close")
    exit_order = Proposal.objects.get()
    assert (exit_order.action, exit_order.quantity, exit_order.state) == ("sell", D(12), "approved")
    again = approver.post("/positions/NOTHING/close", follow=True).content.decode()
    assert "E020" in again


def test_an_average_price_is_shown_to_a_tenth_of_a_cent(approver: Client) -> None:
    market = factories.quoted_market()
    for reference, price in (("one", "0.45"), ("two", "0.46"), ("three", "0.46")):
        ledger.book_fill(
            venue="paper", ticker=market.ticker, event_ticker=market.event_ticker, title="", at=timezone.now(),
            book_side=BookSide.BID, count=D(1), yes_price=D(price), fee=D(0), reference=reference,
        )  # fmt: skip
    assert ">45.7¢<" in approver.get("/positions").content.decode()


def test_the_theme_is_kept_and_set_by_the_server(approver: Client) -> None:
    approver.post("/appearance", {"theme": "dark", "next": "/"})
    assert User.objects.get(username="approver1").theme == "dark"
    assert 'data-theme="dark"' in approver.get("/").content.decode()
    approver.post("/appearance", {"theme": "<b>", "next": "/"})
    assert User.objects.get(username="approver1").theme == "dark"


def test_a_preview_does_not_spend_the_one_time_link() -> None:
    code = issue_entry_code(factories.approver())
    visitor = Client()
    assert visitor.get(f"/enter/{code}").status_code == 200
    assert visitor.head(f"/enter/{code}").status_code == 405
    assert visitor.post(f"/enter/{code}")["Location"] == "/"
    assert visitor.get("/").status_code == 200
    assert Client().post(f"/enter/{code}").status_code == 410


def test_every_error_code_has_its_page() -> None:
    for code in REGISTRY:
        assert code in Client().get(f"/help/errors/{code}").content.decode()
    assert Client().get("/help/errors/E999").status_code == 404


def test_an_unknown_address_stands_in_the_frame_with_its_request_id(approver: Client) -> None:
    page = approver.get("/nowhere")
    assert page.status_code == 404
    assert page["Request-Id"] in page.content.decode()
    assert 'class="side"' in page.content.decode()


def test_a_position_without_a_bid_is_not_worth_zero(approver: Client) -> None:
    factories.funded()
    market = factories.quoted_market()
    ledger.book_fill(
        venue="paper", ticker=market.ticker, event_ticker=market.event_ticker, title="", book_side=BookSide.BID,
        count=D(1), yes_price=D("0.45"), fee=D(0), reference="one", at=timezone.now(),
    )  # fmt: skip
    market.quote.yes_bid = None
    market.quote.save()
    text = approver.get("/positions").content.decode()
    assert "<dt>Worth now</dt><dd>–" in text
    assert risk.facts_of(market.ticker).book.yes_bid is None


def test_the_admin_shows_records_and_changes_none(proposal: Proposal) -> None:
    admin = factories.member("admin1", "admin")
    User.objects.filter(pk=admin.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=admin.pk))
    for address in ("approvals/proposal", "trading/order", "trading/fill", "portfolio/position"):
        assert client.get(f"/admin/{address}/").status_code == 200
        assert client.get(f"/admin/{address}/add/").status_code == 403
    assert client.get(f"/admin/approvals/proposal/{proposal.pk}/change/").status_code == 200
    assert client.post(f"/admin/approvals/proposal/{proposal.pk}/delete/").status_code == 403


def test_the_admin_asks_before_it_approves(proposal: Proposal) -> None:
    person = factories.approver()
    User.objects.filter(pk=person.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    chosen = {"action": "approve_selected", "_selected_action": proposal.pk}
    asked = client.post("/admin/approvals/proposal/", chosen)
    assert "Approve what is shown" in asked.content.decode()
    assert Proposal.objects.get().state == "pending"
    client.post(
        "/admin/approvals/proposal/",
        {
            **chosen,
            "confirmed": "yes",
            f"version-{proposal.pk}": 1,
            f"terms-{proposal.pk}": proposal.terms_hash,
        },
    )
    assert Proposal.objects.get().state == "approved"
    assert Decision.objects.get().method == "admin"


def test_a_limit_set_in_the_admin_goes_through_its_activity() -> None:
    person = factories.member("risk1", "risk")
    User.objects.filter(pk=person.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    client.post("/admin/portfolio/risklimit/add/", {"name": "position", "value": "123", "note": "careful"})
    assert risk.limits()["position"] == D(123)


# --- what is not known is not told


@pytest.mark.parametrize("address", ["/markets", "/markets/{}", "/approvals/{}"])
def test_a_market_without_a_quote_has_a_page(approver: Client, address: str) -> None:
    market = factories.MarketFactory()
    found = factories.ProposalFactory(market=market)
    name = found.public_id if "approvals" in address else market.ticker
    page = approver.get(address.format(name))
    assert page.status_code == 200
    assert "–" in page.content.decode()


@pytest.mark.parametrize(
    "shown",
    [
        *("cents", "average", "dollars", "signed", "percent", "edge", "quantity", "gain", "side", "minus"),
        *("other", "clock", "day_clock", "span", "until", "closes", "ago", "held", "held_text"),
    ],
)
def test_a_filter_takes_what_is_missing_for_unknown(shown: str) -> None:
    """Django hands a filter an empty text where a variable leads nowhere."""
    page = Template("{% load trading_format %}{{ nothing.here|" + shown + "|default:'–' }}")
    assert page.render(Context()) in ("–", "None")


def test_a_market_that_closed_does_not_close_in_over(approver: Client) -> None:
    past = timezone.now() - timedelta(minutes=5)
    market = factories.quoted_market(close_at=past)
    found = factories.ProposalFactory(market=market)
    page = approver.get(f"/markets/{market.ticker}").content.decode()
    assert re.search(r"</span> closed <time [^>]*>[^<]*</time>", page)
    for text in (page, approver.get(f"/approvals/{found.public_id}").content.decode()):
        assert "in over" not in text
    assert '<td class="n">closed</td>' in text


def test_the_market_list_says_how_many_there_are_and_how_many_it_shows(
    approver: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        factories.quoted_market()
    assert "3 open, the next to close first" in approver.get("/markets").content.decode()
    monkeypatch.setattr("trading.views.SHOWN", 2)
    page = approver.get("/markets").content.decode()
    assert "3 open, the next to close first; the first 2 are shown" in page
    assert "3 match, the next to close first" in approver.get("/markets?q=SIMTEST").content.decode()


def test_a_list_of_orders_that_is_cut_says_so(approver: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        factories.OrderFactory()
    assert "are shown" not in approver.get("/orders").content.decode()
    monkeypatch.setattr("trading.views.SHOWN", 2)
    assert "3 work · newest first, 2 of 3 are shown" in approver.get("/orders").content.decode()


def test_the_way_to_kalshi_stands_in_every_refresh_of_the_dashboard(approver: Client) -> None:
    for headers in ({}, {"HX-Request": "true"}):
        assert "Connect to Kalshi" in approver.get("/", headers=headers).content.decode()


# --- orders


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("resting", "canceling"),
        ("partially_filled", "canceling"),
        ("unknown", "unknown, cancel asked"),
        ("sending", "sending, cancel asked"),
        ("filled", "filled"),
    ],
)
def test_only_what_is_being_canceled_reads_canceling(approver: Client, state: str, words: str) -> None:
    order = factories.OrderFactory(state=state, cancel_requested_at=timezone.now())
    assert f">{words}</span>" in approver.get(f"/orders/{order.public_id}").content.decode()


def test_an_order_is_good_until_what_was_approved(approver: Client) -> None:
    """Its expiry at the exchange is renewed every few minutes, and is not the end of it."""
    now = timezone.now()
    end, midnight = now + timedelta(days=3), now.replace(hour=23, minute=59, second=59)
    soon = min(now + timedelta(minutes=2), midnight)  # of another day it would be shown with its date
    order = factories.OrderFactory(expires_at=soon, good_until=end)
    page = approver.get(f"/orders/{order.public_id}").content.decode()
    assert f"until {end.day} {end:%b %H:%M} UTC; renewed at the exchange, now until {soon:%H:%M:%S}" in page
    Order.objects.update(state="canceled")
    page = approver.get(f"/orders/{order.public_id}").content.decode()
    assert f"<small>until {end.day} {end:%b %H:%M} UTC</small>" in page
    Order.objects.update(good_until=None)
    page = approver.get(f"/orders/{order.public_id}").content.decode()
    assert f"<small>until {soon:%H:%M:%S} UTC</small>" in page


# --- positions


@pytest.fixture
def held() -> Market:
    factories.funded()
    market: Market = factories.quoted_market()
    ledger.book_fill(
        venue="paper", ticker=market.ticker, event_ticker=market.event_ticker, title="", book_side=BookSide.BID,
        count=D(12), yes_price=D("0.45"), fee=D(0), reference="one", at=timezone.now(),
    )  # fmt: skip
    return market


def test_closing_promises_the_bid_less_its_slippage_and_no_more(approver: Client, held: Market) -> None:
    page = approver.get("/positions").content.decode()
    assert 'title="Sells 12 YES now: the best bid is 48.0¢, at worst 2¢ less, down to the next tick."' in page
    approver.post(f"/positions/{held.ticker}/close")
    assert Proposal.objects.get().limit_price == D("0.46")


@pytest.mark.parametrize(
    ("address", "places"),
    [
        ("/positions", ['<div class="sm" data-prices><dt>Worth now', '<table class="cards" data-prices>']),
        ("/", ["<div data-prices><dt>Equity", "<div data-prices><dt>Unrealized"]),
        (
            "/markets/{}",
            ["data-prices><dt>YES bid", "data-prices><dt>YES ask", '<table class="book" data-prices>'],
        ),
    ],
)
def test_the_script_finds_every_price_that_may_be_old(
    approver: Client, held: Market, address: str, places: list[str]
) -> None:
    page = approver.get(address.format(held.ticker)).content.decode()
    assert [place for place in places if place not in page] == []


def test_why_a_button_is_dead_stands_there_in_words(held: Market) -> None:
    """A title is neither read nor shown where there is no mouse."""
    factories.OrderFactory(ticker=held.ticker)
    viewer, order = as_member("viewer"), Order.objects.get()
    pages = ("/orders", f"/orders/{order.public_id}", f"/markets/{held.ticker}")
    for address in pages:
        page = viewer.get(address).content.decode()
        assert 'disabled aria-describedby="why-cancel"' in page
        assert re.search(r'id="why-cancel">Canceling needs the role approver, risk or admin\.<', page)
    page = viewer.get("/positions").content.decode()
    assert 'disabled aria-describedby="why-close"' in page
    assert 'id="why-close">Closing needs the role approver.<' in page


def test_why_this_one_cannot_be_closed_or_canceled_stands_beside_it(approver: Client, held: Market) -> None:
    order = factories.OrderFactory(cancel_requested_at=timezone.now())
    page = approver.get("/orders").content.decode()
    assert f'id="why-cancel-{order.public_id}">The cancel is on its way.<' in page
    Quote.objects.update(yes_bid=None)
    page = approver.get("/positions").content.decode()
    assert f'id="why-close-{held.ticker}">Nobody bids for it now.<' in page


# --- sales


@pytest.mark.parametrize("level", ["MEDIUM", "HIGH"])
def test_what_a_sale_brings_is_not_called_a_cost(approver: Client, proposal: Proposal, level: str) -> None:
    factories.ProposalFactory(risk_level=level, action="sell", risk_report={"cost": "0", "fee": "0.17"})
    sale = Proposal.objects.get(action="sell")
    rows = approver.get("/approvals").content.decode()
    assert rows.count('data-k="Cost"') == 1
    assert rows.count('data-k="Pays us"') == 1
    _, asked = answer(approver, sale, "approve")
    assert "<dt>Pays us, less the fee</dt><dd>$5.00 − $0.17</dd>" in asked
    assert "Cost and fee" not in asked


def test_what_a_purchase_costs_is_called_a_cost(approver: Client) -> None:
    factories.funded()
    found = factories.ProposalFactory(risk_level="MEDIUM", risk_report={"cost": "5", "fee": "0.17"})
    _, asked = answer(approver, found, "approve")
    assert "<dt>Cost and fee</dt><dd>$5.00 + $0.17</dd>" in asked


# --- what a person typed


def test_a_refused_resume_keeps_what_was_typed(approver: Client) -> None:
    approver.post("/trading/state", {"to": "HALTED"})
    for fields, status in (({"version": "x"}, 422), ({"version": 9}, 412)):
        page = approver.post("/trading/resume", {"reason": "checked the books", **fields})
        assert page.status_code == status
        assert 'value="checked the books"' in page.content.decode()
