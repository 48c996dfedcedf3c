"""An order write ends in one proven outcome and reaches the exchange at most once, whatever the network does."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.scripted_exchange import (
    Step,
    answers,
    cuts_the_answer,
    drips,
    hangs_up,
    is_silent,
    redirects,
    serving,
    speaks_nonsense,
)
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.auth import Signer
from trading.exchange.orders import ORDERS, Orders, create_body
from trading.exchange.outcomes import Accepted, AllCanceled, Canceled, NotOpen, NotSent, Refused, Unknown
from trading.exchange.transport import Timeouts, WriteLine

Opener = Callable[..., Orders]
KEY = Ed25519PrivateKey.generate()
SIGNER = Signer("key-1", KEY)
PATIENT = Timeouts(connect=10.0, read=20.0, total=20.0)  # an answer that comes is no matter of chance
QUICK = Timeouts(connect=1.0, read=0.4, total=0.6)  # for the silence that is the subject
BODY = create_body(
    ticker="SIMX-1",
    client_order_id="kp-1",
    book_side=BookSide.BID,
    quantity=Decimal(10),
    yes_price=Decimal("0.42"),
    time_in_force=TimeInForce.GTC,
)
CREATED: dict[str, Any] = {
    "order_id": "o-1",
    "client_order_id": "kp-1",
    "fill_count": "4.00",
    "remaining_count": "6.00",
    "average_fill_price": "0.4100",
    "average_fee_paid": "0.017000",
    "ts_ms": 1_786_085_188_416,
}


@pytest.fixture
def orders() -> Iterator[Opener]:
    """Opens the order endpoints at a URL; closes them at the end."""
    with ExitStack() as opened:

        def open_at(url: str, timeouts: Timeouts = PATIENT) -> Orders:
            made = Orders(*(WriteLine(url, SIGNER, timeouts=timeouts) for _ in range(2)))
            opened.callback(made.close)
            return made

        yield open_at


def error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": code.replace("_", " ")}}


def test_a_create_with_a_true_echo_is_accepted(orders: Opener) -> None:
    with serving(answers(CREATED, 201)) as exchange:
        outcome = orders(exchange.url).send_create(BODY, 1_786_085_188_000)
    assert isinstance(outcome, Accepted)
    assert (outcome.order_id, outcome.filled_quantity, outcome.remaining_quantity) == (
        "o-1",
        Decimal(4),
        Decimal(6),
    )
    assert outcome.average_fill_price == Decimal("0.41")


def test_the_stored_bytes_go_out_under_the_signed_timestamp_of_the_claim(orders: Opener) -> None:
    with serving(answers(CREATED, 201)) as exchange:
        orders(exchange.url).send_create(BODY, 1_786_085_188_000)
        [request] = exchange.requests
    assert (request.method, request.path, request.body) == ("POST", "/trade-api/v2" + ORDERS, BODY)
    assert request.headers["KALSHI-ACCESS-TIMESTAMP"] == "1786085188000"
    signature = base64.b64decode(request.headers["KALSHI-ACCESS-SIGNATURE"])
    KEY.public_key().verify(signature, b"1786085188000POST/trade-api/v2" + ORDERS.encode())


@pytest.mark.parametrize(
    ("status", "payload"),
    [
        (400, error("invalid_price")),
        (400, {"code": "invalid_order", "message": "flat"}),
        (400, error("insufficient_balance")),
        (409, error("fill_or_kill_insufficient_resting_volume")),
        (409, error("trading_is_paused")),
        (401, error("header_timestamp_expired")),
        (404, error("not_found")),
    ],
)
def test_a_proven_refusal_is_refused(orders: Opener, status: int, payload: dict[str, Any]) -> None:
    with serving(answers(payload, status)) as exchange:
        outcome = orders(exchange.url).send_create(BODY, 1)
        assert len(exchange.requests) == 1
    assert isinstance(outcome, Refused)
    assert outcome.status == status
    assert outcome.exchange_code


FAULTS: dict[str, Step] = {
    "order_already_exists": answers(error("order_already_exists"), 409),
    "rate limit": answers({"error": "too many requests"}, 429),
    "500": answers(error("internal"), 500),
    "503": answers(error("service_unavailable"), 503),
    "504 html": answers(b"<html>", 504),
    "400 without code": answers({"msg": "limit"}, 400),
    "unknown code": answers(error("never_seen"), 400),
    "dropped after the request": hangs_up,
    "silence": is_silent,
    "cut answer": cuts_the_answer,
    "dripping answer": drips,
    "no http": speaks_nonsense,
    "redirect": redirects,
    "2xx without id": answers({**CREATED, "order_id": ""}, 201),
    "2xx with id missing": answers({key: CREATED[key] for key in CREATED if key != "order_id"}, 201),
    "2xx with an error body": answers(error("invalid_price"), 200),
    "wrong echo": answers({**CREATED, "client_order_id": "kp-2"}, 201),
    "no echo": answers({key: CREATED[key] for key in CREATED if key != "client_order_id"}, 201),
    "too many contracts": answers({**CREATED, "remaining_count": "7.00"}, 201),
    "count as number": answers({**CREATED, "fill_count": 4}, 201),
    "negative count": answers({**CREATED, "fill_count": "-4.00"}, 201),
    "no json": answers(b"created", 201),
    "empty": answers(b"", 201),
    "not utf-8": answers(b'{"order_id": "\xff"}', 201),
    "204": answers(b"", 204),
}


def wait_until(holds: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("fault", FAULTS)
def test_under_every_fault_the_outcome_is_unknown_and_one_post_was_made(orders: Opener, fault: str) -> None:
    timeouts = QUICK if fault in {"silence", "dripping answer"} else PATIENT
    with serving(FAULTS[fault]) as exchange:
        outcome = orders(exchange.url, timeouts).send_create(BODY, 1)
        wait_until(lambda: bool(exchange.requests))
        time.sleep(0.05)
        assert [request.method for request in exchange.requests] == ["POST"]
    assert isinstance(outcome, Unknown), outcome


def test_a_refused_connection_is_not_sent(orders: Opener) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        outcome = orders(f"http://127.0.0.1:{port}/trade-api/v2").send_create(BODY, 1)
    assert isinstance(outcome, NotSent)


def test_a_host_without_address_is_not_sent(orders: Opener) -> None:
    outcome = orders("http://nowhere.invalid/trade-api/v2").send_create(BODY, 1)
    assert isinstance(outcome, NotSent)


def test_a_failed_tls_handshake_is_not_sent(orders: Opener) -> None:
    with serving(answers(CREATED, 201)) as exchange:
        outcome = orders(exchange.url.replace("http://", "https://"), QUICK).send_create(BODY, 1)
        assert exchange.requests == []
    assert isinstance(outcome, NotSent)


def test_a_sender_that_is_too_late_sends_nothing(orders: Opener) -> None:
    with serving(answers(CREATED, 201)) as exchange:
        outcome = orders(exchange.url).send_create(BODY, 1, send_before=time.monotonic() - 0.001)
        assert exchange.requests == []
    assert isinstance(outcome, NotSent)


def test_a_connection_is_kept_and_replaced_once_it_is_dropped(orders: Opener) -> None:
    hung_up = threading.Event()

    def answers_and_hangs_up(connection: Any, request: Any) -> None:
        answers(CREATED, 201)(connection, request)
        connection.hang_up()
        hung_up.set()

    with serving(answers(CREATED, 201), answers_and_hangs_up, answers(CREATED, 201)) as exchange:
        desk = orders(exchange.url)
        assert desk.warm()
        outcomes = [desk.send_create(BODY, 1), desk.send_create(BODY, 2)]
        before = 2  # one for creates, one for cancels, both warm
        wait_until(lambda: exchange.connections == before)
        assert hung_up.wait(30)
        outcomes.append(desk.send_create(BODY, 3))
        assert exchange.connections == before + 1
        assert len(exchange.requests) == 3
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)


def test_what_is_done_meanwhile_is_done_between_the_last_byte_and_the_answer(orders: Opener) -> None:
    """Naive: it is done before, and the exchange has nothing to answer yet."""
    done = threading.Event()

    def waits_for_it(connection: Any, request: Any) -> None:
        assert request.body == BODY
        step = answers(CREATED, 201) if done.wait(PATIENT.read / 2) else hangs_up
        step(connection, request)

    with serving(waits_for_it) as exchange:
        desk = orders(exchange.url)

        def meanwhile() -> None:
            wait_until(lambda: len(exchange.requests) == 1)
            done.set()

        assert isinstance(desk.send_create(BODY, 1, meanwhile=meanwhile), Accepted)


def test_after_a_fault_the_next_order_gets_its_own_answer() -> None:
    """Naive: the next order goes over the same connection, and the late answer is taken for its own."""
    asked, asked_again = threading.Event(), threading.Event()

    def late(connection: Any, request: Any) -> None:
        asked.set()
        asked_again.wait(30)
        answers({**CREATED, "order_id": "o-late"}, 201)(connection, request)

    with (
        serving(late, answers(CREATED, 201)) as exchange,
        closing(WriteLine(exchange.url, SIGNER, timeouts=QUICK)) as line,
    ):
        desk = Orders(line, line)
        assert isinstance(desk.send_create(BODY, 1), Unknown)
        assert asked.wait(30)
        line._timeouts = PATIENT
        outcome = desk.send_create(BODY, 2, meanwhile=asked_again.set)
    assert isinstance(outcome, Accepted)
    assert outcome.order_id == "o-1"


def test_a_cancel_names_its_market_and_reports_what_came_off(orders: Opener) -> None:
    told = {"order_id": "o/1", "client_order_id": "kp-1", "reduced_by": "6.00", "ts_ms": 1_786_085_188_416}
    with serving(answers(told)) as exchange:
        outcome = orders(exchange.url).cancel("o/1", market_ticker="SIM&X", signed_ts_ms=7)
        [request] = exchange.requests
    assert (request.method, request.path) == ("DELETE", f"/trade-api/v2{ORDERS}/o%2F1")
    assert request.query == "market_ticker=SIM%26X"
    signature = base64.b64decode(request.headers["KALSHI-ACCESS-SIGNATURE"])
    KEY.public_key().verify(signature, f"7DELETE/trade-api/v2{ORDERS}/o%2F1".encode())
    assert isinstance(outcome, Canceled)
    assert outcome.reduced_by == Decimal(6)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (answers(error("not_found"), 404), NotOpen),
        (answers(b"<html>", 404), Unknown),
        (answers(error("market_inactive"), 400), Refused),
        (answers(error("busy"), 503), Unknown),
        (answers({"order_id": "other", "reduced_by": "1.00", "ts_ms": 1}), Unknown),
        (answers({}), Unknown),
        (hangs_up, Unknown),
    ],
)
def test_a_cancel_that_did_not_work_says_what_is_known(orders: Opener, step: Step, kind: type) -> None:
    with serving(step) as exchange:
        outcome = orders(exchange.url).cancel("o-1", market_ticker="T")
        assert len(exchange.requests) == 1
    assert isinstance(outcome, kind)


@pytest.mark.parametrize(
    ("step", "kind"),
    [(answers(b"", 204), AllCanceled), (hangs_up, Unknown), (answers(error("x"), 500), Unknown)],
)
def test_cancel_all_is_one_delete(orders: Opener, step: Step, kind: type) -> None:
    with serving(step) as exchange:
        outcome = orders(exchange.url).cancel_all()
        assert [(request.method, request.path) for request in exchange.requests] == [
            ("DELETE", "/trade-api/v2" + ORDERS)
        ]
    assert isinstance(outcome, kind)


def test_a_cancel_does_not_wait_for_a_slow_create(orders: Opener) -> None:
    def slow(connection: Any, request: Any) -> None:
        if request.method == "POST":
            is_silent(connection, request)
        else:
            answers({"order_id": "o-1", "reduced_by": "1.00", "ts_ms": 1})(connection, request)

    with serving(slow) as exchange:
        desk = orders(exchange.url)
        create = threading.Thread(target=desk.send_create, args=(BODY, 1))
        create.start()
        wait_until(lambda: len(exchange.requests) == 1)
        assert isinstance(desk.cancel("o-1", market_ticker="T"), Canceled)
        assert create.is_alive(), "the cancel came after the create"
        exchange.released.set()
        create.join()
