"""Breakers where they stand: reads are held back, new orders wait, ways out never do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import breakers, locks
from kalshi_site.breakers.memories import shelf
from portfolio.models import Reservation
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange
from tests.scripted_exchange import Step, answers, hangs_up, serving
from trading.agent.guarded import Guarded
from trading.agent.schemas import Refusal
from trading.domain.breaker import Breaker, NoBreaker
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.auth import Signer
from trading.exchange.budget import Unlimited
from trading.exchange.errors import ExchangeError, OverBudget, SwitchedOff
from trading.exchange.link import Link
from trading.exchange.market_data import MarketData
from trading.exchange.orders import create_body
from trading.exchange.orders.client import open_orders
from trading.exchange.outcomes import NotSent, Unknown
from trading.exchange.reads import Reads
from trading.exchange.tariff import Charge
from trading.exchange.transport import Transport
from trading.execution.router import Router
from trading.models import Order, Quote

VENUE = factories.VENUE
SIGNER = Signer("key-1", Ed25519PrivateKey.generate())
BODY = create_body(
    ticker="SIMX-1",
    client_order_id="kp-1",
    book_side=BookSide.BID,
    quantity=Decimal(10),
    yes_price=Decimal("0.42"),
    time_in_force=TimeInForce.GTC,
)
BROKEN = answers({"error": {"code": "internal_error", "message": "sorry"}}, 503)
REFUSED = answers({"error": {"code": "not_found", "message": "no such market"}}, 404)


@dataclass
class Ear:
    """A breaker that remembers what it was told. `is_open` is set by hand."""

    is_open: bool = False
    heard: list[str] = field(default_factory=list)

    def allows(self) -> bool:
        return not self.is_open

    def unused(self) -> None:
        self.heard.append("unused")

    def succeeded(self) -> None:
        self.heard.append("good")

    def failed(self, reason: str) -> None:
        self.heard.append("bad")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def reads(stack: ExitStack, breaker: Breaker, *steps: Step) -> tuple[MarketData, Any]:
    server = stack.enter_context(serving(*steps))
    made = MarketData(Reads(Transport(server.url, link=Link(reads=breaker)), attempts=1))
    stack.callback(made.close)
    return made, server


@pytest.mark.parametrize(
    ("step", "heard"), [(BROKEN, "bad"), (hangs_up, "bad"), (REFUSED, "good"), (answers({}), "good")]
)
def test_a_read_tells_whether_the_exchange_is_there_and_not_what_it_says(
    opened: ExitStack, step: Step, heard: str
) -> None:
    ear = Ear()
    data, _ = reads(opened, ear, step)
    with pytest.raises(ExchangeError):
        data.market("SIMX-1")
    assert ear.heard == [heard]


def test_a_read_that_our_own_budget_keeps_back_gives_its_probe_to_the_next(opened: ExitStack) -> None:
    class Spent(Unlimited):
        def take(self, charge: Charge, *, patience: float) -> None:
            raise OverBudget("no tokens")

    ear = Ear()
    server = opened.enter_context(serving(answers({})))
    link = Link(reads=ear, budget=Spent())
    data = MarketData(Reads(Transport(server.url, link=link), attempts=1))
    opened.callback(data.close)
    with pytest.raises(OverBudget):
        data.market("SIMX-1")
    assert (ear.heard, server.requests) == (["unused"], [])


def test_while_reads_are_switched_off_nothing_is_asked_but_whether_it_is_back(opened: ExitStack) -> None:
    ear = Ear(is_open=True)
    up = {"exchange_active": True, "trading_active": True}
    data, server = reads(opened, ear, answers(up))
    with pytest.raises(SwitchedOff) as refused:
        data.market("SIMX-1")
    assert refused.value.code == "E605"
    assert not server.requests
    data.exchange_state()
    assert len(server.requests) == 1 and ear.heard == ["good"]


def test_without_a_breaker_each_caller_finds_out_for_itself(opened: ExitStack) -> None:
    """The naive variant of the test above."""
    data, server = reads(opened, NoBreaker(), BROKEN)
    for _ in range(10):
        with pytest.raises(ExchangeError):
            data.market("SIMX-1")
    assert len(server.requests) == 10


@pytest.mark.parametrize(("step", "heard"), [(BROKEN, "bad"), (hangs_up, "bad"), (REFUSED, "good")])
def test_creates_and_cancels_are_counted_apart_and_never_held_back(
    opened: ExitStack, step: Step, heard: str
) -> None:
    writes, cancels = Ear(is_open=True), Ear(is_open=True)
    server = opened.enter_context(serving(step))
    orders = open_orders(server.url, SIGNER, link=Link(writes=writes, cancels=cancels))
    opened.callback(orders.close)
    orders.cancel("o-1", market_ticker="SIMX-1")
    orders.decrease("o-1", market_ticker="SIMX-1", reduce_to=Decimal(1))
    assert (cancels.heard, writes.heard) == ([heard] * 2, [])
    orders.send_create(BODY, int(time.time() * 1000))
    assert (cancels.heard, writes.heard) == ([heard] * 2, [heard])
    assert len(server.requests) == 3


# -- execution


def router(exchange: FakeExchange, breaker: Breaker) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1), breaker=breaker)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
class TestExecution:
    def test_an_approval_waits_unvoided_and_is_sent_once_the_breaker_lets_it(self, held: locks.Held) -> None:
        exchange, breaker, proposal = FakeExchange(), Ear(is_open=True), approved()
        assert router(exchange, breaker).round(held) == 0
        proposal.refresh_from_db()
        assert (proposal.state, exchange.sent) == ("approved", [])
        breaker.is_open = False
        assert router(exchange, breaker).round(held) == 1

    @pytest.mark.usefixtures("past_the_guards")
    def test_an_exit_goes_out_whatever_the_breaker_says(
        self, held: locks.Held, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exchange, proposal = FakeExchange(), approved()
        Proposal.objects.filter(pk=proposal.pk).update(origin="close", reduce_only=True)
        tried = []
        monkeypatch.setattr(
            "trading.execution.router.claim", lambda tried_now, **_: tried.append(tried_now.public_id)
        )
        router(exchange, Ear(is_open=True)).round(held)
        assert tried == [proposal.public_id]

    def test_a_cancel_goes_out_whatever_the_breaker_says(self, held: locks.Held) -> None:
        exchange = FakeExchange()
        approved()
        assert router(exchange, NoBreaker()).round(held) == 1
        Order.objects.update(cancel_requested_at=Order.objects.get().created_at)
        router(exchange, Ear(is_open=True)).round(held)
        assert exchange.book["venue-1"].state == "canceled"

    def test_an_order_that_never_left_for_a_reason_of_ours_is_no_probe(self, held: locks.Held) -> None:
        breaker = Ear()
        approved()
        router(FakeExchange(behaviour=lambda *_: NotSent("E602: no tokens")), breaker).round(held)
        assert (breaker.heard, Order.objects.get().state) == (["unused"], "not_sent")

    @pytest.mark.usefixtures("past_the_guards")
    def test_what_waits_too_long_for_an_open_breaker_is_voided_and_keeps_no_money(
        self, held: locks.Held
    ) -> None:
        exchange, proposal = FakeExchange(), approved()
        long_ago = timezone.now() - timedelta(minutes=2)
        Proposal.objects.filter(pk=proposal.pk).update(decided_at=long_ago)
        router(exchange, Ear(is_open=True)).round(held)
        proposal.refresh_from_db()
        assert (proposal.state, exchange.sent) == ("voided", [])
        assert Reservation.objects.get(key=proposal.public_id).released_at is not None

    def test_a_probe_that_came_to_nothing_is_given_back(self, held: locks.Held) -> None:
        assert self.sent_by_a_probe_whose_first_is_void(held) == 1

    def test_the_naive_router_spends_its_probe_on_what_is_void(
        self, held: locks.Held, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(breakers.Breaker, "unused", lambda _: None)
        assert self.sent_by_a_probe_whose_first_is_void(held) == 0

    @staticmethod
    def sent_by_a_probe_whose_first_is_void(held: locks.Held) -> int:
        breaker, exchange = breakers.Breaker("exchange_write"), FakeExchange()
        first = approved(market=factories.quoted_market(ticker="SIMTEST-0"))
        approved(market=factories.quoted_market(ticker="SIMTEST-1"))
        long_ago = timezone.now() - timedelta(hours=1)
        Quote.objects.filter(market__ticker=first.ticker).update(as_of=long_ago, verified_at=long_ago)
        for _ in range(3):
            breaker.failed("no answer")
        assert router(exchange, breaker).round(held) == 0, "the real one is open after three"
        shelf().change(breaker.name, lambda memory: replace(memory, until=time.time()))
        sent = router(exchange, breaker).round(held)
        first.refresh_from_db()
        assert first.state == "voided"
        return sent

    def test_the_naive_router_goes_on_sending_to_an_exchange_that_answers_nothing(
        self, held: locks.Held
    ) -> None:
        exchange = FakeExchange(behaviour=lambda *_: Unknown("no answer"))
        for number in range(3):
            approved(market=factories.quoted_market(ticker=f"SIMTEST-{number}"))
        router(exchange, NoBreaker()).round(held)
        assert len(exchange.sent) == 3


# -- the analyst


class Moody:
    name = "moody"

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), 0

    def study(self, brief: Any) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_model_that_fails_is_left_alone_and_a_refusal_is_an_answer() -> None:
    ear, inner = Ear(), Moody(Refusal("nothing to say"), TimeoutError())
    analyst = Guarded(inner, ear)
    assert analyst.name == "moody"
    assert analyst.study(None) == Refusal("nothing to say")  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        analyst.study(None)  # type: ignore[arg-type]
    assert ear.heard == ["good", "bad"]
    ear.is_open = True
    assert isinstance(analyst.study(None), Refusal)  # type: ignore[arg-type]
    assert inner.asked == 2, "an open breaker asks nobody"
