"""The comparison against the real paper exchange: orders by hand, missed news, lists in parts, archived records."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import stamina
from django.core.management import call_command
from django.db.models import F, Value

from kalshi_site import wiring
from kalshi_site.models.fields import CountField
from portfolio import risk
from portfolio.models import CashEntry, Position
from tests import factories
from tests.exchanges import PaperExchange, paper_exchange
from trading.domain.orders import BookSide, TimeInForce
from trading.engine.update_cycle import update_cycle
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.errors import ExchangeError, IncompleteList
from trading.exchange.history import open_history
from trading.exchange.market_data import open_market_data
from trading.exchange.orders import Orders, create_body, open_orders
from trading.exchange.outcomes import Accepted
from trading.exchange.reports import MarketDefinition
from trading.execution import rows as row_room
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler
from trading.execution.records import Records
from trading.execution.rows import RowComparison, compare_rows
from trading.models import Cycle, Fill, Order, WorkItem

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(autouse=True)
def one_try() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    home = tmp_path_factory.mktemp("paper")
    with paper_exchange(home, "--simulate", "--faults", "--tier", "unlimited") as started:
        yield started


@pytest.fixture
def paper(exchange: PaperExchange) -> Iterator[PaperExchange]:
    yield exchange
    exchange.forget_faults()


@pytest.fixture
def by_hand(paper: PaperExchange) -> Iterator[Orders]:
    """Somebody else with the account's trading key. What earlier tests left on the book is gone."""
    with closing(open_orders(paper.rest_url, open_signer(*paper.key("desk-trade")))) as opened:
        opened.cancel_all()
        yield opened


@pytest.fixture
def judge(paper: PaperExchange) -> Iterator[Reconciler]:
    signer = open_signer(*paper.key("desk-read"))
    with (
        closing(open_account(paper.rest_url, signer)) as account,
        closing(open_market_data(paper.rest_url)) as public,
        closing(open_history(paper.rest_url, signer)) as history,
    ):
        yield Reconciler(VENUE, account, public, history=history)


def markets(judge: Reconciler) -> list[MarketDefinition]:
    """Quoted markets that a bid of 99 cents buys from and an ask of one cent sells to, longest open first."""
    listed = judge.market_data.markets(status="open")
    quoted = [each for each in listed if each.quote.mid is not None and _is_in_doubt(each)]
    return sorted(quoted, key=lambda each: each.close_at, reverse=True)


def _is_in_doubt(market: MarketDefinition) -> bool:
    bid, ask = market.quote.yes_bid, market.quote.yes_ask
    return bid is not None and ask is not None and bid >= D("0.03") and ask <= D("0.97")


def send(
    orders: Orders,
    market: MarketDefinition,
    *,
    price: str,
    count: str = "1",
    side: BookSide = BookSide.BID,
    client_order_id: str = "",
) -> str:
    body = create_body(
        ticker=market.ticker,
        client_order_id=client_order_id or f"hand-{uuid.uuid4()}",
        book_side=side,
        quantity=D(count),
        yes_price=D(price),
        time_in_force=TimeInForce.GTC,
    )
    outcome = orders.send_create(body, time.time_ns() // 1_000_000)
    assert isinstance(outcome, Accepted), outcome
    return outcome.order_id


def by_row(judge: Reconciler) -> RowComparison:
    return compare_rows(VENUE, judge.records, judge.open_account(), Reconciled())


def test_two_hundred_orders_by_hand_and_every_row_matches(judge: Reconciler, by_hand: Orders) -> None:
    """Orders that rest, fill at once and are canceled, and fills that our stream never told, while we look now and
    then: in the end every order and every fill of the exchange's export is ours too, field by field."""
    judge.run()
    chance, places = random.Random(4), markets(judge)[:8]
    resting: list[tuple[str, str]] = []
    for number in range(220):
        market = chance.choice(places)
        if chance.random() < 0.4:
            price = "0.9900" if chance.random() < 0.5 else "0.0100"
            side = BookSide.BID if price == "0.9900" else BookSide.ASK
            send(by_hand, market, price=price, count=str(chance.randint(1, 5)), side=side)
        else:
            resting.append((send(by_hand, market, price="0.0100", count="2"), market.ticker))
        if resting and chance.random() < 0.3:
            order_id, ticker = resting.pop(chance.randrange(len(resting)))
            by_hand.cancel(order_id, market_ticker=ticker)
        if number % 40 == 39:
            judge.run()
    for _ in range(5):  # the market goes on: what fills between two lists is in the next ones
        found = judge.run()
        rows = by_row(judge)
        if not rows.differences:
            break
    assert rows.differences == []
    assert (rows.matched, rows.compared["orders"]) == (100.0, 220)
    assert rows.compared["fills"] == Fill.objects.count() > 50
    assert Order.objects.filter(origin="external").count() == 220
    assert found.drift == 0
    assert found.position_drift == {}
    assert not WorkItem.objects.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("forget a fill", ("fills", "record")),
        ("change a fee", ("fills", "fee")),
        ("change a price", ("orders", "price")),
        ("invent an order", ("orders", "record")),
    ],
)
@pytest.mark.usefixtures("past_the_guards")
def test_a_row_that_differs_is_named(
    judge: Reconciler, by_hand: Orders, monkeypatch: pytest.MonkeyPatch, change: str, told: Any
) -> None:
    """Negative control of the row-by-row comparison: each tampering with our rows is found."""
    judge.run()
    send(by_hand, markets(judge)[0], price="0.9900")
    judge.run()
    match change:
        case "forget a fill":
            Fill.objects.all().delete()
        case "change a fee":
            Fill.objects.update(fee=D("9.99"))
        case "change a price":
            Order.objects.update(limit_price=D("0.5"))
        case _:
            monkeypatch.setattr(row_room, "LAG", timedelta(0))
            factories.OrderFactory()
    assert {(each.area, each.field) for each in by_row(judge).differences} == {told}


