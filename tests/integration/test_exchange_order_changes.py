"""Amends, decreases, batches and order groups end in one proven outcome each, of a batch every item by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.scripted_exchange import (
    ScriptedExchange,
    Step,
    answers,
    cuts_the_answer,
    hangs_up,
    is_silent,
    redirects,
    serving,
)
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.auth import Signer
from trading.exchange.orders import (
    ORDERS,
    CancelTarget,
    OrderGroups,
    Orders,
    amend_body,
    batch_body,
    create_body,
)
from trading.exchange.outcomes import (
    Accepted,
    Amended,
    Canceled,
    Decreased,
    Done,
    GroupCreated,
    NotOpen,
    NotSent,
    Refused,
    Unknown,
)
from trading.exchange.transport import Timeouts, WriteLine

Opener = Callable[..., Orders]
SIGNER = Signer("key-1", Ed25519PrivateKey.generate())
PATIENT = Timeouts(connect=10.0, read=20.0, total=20.0)  # an answer that comes is no matter of chance
QUICK = Timeouts(connect=1.0, read=0.4, total=0.6)  # for the silence that is the subject
PATH = "/trade-api/v2" + ORDERS
TS = 1_786_085_188_416
AT = datetime.fromtimestamp(TS / 1000, UTC)
NOWHERE = "http://127.0.0.1:1/trade-api/v2"
AMEND = amend_body(
    ticker="T",
    book_side=BookSide.BID,
    yes_price=Decimal("0.43"),
    quantity=Decimal(8),
    client_order_id="kp-1",
    updated_client_order_id="kp-2",
    exchange_index=2,
)


@pytest.fixture
def orders() -> Iterator[Opener]:
    with ExitStack() as opened:

        def open_at(url: str, timeouts: Timeouts = PATIENT) -> Orders:
            made = Orders(*(WriteLine(url, SIGNER, timeouts=timeouts) for _ in range(2)))
            opened.callback(made.close)
            return made

        yield open_at


@pytest.fixture
def groups() -> Iterator[Callable[[str], OrderGroups]]:
    with ExitStack() as opened:

        def open_at(url: str) -> OrderGroups:
            made = OrderGroups(WriteLine(url, SIGNER, timeouts=PATIENT))
            opened.callback(made.close)
            return made

        yield open_at


def asked(exchange: ScriptedExchange, times: int) -> bool:
    """Whether it was asked so often. What was sent may be read a little later than given up."""
    deadline = time.monotonic() + 30
    while len(exchange.requests) < times and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(exchange.requests) == times


def error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": code.replace("_", " ")}}


def body(name: str, quantity: str = "10") -> bytes:
    return create_body(
        ticker="T",
        client_order_id=name,
        book_side=BookSide.BID,
        quantity=Decimal(quantity),
        yes_price=Decimal("0.42"),
        time_in_force=TimeInForce.GTC,
        subaccount=3,
        order_group_id="g-1",
    )


# What proves nothing, whatever was asked for.
UNPROVEN: dict[str, Step] = {
    "rate limit": answers({"error": "too many requests"}, 429),
    "500": answers(error("internal"), 500),
    "503": answers(error("service_unavailable"), 503),
    "404 of something on the way": answers(b"<html>", 404),
    "unknown code": answers(error("never_seen"), 409),
    "an order of ours exists": answers(error("order_already_exists"), 409),
    "dropped": hangs_up,
    "silence": is_silent,
    "cut": cuts_the_answer,
    "redirect": redirects,
    "an empty object": answers({}),
    "no json": answers(b"done"),
}


# --- amend


def test_an_amend_sends_its_stored_bytes_and_tells_what_rests(orders: Opener) -> None:
    told = {
        "order_id": "o/1",
        "client_order_id": "kp-2",
        "remaining_count": "6.00",
        "fill_count": "2.00",
        "average_fill_price": "0.4300",
        "average_fee_paid": "0.0175",
        "ts_ms": TS,
    }
    with serving(answers(told)) as exchange:
        outcome = orders(exchange.url).send_amend("o/1", AMEND, 7, subaccount=4)
        [request] = exchange.requests
    assert (request.method, request.path, request.query) == (
        "POST",
        f"{PATH}/o%2F1/amend",
        "subaccount=4",
    )
    assert request.body == AMEND
    assert request.headers["KALSHI-ACCESS-TIMESTAMP"] == "7"
    assert outcome == Amended("o/1", "kp-2", Decimal(2), Decimal(6), Decimal("0.43"), Decimal("0.0175"), AT)


def test_an_amend_that_changed_no_count_leaves_the_counts_out(orders: Opener) -> None:
    told = {"order_id": "o-1", "client_order_id": "kp-2", "remaining_count": None, "ts_ms": TS}
    with serving(answers(told)) as exchange:
        outcome = orders(exchange.url).send_amend("o-1", AMEND, 1)
    assert isinstance(outcome, Amended)
    assert (outcome.filled_quantity, outcome.remaining_quantity) == (None, None)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (answers(error("not_found"), 404), NotOpen),
        (answers(error("order_id_and_client_order_id_mismatch"), 400), Refused),
        (answers(error("order_side_mismatch"), 400), Refused),
        (answers(error("order_ticker_mismatch"), 400), Refused),
        (answers(error("INVALID_AMEND_QTY_FOR_ORDER"), 400), Refused),
        (answers(error("CANNOT_UPDATE_FILLED_ORDER"), 409), Refused),
        (answers({"order_id": "o-2", "client_order_id": "kp-2", "ts_ms": TS}), Unknown),
        (answers({"order_id": "o-1", "client_order_id": "kp-1", "ts_ms": TS}), Unknown),
        (answers({"order_id": "o-1", "remaining_count": "9.00", "ts_ms": TS}), Unknown),
    ],
)
def test_an_amend_that_did_not_work_says_what_is_known(orders: Opener, step: Step, kind: type) -> None:
    with serving(step) as exchange:
        outcome = orders(exchange.url).send_amend("o-1", AMEND, 1)
        assert len(exchange.requests) == 1
    assert isinstance(outcome, kind), outcome


def test_an_amends_expiry_is_kept_set_or_cleared() -> None:
    def expiry(**more: Any) -> Any:
        made = amend_body(
            ticker="T", book_side=BookSide.ASK, yes_price=Decimal("0.4"), quantity=Decimal(1), **more
        )
        return json.loads(made).get("expiration_time", "kept")

    assert expiry() == "kept"
    assert expiry(clear_expiry=True) == 0
    assert expiry(expires_at=AT) == 1_786_085_188
    with pytest.raises(ValueError, match="either given or cleared"):
        expiry(clear_expiry=True, expires_at=AT)


# --- decrease


def test_a_decrease_routes_by_ticker_and_shard(orders: Opener) -> None:
    with serving(answers({"order_id": "o-1", "remaining_count": "2.50", "ts_ms": TS})) as exchange:
        outcome = orders(exchange.url).decrease(
            "o-1", market_ticker="T", reduce_to=Decimal("2.5"), exchange_index=1
        )
        [request] = exchange.requests
    assert request.path == f"{PATH}/o-1/decrease"
    assert json.loads(request.body) == {"reduce_to": "2.50", "market_ticker": "T", "exchange_index": 1}
    assert outcome == Decreased("o-1", Decimal("2.5"), AT)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (answers(error("not_found"), 404), NotOpen),
        (answers(error("bad_request"), 400), Refused),
        (answers({"order_id": "o-1", "remaining_count": "3.00", "ts_ms": TS}), Unknown),
        (answers({"order_id": "o-2", "remaining_count": "1.00", "ts_ms": TS}), Unknown),
        (answers({"order_id": "o-1", "remaining_count": 1, "ts_ms": TS}), Unknown),
    ],
)
def test_a_decrease_that_did_not_work_says_what_is_known(orders: Opener, step: Step, kind: type) -> None:
    with serving(step) as exchange:
        outcome = orders(exchange.url).decrease("o-1", market_ticker="T", reduce_to=Decimal(2))
        assert len(exchange.requests) == 1
    assert isinstance(outcome, kind), outcome


def test_a_decrease_to_nothing_is_allowed_and_needs_exactly_one_count(orders: Opener) -> None:
    desk = orders(NOWHERE)
    assert isinstance(desk.decrease("o-1", market_ticker="T", reduce_to=Decimal(0)), NotSent)
    wrong: list[dict[str, Any]] = [
        {},
        {"reduce_by": Decimal(1), "reduce_to": Decimal(1)},
        {"reduce_by": Decimal(0)},
    ]
    for counts in wrong:
        with pytest.raises(ValueError, match=r"exactly one|below"):
            desk.decrease("o-1", market_ticker="T", **counts)


# --- every single write under every fault


WRITES: dict[str, Callable[[Orders], Any]] = {
    "amend": lambda desk: desk.send_amend("o-1", AMEND, 1),
    "decrease": lambda desk: desk.decrease("o-1", market_ticker="T", reduce_by=Decimal(1)),
    "batch of creates": lambda desk: desk.send_batch([body("kp-1")], 1)[0],
    "batch of cancels": lambda desk: desk.cancel_batch([CancelTarget("o-1", "T")])[0],
}


@pytest.mark.parametrize("fault", UNPROVEN)
@pytest.mark.parametrize("write", WRITES)
def test_what_proves_nothing_is_unknown_and_was_sent_once(orders: Opener, write: str, fault: str) -> None:
    with serving(UNPROVEN[fault]) as exchange:
        outcome = WRITES[write](orders(exchange.url, QUICK if fault == "silence" else PATIENT))
        assert asked(exchange, 1)
    assert isinstance(outcome, Unknown), outcome


@pytest.mark.parametrize("write", WRITES)
def test_without_a_connection_nothing_was_sent(orders: Opener, write: str) -> None:
    assert isinstance(WRITES[write](orders(NOWHERE)), NotSent)


# --- batches


def created(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "order_id": f"o-{number}",
        "client_order_id": name,
        "fill_count": "0.00",
        "remaining_count": "10.00",
        "ts_ms": TS,
        **more,
    }


def test_each_order_of_a_batch_has_its_own_outcome(orders: Opener) -> None:
    told = [
        created("kp-1", 1),
        {"client_order_id": "kp-2", "error": {"code": "insufficient_balance", "message": "no"}},
        {"error": {"code": "never_seen"}},
        created("kp-4", 4, remaining_count="11.00"),
        created("kp-5", 5, fill_count=None),
    ]
    sent = [body(f"kp-{number}") for number in range(1, 6)]
    with serving(answers({"orders": told}, 201)) as exchange:
        outcomes = orders(exchange.url).send_batch(sent, 7)
        [request] = exchange.requests
    assert (request.method, request.path) == ("POST", f"{PATH}/batched")
    assert request.body == batch_body(sent)
    assert json.loads(request.body)["orders"] == [json.loads(each) for each in sent]
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Accepted, Refused, Unknown, Unknown, Unknown]


def test_an_order_that_the_answer_leaves_out_is_unknown(orders: Opener) -> None:
    sent = [body("kp-1"), body("kp-2"), body("kp-3")]
    told = [created("kp-3", 3), {"error": {"code": "insufficient_balance"}}]
    with serving(answers({"orders": told}, 201)) as exchange:
        outcomes = orders(exchange.url).send_batch(sent, 1)
    # Two answers for three orders: the nameless refusal may be of either of the other two.
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown, Accepted]


def test_answers_in_another_order_are_matched_by_our_id_and_never_by_place(orders: Opener) -> None:
    told = [created("kp-2", 2), {"error": {"code": "invalid_price"}}]
    with serving(answers({"orders": told}, 201)) as exchange:
        outcomes = orders(exchange.url).send_batch([body("kp-1"), body("kp-2")], 1)
    assert [type(outcome) for outcome in outcomes] == [Unknown, Accepted]


def test_one_order_twice_in_the_answer_proves_nothing(orders: Opener) -> None:
    told = [created("kp-1", 1), created("kp-1", 2)]
    with serving(answers({"orders": told}, 201)) as exchange:
        outcomes = orders(exchange.url).send_batch([body("kp-1"), body("kp-2")], 1)
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown]


def test_an_order_and_an_error_in_one_item_contradict_each_other(orders: Opener) -> None:
    told = [created("kp-1", 1, error={"code": "invalid_price"})]
    with serving(answers({"orders": told}, 201)) as exchange:
        [outcome] = orders(exchange.url).send_batch([body("kp-1")], 1)
    assert isinstance(outcome, Unknown)


def test_a_batch_that_was_refused_as_a_whole_is_refused_for_each(orders: Opener) -> None:
    with serving(answers(error("bad_request"), 400)) as exchange:
        outcomes = orders(exchange.url).send_batch([body("kp-1"), body("kp-2")], 1)
    assert [type(outcome) for outcome in outcomes] == [Refused, Refused]


def test_a_batch_needs_orders_with_ids_of_their_own() -> None:
    with pytest.raises(ValueError, match="at least one"):
        batch_body([])
    with pytest.raises(ValueError, match="same client order id"):
        batch_body([body("kp-1"), body("kp-1")])


def test_each_cancel_of_a_batch_has_its_own_outcome(orders: Opener) -> None:
    told = [
        {"order_id": "o-4", "reduced_by": "0.00", "error": {"code": "market_inactive"}},
        {"order_id": "o-2", "reduced_by": "0.00", "error": {"code": "not_found"}},
        {"order_id": "o-1", "reduced_by": "6.00", "ts_ms": TS},
        {"order_id": "o-5", "reduced_by": "-1.00"},
        {"order_id": "o-6", "reduced_by": "1.00"},
        {"order_id": "o-6", "reduced_by": "2.00"},
    ]
    targets = [CancelTarget(f"o-{number}", "T", exchange_index=0) for number in range(1, 7)]
    with serving(answers({"orders": told})) as exchange:
        outcomes = orders(exchange.url).cancel_batch(targets)
        [request] = exchange.requests
    assert (request.method, request.path) == ("DELETE", f"{PATH}/batched")
    assert json.loads(request.body)["orders"][0] == {
        "order_id": "o-1",
        "market_ticker": "T",
        "exchange_index": 0,
    }
    assert outcomes[0] == Canceled("o-1", Decimal(6), AT)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Canceled, NotOpen, Unknown, Refused, Unknown, Unknown]


def test_a_cancel_may_name_shard_and_subaccount(orders: Opener) -> None:
    with serving(answers({"order_id": "o-1", "reduced_by": "1.00", "ts_ms": TS})) as exchange:
        orders(exchange.url).cancel("o-1", market_ticker="T", exchange_index=0, subaccount=5)
        [request] = exchange.requests
    assert request.query == "market_ticker=T&exchange_index=0&subaccount=5"


# --- order groups


def test_a_group_is_created_on_its_shard(groups: Callable[[str], OrderGroups]) -> None:
    told = {"order_group_id": "g-1", "subaccount": 0, "exchange_index": 2}
    with serving(answers(told, 201)) as exchange:
        outcome = groups(exchange.url).create(contracts_in_15s=Decimal(500), exchange_index=2)
        [request] = exchange.requests
    assert (request.method, request.path) == ("POST", "/trade-api/v2/portfolio/order_groups/create")
    assert json.loads(request.body) == {"contracts_limit_fp": "500.00", "exchange_index": 2}
    assert outcome == GroupCreated("g-1", 0, 2)


@pytest.mark.parametrize(
    ("verb", "method", "path", "sent"),
    [
        ("trigger", "PUT", "/g-1/trigger", b"{}"),
        ("reset", "PUT", "/g-1/reset", b"{}"),
        ("delete", "DELETE", "/g-1", b""),
    ],
)
def test_a_group_is_triggered_reset_and_deleted(
    groups: Callable[[str], OrderGroups], verb: str, method: str, path: str, sent: bytes
) -> None:
    with serving(answers({})) as exchange:
        outcome = getattr(groups(exchange.url), verb)("g-1", exchange_index=1)
        [request] = exchange.requests
    assert (request.method, request.path) == (method, "/trade-api/v2/portfolio/order_groups" + path)
    assert (request.query, request.body) == ("exchange_index=1", sent)
    assert outcome == Done()


def test_a_groups_limit_is_a_count_from_one_to_a_million(groups: Callable[[str], OrderGroups]) -> None:
    with serving(answers({})) as exchange:
        assert groups(exchange.url).limit("g-1", contracts_in_15s=Decimal("1.5")) == Done()
        assert json.loads(exchange.requests[0].body) == {"contracts_limit_fp": "1.50"}
    for wrong in (Decimal("0.5"), Decimal(1_000_001), Decimal("1.001")):
        with pytest.raises(ValueError, match=r"outside|finer"):
            groups(NOWHERE).limit("g-1", contracts_in_15s=wrong)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (answers(error("not_found"), 404), Refused),
        (answers(error("ORDER_GROUP_NOT_FOUND"), 404), Refused),
        (answers(error("never_seen"), 400), Unknown),
        (answers(error("internal"), 200), Unknown),
        (hangs_up, Unknown),
    ],
)
def test_a_group_write_that_did_not_work_says_what_is_known(
    groups: Callable[[str], OrderGroups], step: Step, kind: type
) -> None:
    with serving(step) as exchange:
        outcome = groups(exchange.url).trigger("g-1")
        assert len(exchange.requests) == 1
    assert isinstance(outcome, kind)


@pytest.mark.parametrize(
    "told", [{"order_group_id": "", "subaccount": 0}, {"order_group_id": "g", "subaccount": 0}]
)
def test_a_group_on_another_shard_or_without_a_name_is_not_believed(
    groups: Callable[[str], OrderGroups], told: dict[str, Any]
) -> None:
    with serving(answers(told, 201)) as exchange:
        outcome = groups(exchange.url).create(contracts_in_15s=Decimal(5), exchange_index=1)
    assert isinstance(outcome, Unknown)
