"""Signatures go by the exchange's time: a refused time is signed anew, and an order is not signed in doubt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.scripted_exchange import Connection, Request, ScriptedExchange, Step, answers, serving
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.account import Account, open_account
from trading.exchange.auth import Signer
from trading.exchange.errors import TimestampExpired
from trading.exchange.link import Link
from trading.exchange.orders import Orders, create_body, open_orders
from trading.exchange.outcomes import Accepted, Canceled, NotSent

SIGNER = Signer("key-1", Ed25519PrivateKey.generate())
BALANCE = {"balance": 123, "balance_dollars": "1.2345", "portfolio_value": 0, "updated_ts": 1_786_085_188}
EXPIRED = {"error": {"code": "header_timestamp_expired", "message": "header timestamp expired"}}
CREATED = {
    "order_id": "o-1",
    "client_order_id": "kp-1",
    "fill_count": "0.00",
    "remaining_count": "1.00",
    "ts_ms": 0,
}
BODY = create_body(
    ticker="T",
    client_order_id="kp-1",
    book_side=BookSide.BID,
    quantity=Decimal(1),
    yes_price=Decimal("0.42"),
    time_in_force=TimeInForce.GTC,
)

EXIT = create_body(
    ticker="T",
    client_order_id="kp-1",
    book_side=BookSide.ASK,
    quantity=Decimal(1),
    yes_price=Decimal("0.42"),
    time_in_force=TimeInForce.IOC,
    reduce_only=True,
)


def ahead(step: Step, seconds: float) -> Step:
    """The same answer from a server whose clock is ahead."""

    def dated(connection: Connection, request: Request) -> None:
        def date(timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + seconds, usegmt=True)

        connection.date_time_string = date  # type: ignore[method-assign]
        step(connection, request)

    return dated


def by_timestamp(seconds: float, payload: dict[str, Any], status: int = 200) -> Step:
    """Refuse a time that is more than 10 s from the server's own, as the exchange does (API.md 3)."""

    def step(connection: Connection, request: Request) -> None:
        signed = int(request.headers["KALSHI-ACCESS-TIMESTAMP"]) / 1_000
        is_fresh = abs(signed - (time.time() + seconds)) <= 10
        ahead(answers(payload, status) if is_fresh else answers(EXPIRED, 401), seconds)(connection, request)

    return step


def account_at(exchange: ScriptedExchange, link: Link | None = None) -> Account:
    return open_account(exchange.url, SIGNER, link=link)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.mark.parametrize("seconds", [-3_600.0, 75.0, 3_600.0])
def test_a_read_whose_time_is_refused_is_signed_anew_by_the_exchange_s_clock(seconds: float) -> None:
    with serving(by_timestamp(seconds, BALANCE)) as exchange, closing(account_at(exchange)) as account:
        assert account.balance().cash == Decimal("1.2345")
        assert account.balance().cash == Decimal("1.2345")
        assert len(exchange.requests) == 3  # refused, signed anew; then right at once


def test_a_time_that_stays_refused_is_an_error_after_one_repeat() -> None:
    with serving(answers(EXPIRED, 401)) as exchange, closing(account_at(exchange)) as account:
        with pytest.raises(TimestampExpired) as error:
            account.balance()
        assert error.value.answer.exchange_code == "header_timestamp_expired"
        assert error.value.code == "E604"
        assert len(exchange.requests) == 2


@pytest.fixture
def skewed(link: Link) -> Iterator[tuple[ScriptedExchange, Orders]]:
    """Our clock is a minute behind, and one read has shown it."""

    def by_kind(connection: Connection, request: Request) -> None:
        told = {
            "GET": BALANCE,
            "POST": CREATED,
            "DELETE": {"order_id": "o-1", "reduced_by": "1.00", "ts_ms": 1},
        }
        by_timestamp(60, told[request.method])(connection, request)

    with (
        serving(by_kind) as exchange,
        closing(account_at(exchange, link)) as account,
        closing(open_orders(exchange.url, SIGNER, link=link)) as orders,
    ):
        account.balance()
        exchange.requests.clear()
        yield exchange, orders


def test_an_order_is_not_signed_while_our_clock_is_off(
    skewed: tuple[ScriptedExchange, Orders], link: Link
) -> None:
    exchange, orders = skewed
    outcome = orders.send_create(BODY, link.clock.now_ms())
    assert isinstance(outcome, NotSent)
    assert "E611" in outcome.reason
    assert exchange.requests == []


def test_an_exit_is_signed_by_the_exchange_s_time_all_the_same(
    skewed: tuple[ScriptedExchange, Orders], link: Link
) -> None:
    exchange, orders = skewed
    assert isinstance(orders.send_create(EXIT, link.clock.now_ms()), Accepted)
    assert len(exchange.requests) == 1


def test_a_way_out_is_signed_by_the_exchange_s_time_all_the_same(
    skewed: tuple[ScriptedExchange, Orders],
) -> None:
    exchange, orders = skewed
    assert isinstance(orders.cancel("o-1", market_ticker="T"), Canceled)
    assert len(exchange.requests) == 1


def test_two_seconds_of_skew_alarm_and_still_trade(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    def step(connection: Connection, request: Request) -> None:
        by_timestamp(2.9, BALANCE if request.method == "GET" else CREATED)(connection, request)

    with (
        serving(step) as exchange,
        closing(account_at(exchange, link)) as account,
        closing(open_orders(exchange.url, SIGNER, link=link)) as orders,
    ):
        for _ in range(5):
            account.balance()
        assert isinstance(orders.send_create(BODY, link.clock.now_ms()), Accepted)
    assert "exchange.clock.off" in caplog.text