# --- lists in parts


LISTS = ("/portfolio/orders", "/portfolio/fills", "/portfolio/positions")


@pytest.fixture
def holding(judge: Reconciler, by_hand: Orders) -> Reconciler:
    """Positions in two markets, and two orders that rest, all of them booked."""
    judge.run()
    for market in markets(judge)[:2]:
        send(by_hand, market, price="0.9900")
        send(by_hand, market, price="0.0100")
    assert judge.run().is_clean
    assert Position.objects.held(VENUE).count() >= 2
    return judge


def state() -> list[Any]:
    """What must not change when a list comes in part."""
    return [
        list(Position.objects.order_by("pk").values_list("ticker", "quantity", "version")),
        list(Order.objects.order_by("pk").values_list("state", "version")),
        list(WorkItem.objects.values_list("pk")),
    ]


SECOND_PAGES: tuple[dict[str, Any], ...] = (
    {"kind": "error_before", "status": 503},
    {"kind": "drop_before"},
    {"kind": "truncated_body"},
    {"kind": "page_repeats", "times": None},
    {"kind": "rate_limited"},
)


@pytest.mark.parametrize("path", LISTS)
def test_a_second_page_that_fails_or_repeats_aborts_and_nothing_is_flat(
    paper: PaperExchange, holding: Reconciler, path: str
) -> None:
    before = state()
    for second in SECOND_PAGES:
        paper.faults(
            [
                {"endpoint": "read", "path": path, "page": "first", "kind": "page_short", "times": None},
                {"endpoint": "read", "path": path, "page": "later", **second},
            ]
        )
        with pytest.raises(ExchangeError) as raised:
            holding.run()
        assert isinstance(raised.value, IncompleteList) == (second["kind"] == "page_repeats")
        assert state() == before, second
        paper.forget_faults()


def test_the_naive_reader_of_one_page_would_have_believed_it_flat(
    paper: PaperExchange, holding: Reconciler
) -> None:
    """Negative control: the first page alone lacks a position, which is there."""
    short = {"endpoint": "read", "path": "/portfolio/positions", "page": "first", "kind": "page_short"}
    paper.faults([{**short, "times": None}])
    account: Any = holding.account
    pages = account._reads.pages("/portfolio/positions", _positions_kind(), {"limit": 1000})
    assert len(next(pages).market_positions) == 1
    assert len(holding.account.positions()) >= 2
    assert holding.run().is_clean, "short pages that all come are complete"


def _positions_kind() -> Any:
    from trading.exchange.account_messages import PositionsAnswer

    return PositionsAnswer


# --- the archive


