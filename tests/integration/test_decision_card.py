"""The card of a proposal that the gateway judged and the analyst argued for: every number on it, and its answers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from approvals import proposals
from approvals.domain.policy import Origin
from approvals.models import Decision, Proposal
from kalshi_site.models import User
from tests import factories
from trading.domain.orders import Action, Side, Terms
from trading.domain.prices import OffGrid, PriceGrid, count_text, linear_grid, percent_text
from trading.models import Market, Quote

D = Decimal
HTMX = {"HTTP_HX_REQUEST": "true"}

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def submit(quantity: str = "60", market: Market | None = None) -> Proposal:
    factories.funded()
    market = market or factories.quoted_market()
    return proposals.submit(
        proposals.Draft(
            venue=factories.VENUE,
            terms=Terms(market.ticker, Action.BUY, Side.YES, D(quantity), D("0.50")),
            origin=Origin.AGENT,
            proposer="offline-analyst",
            strategy="fair-value",
            time_to_decide=timedelta(minutes=5),
            rules_text=market.rules_text,
            forecast={
                "probability": "0.5800",
                "low": "0.5400",
                "high": "0.6200",
                "edge": "0.0620",
                "claims": [{"text": "12 recent trades average 58¢.", "source": "market.trades"}],
                "model": "offline-analyst",
            },
        )
    )


def signed_in(role: str = "approver") -> Client:
    client = Client()
    client.force_login(factories.member(f"{role}1", role))
    return client


def text_of(client: Client, address: str, **headers: str) -> str:
    response = client.get(address, **headers)  # type: ignore[arg-type]
    assert response.status_code == 200
    return response.content.decode()


def test_the_card_shows_stakes_checks_effect_reasons_and_rules() -> None:
    proposal = submit()
    page = text_of(signed_in(), f"/approvals/{proposal.public_id}")
    for part in (
        "Buy 60",
        "$30.00",  # cost
        "edge 6.2¢",
        "$30.00 of $150.00",  # order notional
        "This event, most to lose",
        "Payoff",
        "12 recent trades average 58¢.",
        "Resolves to Yes if the test passes.",
        "expires, not traded",
    ):
        assert part in page, part


def test_a_denied_proposal_shows_the_limit_and_no_way_to_approve() -> None:
    proposal = submit("400")
    page = text_of(signed_in(), f"/approvals/{proposal.public_id}")
    assert "$200.00 of $150.00" in page
    assert f"/approvals/{proposal.public_id}/approve" not in page


def test_the_queue_the_dashboard_and_the_market_show_it() -> None:
    proposal, client = submit(), signed_in()
    for address in ("/", "/approvals", f"/markets/{proposal.ticker}"):
        assert proposal.public_id in text_of(client, address), address
    assert proposal.ticker in text_of(client, f"/markets?q={proposal.ticker}&category=Test")
    assert proposal.public_id in text_of(client, "/approvals?show=decided") or proposal.is_decidable
    assert proposal.public_id not in text_of(client, "/approvals?risk=HIGH")


@pytest.mark.parametrize(
    "levels",
    [
        {"bids": [["0.4800", "500.00"], ["0.4700", "90.50"]], "asks": [["0.5000", "12.00"]]},
        {"bids": [["0.4800", "500.00"]], "asks": [["0.5000", "12.00"], ["0.5100", "7.25"]]},
        {"bids": [["0.4800", "500.00"]], "asks": []},
        {"bids": [], "asks": [["0.5000", "12.00"]]},
        {},
    ],
)
def test_a_book_of_unequal_sides_is_shown(levels: dict[str, list[list[str]]]) -> None:
    market = factories.quoted_market()
    Quote.objects.update(levels=levels)
    page = text_of(signed_in(), f"/markets/{market.ticker}")
    for price, count in (level for side in levels.values() for level in side):
        assert f"{D(price) * 100:.1f}¢" in page
        assert f"{D(count):,.2f}".removesuffix(".00") in page


def test_htmx_is_asked_once_more_in_place_and_then_told() -> None:
    proposal, client = submit("160"), signed_in()
    assert proposal.risk_level == "MEDIUM"
    address = f"/approvals/{proposal.public_id}/approve"
    first = client.post(address, {"version": 1, "terms_hash": proposal.terms_hash}, **HTMX)
    assert first.status_code == 200
    assert not Decision.objects.exists()
    second = client.post(
        address, {"version": 1, "terms_hash": proposal.terms_hash, "confirmed": "yes"}, **HTMX
    )
    assert second.status_code == 200
    assert "Approved" in second["HX-Trigger"]
    assert Decision.objects.get().method == "page"


def test_an_answer_returns_to_the_page_it_came_from_and_never_elsewhere() -> None:
    client = signed_in()
    for wanted, expected in (("/approvals", "/approvals"), ("https://example.com/", None)):
        proposal = submit()
        response = client.post(
            f"/approvals/{proposal.public_id}/decline",
            {"version": 1, "terms_hash": proposal.terms_hash, "choice": "other", "next": wanted},
        )
        assert response.status_code == 302
        assert response["Location"] == (expected or f"/approvals/{proposal.public_id}")


def test_the_form_for_declining_stands_on_a_page_of_its_own() -> None:
    proposal = submit()
    assert "Decline" in text_of(signed_in(), f"/approvals/{proposal.public_id}/decline")


def test_the_admin_declines_what_was_shown_and_tells_of_refusals() -> None:
    proposal, client = submit(), signed_in()
    User.objects.update(is_staff=True)
    data = {"action": "decline_selected", "_selected_action": [proposal.pk]}
    client.post("/admin/approvals/proposal/", data)
    assert Proposal.objects.get().state == "pending"
    stale = {
        **data,
        "confirmed": "yes",
        f"version-{proposal.pk}": "7",
        f"terms-{proposal.pk}": proposal.terms_hash,
    }
    assert b"E204" in client.post("/admin/approvals/proposal/", stale, follow=True).content
    client.post("/admin/approvals/proposal/", {**stale, f"version-{proposal.pk}": "1"})
    assert (Proposal.objects.get().state, Decision.objects.get().method) == ("declined", "admin")


def test_the_terminal_lists_declines_and_refuses_odd_words(capsys: pytest.CaptureFixture[str]) -> None:
    proposal = submit()
    factories.approver()
    call_command("proposals", "list")
    assert f"{proposal.public_id} v1 pending LOW buy 60.00 yes" in capsys.readouterr().out
    for words in (
        ["approve"],
        ["approve", "prop_no", "--seen", "1", "--terms", proposal.terms_hash[:12], "--as", "approver1"],
        ["approve", proposal.public_id, "--seen", "1", "--terms", proposal.terms_hash[:12], "--as", "nobody"],
    ):
        with pytest.raises(CommandError) as refusal:
            call_command("proposals", *words)
        assert refusal.value.returncode == 2
    call_command(
        "proposals",
        "decline",
        proposal.public_id,
        "--seen",
        "1",
        "--terms",
        proposal.terms_hash[:12],
        "--as",
        "approver1",
    )
    assert "declined" in capsys.readouterr().out
    for act, mode in (("pause", "REDUCING"), ("resume", "ACTIVE")):
        call_command("trade", act, "--reason", "drill")
        assert f"paper {mode}" in capsys.readouterr().out


def test_withdrawing_ends_a_proposal() -> None:
    withdrawn = proposals.withdraw(proposal=submit(), actor="offline-analyst", reason="changed my mind")
    assert (withdrawn.state, withdrawn.decision_reason) == ("withdrawn", "changed my mind")


def test_a_price_off_the_grid_names_its_neighbours() -> None:
    with pytest.raises(OffGrid, match=r"0.505 is off the market's price grid; nearest: 0.50 or 0.51"):
        linear_grid().require(D("0.505"))
    assert linear_grid().require(D("0.50")) == D("0.50")


@pytest.mark.parametrize("ranges", [[], [{"start": "0"}], [{"start": "0", "end": "1", "step": "0"}]])
def test_a_grid_that_cannot_be_read_is_refused(ranges: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="price_ranges"):
        PriceGrid.from_ranges(ranges)


def test_unknown_figures_are_dashes() -> None:
    assert (percent_text(None), count_text(None), count_text(D("0.50"))) == ("–", "–", "0.50")
