"""Orders, fills, positions, portfolio, markets and the trading state over REST."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from kalshi_site.identity import new_id
from portfolio import ledger, risk
from portfolio.models import Reservation, TradingState
from tests.callers import Caller, code_of
from tests.factories import MarketFactory, OrderFactory, ProposalFactory, funded, quoted_market
from trading.domain.orders import BookSide
from trading.models import Fill, Market, Order, Quote

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller() -> Caller:
    funded()
    return Caller.of("approver")


def _filled(order: Order, quantity: str = "4", price: str = "0.49", fee: str = "0.07") -> Fill:
    """An execution of `order`, in the books."""
    fill = Fill.objects.create(
        public_id=new_id("fil"),
        venue="paper",
        order=order,
        trade_id=new_id("trade"),
        venue_order_id=order.venue_order_id,
        ticker=order.ticker,
        action=order.action,
        side=order.side,
        book_side="bid",
        quantity=Decimal(quantity),
        yes_price=Decimal(price),
        fee=Decimal(fee),
        is_taker=True,
        at=timezone.now(),
    )
    ledger.book_fill(
        venue="paper",
        ticker=order.ticker,
        event_ticker=order.event_ticker,
        title=order.title,
        book_side=BookSide.BID,
        count=fill.quantity,
        yes_price=fill.yes_price,
        fee=fill.fee,
        reference=fill.trade_id,
        at=fill.at,
    )
    return fill


def test_an_order_names_its_proposal_and_its_evidence(caller: Caller) -> None:
    order = OrderFactory(evidence="201, order id x")
    OrderFactory(state="filled")
    shown = caller.get("/orders?status=open").json()["data"]
    assert [row["id"] for row in shown] == [order.public_id]
    assert order.proposal is not None
    assert shown[0]["proposal_id"] == order.proposal.public_id
    assert shown[0]["status"] == "resting"
    assert shown[0]["average_price"] is None
    assert caller.get(f"/orders/{order.public_id}").json() == shown[0]


def test_orders_are_found_by_their_proposal(caller: Caller) -> None:
    order, _ = OrderFactory(), OrderFactory()
    assert order.proposal is not None
    rows = caller.get(f"/orders?proposal_id={order.proposal.public_id}").json()["data"]
    assert [row["id"] for row in rows] == [order.public_id]


def test_an_external_order_has_no_proposal(caller: Caller) -> None:
    market = quoted_market()
    OrderFactory(
        proposal=None,
        origin="external",
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        title="",
        action="buy",
        side="yes",
        quantity=Decimal(1),
        limit_price=Decimal("0.5"),
        remaining_quantity=Decimal(1),
    )
    assert caller.get("/orders").json()["data"][0]["proposal_id"] is None


def test_a_cancel_is_asked_for_once_and_needs_no_key(caller: Caller) -> None:
    order = OrderFactory()
    first = caller.post(f"/orders/{order.public_id}/cancel", {"reason": "too early"}, key=None)
    assert first.status_code == 200
    assert first.json()["cancel_requested_by"] == "approver1"
    assert first.json()["status"] == "resting"
    again = caller.post(f"/orders/{order.public_id}/cancel", key=None)
    assert again.json()["version"] == first.json()["version"]


def test_a_finished_order_cannot_be_canceled(caller: Caller) -> None:
    order = OrderFactory(state="filled")
    response = caller.post(f"/orders/{order.public_id}/cancel")
    assert (response.status_code, code_of(response)) == (409, "E212")


def test_cancels_pass_while_trading_is_stopped(caller: Caller) -> None:
    order = OrderFactory()
    risk.halt(venue="paper", actor="risk1", reason="drill")
    assert caller.post(f"/orders/{order.public_id}/cancel").status_code == 200


def test_cancel_all_names_the_orders_it_asked_for(caller: Caller) -> None:
    open_orders = {OrderFactory().public_id, OrderFactory(state="unknown").public_id}
    OrderFactory(state="canceled")
    answer = caller.post("/orders/cancel-all").json()
    assert {row["id"] for row in answer["data"]} == open_orders
    assert caller.post("/orders/cancel-all").json() == {"data": []}


def test_a_fill_shows_price_and_fee_exactly(caller: Caller) -> None:
    fill = _filled(OrderFactory(side="no"), fee="0.069972")
    shown = caller.get("/fills").json()["data"][0]
    assert (shown["yes_price"], shown["price"], shown["fee"]) == ("0.4900", "0.5100", "0.069972")
    assert shown["order_id"] == fill.order.public_id  # type: ignore[union-attr]


def test_the_portfolio_adds_up_to_the_last_digit(caller: Caller) -> None:
    _filled(OrderFactory())
    ticker = Market.objects.get().ticker
    position = caller.get(f"/positions/{ticker}").json()
    assert (position["side"], position["quantity"], position["average_price"]) == ("yes", "4.00", "0.490000")
    assert (position["mark"], position["unrealized"]) == ("0.4800", "-0.040000")
    books = caller.get("/portfolio").json()
    assert books["cash"] == "9997.970000"  # 10,000 - 4 x 0.49 - 0.07
    assert Decimal(books["equity"]) == sum(Decimal(books[name]) for name in ("cash", "cost", "unrealized"))
    assert books["fees"] == "0.070000"


def test_what_has_no_price_is_null_and_never_zero(caller: Caller) -> None:
    _filled(OrderFactory())
    Quote.objects.update(trusted=False)
    position = caller.get("/positions").json()["data"][0]
    assert (position["mark"], position["unrealized"]) == (None, None)
    books = caller.get("/portfolio").json()
    assert (books["equity"], books["unrealized"], books["unmarked_positions"]) == (None, None, 1)


def test_undone_orders_hold_cash_back(caller: Caller) -> None:
    proposal = ProposalFactory()
    caller.approve(proposal)
    books = caller.get("/portfolio").json()
    held_back = Reservation.objects.get()
    assert Decimal(books["reserved"]) == 10 * (held_back.unit_cost + held_back.unit_fee)
    assert Decimal(books["available"]) == Decimal(books["cash"]) - Decimal(books["reserved"])
    assert books["exposure"] == "5.000000"


def test_a_position_is_closed_at_what_the_book_pays(caller: Caller) -> None:
    _filled(OrderFactory(state="filled"))
    ticker = Market.objects.get().ticker
    response = caller.post(f"/positions/{ticker}/close")
    assert response.status_code == 200, response.content
    exit_ = response.json()
    assert (exit_["action"], exit_["side"], exit_["quantity"]) == ("sell", "yes", "4.00")
    assert Decimal(exit_["limit_price"]) <= Decimal("0.48")
    assert (exit_["status"], exit_["reduce_only"]) == ("approved", True)


def test_a_flat_or_unknown_market_cannot_be_closed(caller: Caller) -> None:
    flat = quoted_market()
    assert code_of(caller.post(f"/positions/{flat.ticker}/close")) == "E212"
    response = caller.post("/positions/SIM-NONE/close")
    assert (response.status_code, code_of(response)) == (404, "E020")


def test_markets_are_listed_by_ticker_with_their_touch(caller: Caller) -> None:
    quoted = quoted_market(ticker="SIMB-1")
    MarketFactory(ticker="SIMA-1")
    rows = caller.get("/markets").json()["data"]
    assert [row["ticker"] for row in rows] == ["SIMA-1", "SIMB-1"]
    assert (rows[0]["yes_bid"], rows[0]["as_of"], rows[0]["last_price"]) == (None, None, None)
    assert (rows[1]["yes_bid"], rows[1]["yes_ask"]) == ("0.4800", "0.5000")
    one = caller.get(f"/markets/{quoted.ticker}").json()
    assert one["price_ranges"] == [{"start": "0.00", "end": "1.00", "step": "0.01"}]
    assert [row["ticker"] for row in caller.get("/markets?limit=1").json()["data"]] == ["SIMA-1"]
    cursor = caller.get("/markets?limit=1").json()["next_cursor"]
    assert [row["ticker"] for row in caller.get(f"/markets?cursor={cursor}").json()["data"]] == ["SIMB-1"]


@pytest.mark.parametrize("path", ["/markets/SIM-NONE", "/markets/SIM-NONE/orderbook"])
def test_an_unknown_ticker_is_said_to_be_unknown(caller: Caller, path: str) -> None:
    response = caller.get(path)
    assert (response.status_code, code_of(response)) == (404, "E020")
    assert "SIM-NONE" in response.json()["detail"]


def test_the_book_shows_levels_only_while_it_is_trusted(caller: Caller) -> None:
    market = quoted_market()
    book = caller.get(f"/markets/{market.ticker}/orderbook").json()
    assert book["bids"] == [{"price": "0.4800", "quantity": "500.00"}]
    assert book["as_of"] is not None
    Quote.objects.update(trusted=False)
    book = caller.get(f"/markets/{market.ticker}/orderbook").json()
    assert (book["trusted"], book["as_of"], book["bids"], book["asks"]) == (False, None, [], [])
    bare = MarketFactory()
    assert caller.get(f"/markets/{bare.ticker}/orderbook").json()["trusted"] is False


def test_trading_is_paused_stopped_and_resumed(caller: Caller) -> None:
    assert caller.get("/trading/state").json()["mode"] == "ACTIVE"
    paused = caller.post("/trading/pause", {"reason": "news"})
    assert (paused.json()["mode"], paused.json()["reason"]) == ("REDUCING", "news")
    stopped = caller.post("/trading/halt", key=None)
    assert (stopped.json()["mode"], stopped.json()["kill_epoch"]) == ("HALTED", 1)
    again = caller.post("/trading/halt", key=None)
    assert (again.json()["mode"], again.json()["kill_epoch"]) == ("HALTED", 1)
    overtaken = caller.post("/trading/resume", {"reason": "all clear"}, If_Match=stopped["ETag"])
    assert code_of(overtaken) == "E204", "a newer stop stands"
    seen = again["ETag"]
    assert code_of(caller.post("/trading/resume", {"reason": "blind"})) == "E203"
    assert code_of(caller.post("/trading/resume", If_Match=seen)) == "E010"
    resumed = caller.post("/trading/resume", {"reason": "all clear"}, If_Match=seen)
    assert resumed.json()["mode"] == "ACTIVE"
    assert resumed["ETag"] == caller.get("/trading/state")["ETag"]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_pause_or_resume_needs_a_key_and_honours_the_version_seen(caller: Caller, verb: str) -> None:
    assert code_of(caller.post(f"/trading/{verb}", key=None, If_Match='"v1"')) == "E205"
    risk.halt(venue="paper", actor="risk1", reason="drill")
    stale = caller.post(f"/trading/{verb}", {"reason": "all clear"}, If_Match='"v1"')
    assert (stale.status_code, code_of(stale)) == (412, "E204")
    assert stale.json()["current"]["mode"] == "HALTED"
    assert TradingState.objects.get().mode == "HALTED"


def test_a_pause_of_a_stop_answers_that_it_is_stopped(caller: Caller) -> None:
    risk.halt(venue="paper", actor="risk1", reason="drill")
    answer = caller.post("/trading/pause", {"reason": "lunch"})
    assert (answer.status_code, answer.json()["mode"], answer.json()["reason"]) == (200, "HALTED", "drill")


def test_health_says_what_is_wrong(caller: Caller) -> None:
    risk.halt(venue="paper", actor="risk1", reason="drill")
    health = caller.get("/health").json()
    assert health["trading"] is False
    assert health["checks"]["trading"] == "trading is HALTED"
    assert health["profile"] == "paper"


def test_a_settled_market_shows_its_value_and_the_position_its_payout(caller: Caller) -> None:
    _filled(OrderFactory(state="filled"))
    market = Market.objects.get()
    ledger.book_settlement(venue="paper", ticker=market.ticker, yes_value=Decimal(1), at=timezone.now())
    assert caller.get("/positions").json()["data"] == []
    gone = caller.get("/positions?status=all").json()["data"][0]
    assert (gone["side"], gone["quantity"], gone["average_price"]) == (None, "0.00", None)
    assert (gone["realized"], gone["settlement_value"]) == ("2.040000", "1.000000")
    assert caller.get("/portfolio").json()["cash"] == "10001.970000"
    assert timezone.now() - market.updated_at < timedelta(minutes=5)