def test_orders_and_fills_that_have_left_the_live_lists_are_found_in_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that ended is archived at once: what the live endpoints deny, the historical ones tell."""
    monkeypatch.setattr(Records.__init__, "__defaults__", (None, timedelta(0)))
    options = ("--simulate", "--tier", "unlimited", "--archive-orders-after", "0", "--archive-after", "0")
    with paper_exchange(tmp_path / "paper", *options) as paper:
        read = open_signer(*paper.key("desk-read"))
        with (
            closing(open_orders(paper.rest_url, open_signer(*paper.key("desk-trade")))) as hand,
            closing(open_account(paper.rest_url, read)) as account,
            closing(open_market_data(paper.rest_url)) as public,
            closing(open_history(paper.rest_url, read)) as history,
        ):
            old = Reconciler(VENUE, account, public, history=history)
            blind = Reconciler(VENUE, account, public)
            old.run()
            market = markets(old)[0]
            canceled = send(hand, market, price="0.0100", count="2")
            old.run()
            hand.cancel(canceled, market_ticker=market.ticker)
            send(hand, market, price="0.9900", count="3")
            time.sleep(0.05)
            lacking = Reconciled()
            blind.orders(lacking)
            blind.fills(lacking, blind.open_account())
            assert (lacking.fills, Order.objects.get().state) == (0, "resting"), "the live lists deny both"
            assert old.run().is_clean
            assert Order.objects.get(venue_order_id=canceled).state == "canceled"
            assert {fill.order.state for fill in Fill.objects.select_related("order") if fill.order} == {
                "filled"
            }
            assert by_row(old).differences == []


# --- the command


@pytest.fixture
def desk(paper: PaperExchange, settings: Any) -> Iterator[PaperExchange]:
    settings.KALSHI_REST_URL = paper.rest_url
    settings.KALSHI_READ_KEY_ID, settings.KALSHI_READ_KEY_FILE = paper.key("desk-read")
    for shared in (wiring.budget, wiring.link):
        shared.cache_clear()
    yield paper
    wiring.budget().close()
    for shared in (wiring.budget, wiring.link):
        shared.cache_clear()


def command(*options: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    out = StringIO()
    try:
        call_command("reconcile", *options, stdout=out, stderr=StringIO())
    except SystemExit as left:
        return int(left.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_the_command_is_clean_then_tells_what_differs_and_aborts_when_it_cannot_read(
    desk: PaperExchange, by_hand: Orders, judge: Reconciler
) -> None:
    code, text = command("--json")
    told = json.loads(text)
    assert (code, told["outcome"], told["areas"]["cash"]["compared"]) == (0, "clean", 1)
    send(by_hand, markets(judge)[0], price="0.0100", client_order_id="kp-of-another-desk")
    code, text = command("--rows", "--json")
    told = json.loads(text)
    assert (code, told["outcome"], told["rows"]["matched_percent"]) == (1, "differences", 100.0)
    [item] = told["work_items"]
    assert (item["kind"], item["severity"], item["state"]) == ("orphan_order", "critical", "open")
    assert item["page"] == f"/orders/{Order.objects.get().public_id}"
    code, text = command("--rows")
    assert code == 1
    assert "row by row: 1 orders, 0 fills: 100 % match" in text
    assert f"CRITICAL {item['id']} (open)" in text
    desk.faults([{"endpoint": "read", "path": "/portfolio/positions", "kind": "error_before", "times": None}])
    code, text = command("--json")
    assert (code, json.loads(text)["outcome"], json.loads(text)["code"]) == (2, "aborted", "E601")
    assert Cycle.objects.filter(loop="reconcile").order_by("-slot")[0].outcome == "failed"


def test_without_a_key_the_command_aborts(settings: Any) -> None:
    settings.KALSHI_READ_KEY_FILE = None
    assert command()[0] == 2


# --- injected drift


class Clocked:
    """The loop's slots, five seconds apart, without waiting for them."""

    def __init__(self, judge: Reconciler) -> None:
        self.judge, self.looks = judge, 0

    def look(self) -> None:
        self.looks += 1
        assert update_cycle(reconciler=self.judge, interval=timedelta(microseconds=1)) is not None


@pytest.mark.parametrize("harm", ["a fill undone with its money", "cash", "a position"])
def test_injected_drift_pauses_trading_within_a_minute_of_looks(
    judge: Reconciler, by_hand: Orders, harm: str
) -> None:
    """Our books are harmed behind the desk's back: the loop must tell within 60 s, which are twelve of its looks."""
    clocked = Clocked(judge)
    clocked.look()
    send(by_hand, markets(judge)[0], price="0.9900")
    clocked.look()
    assert risk.trading_state(VENUE).mode == "ACTIVE"
    bought = CashEntry.objects.get(kind="fill")
    position = Position.objects.filter(ticker=bought.ticker)
    if harm != "a position":  # what was booked cannot be changed: wrong money comes as an entry
        CashEntry.objects.create(venue=VENUE, kind="adjustment", amount=-bought.amount, reference="harm")
    if harm != "cash":
        step = Value(D(1), CountField())
        position.update(quantity=F("quantity") - step, version=F("version") + 1)
    clocked.looks = 0
    while risk.trading_state(VENUE).mode == "ACTIVE" and clocked.looks < 12:
        clocked.look()
    state = risk.trading_state(VENUE)
    assert (state.mode, state.changed_by) == ("REDUCING", "reconciliation")
    assert clocked.looks == 2
    kinds = set(WorkItem.objects.shown(VENUE).values_list("kind", flat=True))
    assert (
        kinds
        == {
            "a fill undone with its money": {"cash_drift", "position_drift"},
            "cash": {"cash_drift"},
            "a position": {"position_drift"},
        }[harm]
    )
