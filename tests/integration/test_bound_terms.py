"""Nobody is bound to terms that were not shown, and nothing else than what was approved leaves (RELIABILITY.md B3, C2).

`BOUND_CASES` sets how many random cases are tried of each kind (default 150).
"""

from __future__ import annotations

import json
import os
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from approvals import decisions
from approvals.domain.lifecycle import TermsChanged, WrongState, terms_hash
from approvals.models import Decision, Proposal
from kalshi_site import guards, locks
from kalshi_site.identity import new_id
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from tests import factories
from tests.callers import Caller, code_of
from tests.fakes import FakeExchange
from trading.domain.orders import OrderState
from trading.execution import last_look, router
from trading.execution.router import Router
from trading.models import Order

D = Decimal
CASES = int(os.environ.get("BOUND_CASES", "150"))

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]

TERMS = ("venue", "ticker", "action", "side", "quantity", "limit_price", "reduce_only")


def other_terms(proposal: Proposal, dice: random.Random) -> dict[str, Any]:
    """One term of `buy N yes at 50 cents` that is not what it was."""
    return dice.choice(
        [
            {"quantity": proposal.quantity + dice.randint(1, 10_000)},
            {"limit_price": D(dice.choice([n for n in range(1, 100) if n != 50])) / 100},
            {"action": "sell"},
            {"side": "no"},
            {"ticker": f"{proposal.ticker}-{dice.randint(1, 99)}"},
            {"reduce_only": True},
        ]
    )


@pytest.fixture
def held() -> Iterator[locks.Held]:
    with locks.lease("execution", ttl=timedelta(minutes=5)) as lease:
        yield lease


@contextmanager
def past_the_guards() -> Iterator[None]:
    """Writing as one who has the database's password could."""
    guards.remove(connection)
    yield
    guards.install(connection)


def mutate(proposal: Proposal, dice: random.Random, *, rehash: bool) -> None:
    """Change the terms of a row past the desk and its triggers; `rehash` forges the hash as well."""
    change = other_terms(proposal, dice)
    if rehash:
        forged = Proposal(**{name: getattr(proposal, name) for name in TERMS} | change)
        change["terms_hash"] = terms_hash(forged.terms, reduce_only=forged.reduce_only, venue=forged.venue)
    with past_the_guards():
        Proposal.objects.filter(pk=proposal.pk).update(**change)


def test_no_approval_binds_to_terms_that_were_changed_after_the_page_was_made() -> None:
    factories.funded()
    dice, actor, market = random.Random(1), factories.approver(), factories.quoted_market()
    for case in range(CASES):
        shown = factories.ProposalFactory(market=market, quantity=D(1 + case % 5))
        mutate(shown, dice, rehash=case % 2 == 0)
        with pytest.raises(TermsChanged):
            decisions.approve(
                proposal=shown, version=1, terms_hash=shown.terms_hash, actor=actor, method="page"
            )
    assert not Decision.objects.exists()
    assert set(Proposal.objects.values_list("state", flat=True)) == {"pending"}


def test_a_decision_by_version_alone_binds_to_unseen_terms() -> None:
    """The naive variant, which the case above catches: it takes the hash of the row as it is now."""
    factories.funded()
    shown = factories.ProposalFactory()
    with past_the_guards():
        Proposal.objects.filter(pk=shown.pk).update(
            quantity=D(11),
            terms_hash=terms_hash(
                Proposal(
                    ticker=shown.ticker, action="buy", side="yes", quantity=D(11), limit_price=D("0.5")
                ).terms,
                reduce_only=False,
                venue=shown.venue,
            ),
        )
    now = Proposal.objects.get()
    decisions.approve(
        proposal=shown, version=1, terms_hash=now.terms_hash, actor=factories.approver(), method="page"
    )
    assert Decision.objects.get().terms_hash != shown.terms_hash


def test_a_script_that_names_no_terms_approves_nothing_and_may_decline() -> None:
    """Naive: the hash of the row as it is now stands in, and an approval binds to terms that nobody saw."""
    factories.funded()
    shown, script = factories.ProposalFactory(), Caller.of("approver")
    mutate(shown, random.Random(4), rehash=True)
    refused = script.post(f"/proposals/{shown.public_id}/approve", {"note": "good price"}, If_Match='"v1"')
    assert (refused.status_code, code_of(refused)) == (422, "E010")
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/terms_hash"]
    assert not Decision.objects.exists()
    declined = script.post(f"/proposals/{shown.public_id}/decline", If_Match='"v1"')
    assert (declined.status_code, declined.json()["status"]) == (200, "declined")


@pytest.mark.parametrize("answer", ["approve", "decline"])
def test_every_door_refuses_a_hash_that_was_not_shown(answer: str) -> None:
    factories.funded()
    proposal, other = factories.ProposalFactory(), "0" * 64
    page = Client()
    approver = factories.approver()
    approver.is_staff = True
    approver.save()
    page.force_login(approver)
    address = f"/approvals/{proposal.public_id}/{answer}"
    said = page.post(address, {"version": 1, "terms_hash": other, "confirmed": "yes"})
    assert (said.status_code, b"E208" in said.content) == (412, True)
    assert page.post(address, {"version": 1, "confirmed": "yes"}).status_code == 422
    script = Caller.of("approver")
    refused = script.post(f"/proposals/{proposal.public_id}/{answer}", {"terms_hash": other}, If_Match='"v1"')
    assert (refused.status_code, code_of(refused)) == (412, "E208")
    chosen = {"action": f"{answer}_selected", "_selected_action": [proposal.pk], "confirmed": "yes"}
    seen = {f"version-{proposal.pk}": "1", f"terms-{proposal.pk}": other}
    assert b"E208" in page.post("/admin/approvals/proposal/", {**chosen, **seen}, follow=True).content
    assert Proposal.objects.get().state == "pending"
    right = script.post(
        f"/proposals/{proposal.public_id}/{answer}", {"terms_hash": proposal.terms_hash}, If_Match='"v1"'
    )
    assert right.status_code == 200


def test_nothing_is_claimed_that_was_changed_after_the_approval(held: locks.Held) -> None:
    factories.funded()
    dice, actor, exchange = random.Random(2), factories.approver(), FakeExchange()
    desk = Router(factories.VENUE, exchange, uuid.UUID(int=1))
    market = factories.quoted_market()
    risk.set_limit(name="data_age", value=D(3600), actor="test")  # one quote for all cases
    for case in range(min(CASES, 60)):
        proposal = factories.ProposalFactory(market=market, quantity=D(1))
        approved = decisions.approve(
            proposal=proposal, version=1, terms_hash=proposal.terms_hash, actor=actor, method="page"
        )
        mutate(approved, dice, rehash=case % 2 == 0)
        assert desk.round(held) == 0
    assert exchange.sent == []
    voided = Proposal.objects.filter(state="voided").count()
    assert voided == Proposal.objects.count()


# -- the last look before the socket ------------------------------------------------------------------


def reckless_claim(dice: random.Random, memory: list[Order]) -> Callable[..., Order | None]:
    """A claim without a single check: other quantities, other bytes, second rows, orders that were sent before."""

    def claim(proposal: Proposal, **_: Any) -> Order | None:
        if memory and dice.random() < 0.3:
            return dice.choice(memory)
        quantity = proposal.quantity * dice.choice([1, 1, 1, 10, 100])
        terms = proposal.terms
        body = {
            "ticker": proposal.ticker,
            "client_order_id": new_id("kp"),
            "side": dice.choice([terms.book_side.value] * 3 + ["bid", "ask"]),
            "count": f"{proposal.quantity * dice.choice([1, 1, 1, 2, 50]):.2f}",
            "price": f"{dice.choice([D('0.50')] * 3 + [D('0.51'), D('0.99')]):.4f}",
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "taker_at_cross",
        }
        data = json.dumps(body)
        if dice.random() < 0.9:
            Proposal.objects.filter(pk=proposal.pk, state="approved").update(state="claimed", version=3)
        order = Order(
            public_id=new_id("ord"),
            proposal=proposal,
            venue=proposal.venue,
            client_order_id=body["client_order_id"],
            state=dice.choice(["sending"] * 4 + ["unknown"]),
            ticker=proposal.ticker,
            event_ticker=proposal.event_ticker,
            action=proposal.action,
            side=proposal.side,
            quantity=quantity,
            limit_price=proposal.limit_price,
            time_in_force="good_till_canceled",
            body=data,
            body_hash=last_look.hash_of(data.encode()) if dice.random() < 0.9 else "0" * 64,
            attempts=dice.choice([1, 1, 1, 0]),
            signed_at=timezone.now(),
            answer_due_at=timezone.now() + timedelta(seconds=5),
        )
        with transaction.atomic():
            order.save(force_insert=True)
        memory.append(order)
        return order

    return claim


def over_sends(exchange: FakeExchange) -> list[str]:
    """Orders that left twice, and those with more than was approved or other terms."""
    left = Counter(body["client_order_id"] for body in exchange.sent)
    wrong = [key for key, times in left.items() if times > 1]
    for body in exchange.sent:
        proposal = Order.objects.get(client_order_id=body["client_order_id"]).proposal
        assert proposal is not None
        allowed = {"count": f"{proposal.quantity:.2f}", "price": "0.5000", "side": "bid"}
        if {key: body[key] for key in allowed} != allowed:
            wrong.append(body["client_order_id"])
    return wrong


def send_recklessly(held: locks.Held, monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    monkeypatch.setattr(router, "claim", reckless_claim(random.Random(3), []))
    exchange, market = FakeExchange(), factories.quoted_market()
    desk = Router(factories.VENUE, exchange, uuid.UUID(int=1))
    for _ in range(CASES):
        proposal = factories.ProposalFactory(market=market, state="approved", decided_at=timezone.now())
        for _ in range(2):
            try:
                desk.send(proposal, held)
            except Exception:
                assert Order.objects.filter(proposal=proposal).count() <= 1
    return exchange


def test_with_every_check_before_it_gone_the_last_look_lets_no_order_too_much_leave(
    held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = send_recklessly(held, monkeypatch)
    assert over_sends(exchange) == []
    assert exchange.sent, "the right ones still leave"


def test_without_the_last_look_the_same_run_sends_too_much(
    held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_look, "refusal", lambda _: None)
    assert over_sends(send_recklessly(held, monkeypatch)) != []


def test_an_order_that_was_handed_over_is_not_sent_again_and_stays_unknown(held: locks.Held) -> None:
    factories.funded()
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    exchange = FakeExchange()
    desk = Router(factories.VENUE, exchange, uuid.UUID(int=1))
    desk.round(held)
    order = Order.objects.get()
    again = last_look.refusal(order)
    assert again is not None
    assert "handed to the exchange before" in again.reason
    assert order.sent_at is not None and order.state == OrderState.RESTING
    with pytest.raises((StaleVersion, WrongState)):
        decisions.claim(proposal=proposal)
