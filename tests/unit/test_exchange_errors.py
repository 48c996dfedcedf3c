"""The four error shapes become one, and only codes that prove a refusal count as one (API.md 5)."""

from __future__ import annotations

import pytest

from trading.exchange.errors import (
    AccessDenied,
    ClockOff,
    ErrorAnswer,
    ExchangeRefusal,
    OverBudget,
    RateLimited,
    Retired,
    TimestampExpired,
    Unavailable,
    UnknownThere,
    Unreachable,
    Unsent,
    item_proves_refusal,
    proves_refusal,
    read_error,
    refusal,
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"error": {"code": "invalid_order", "message": "invalid order", "details": "post only cross"}}',
            ErrorAnswer(400, "invalid_order", "invalid order", "post only cross"),
        ),
        (
            b'{"code": "invalid_content_type", "message": "wrong type", "details": "text"}',
            ErrorAnswer(400, "invalid_content_type", "wrong type", "text"),
        ),
        (b'{"msg": "limit above maximum"}', ErrorAnswer(400, "", "limit above maximum")),
        (b'{"error": "too many requests"}', ErrorAnswer(400, "", "too many requests")),
    ],
)
def test_each_of_the_four_shapes_is_read(body: bytes, expected: ErrorAnswer) -> None:
    assert read_error(400, body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>bad gateway</html>",
        b"[1]",
        b'"text"',
        b"null",
        b'{"error": 7}',
        b'{"error": {"code": 5}}',
        b"\xff",
    ],
)
def test_a_body_of_another_shape_gives_no_code_and_proves_nothing(body: bytes) -> None:
    answer = read_error(400, body)
    assert answer.exchange_code == ""
    assert not proves_refusal(answer)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_price"),
        (400, "invalid_order"),
        (400, "invalid_order_size"),
        (400, "insufficient_balance"),
        (400, "available_balance_too_low"),
        (400, "market_inactive"),
        (400, "MARKET_INACTIVE"),
        (409, "trading_is_paused"),
        (400, "trading_is_paused"),
        (409, "fill_or_kill_insufficient_resting_volume"),
        (401, "header_timestamp_expired"),
        (401, "authentication_error"),
        (410, "deprecated_v1_order_endpoint"),
        (404, "market_not_found"),
        (400, "invalid_price_for_market_X"),
    ],
)
def test_a_code_on_the_list_with_its_status_proves_the_refusal(status: int, code: str) -> None:
    assert proves_refusal(ErrorAnswer(status, code))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "order_already_exists"),
        (429, ""),
        (429, "invalid_price"),
        (500, "invalid_price"),
        (503, "service_unavailable"),
        (400, ""),
        (400, "something_new"),
        (400, "not_found"),
        (200, "invalid_price"),
    ],
)
def test_everything_else_proves_nothing(status: int, code: str) -> None:
    assert not proves_refusal(ErrorAnswer(status, code))


@pytest.mark.parametrize(
    ("status", "kind", "our_code"),
    [
        (400, ExchangeRefusal, "E603"),
        (401, AccessDenied, "E604"),
        (403, AccessDenied, "E604"),
        (404, UnknownThere, "E608"),
        (409, ExchangeRefusal, "E603"),
        (429, RateLimited, "E602"),
        (500, Unavailable, "E601"),
        (503, Unavailable, "E601"),
    ],
)
def test_an_error_answer_becomes_the_exception_of_its_status(
    status: int, kind: type[ExchangeRefusal], our_code: str
) -> None:
    error = refusal(ErrorAnswer(status, "some_code", "some words"))
    assert type(error) is kind
    assert error.code == our_code
    assert "some_code" in str(error)
    assert "some words" in str(error)


def test_a_retired_endpoint_and_a_refused_time_are_errors_of_their_own() -> None:
    gone = refusal(ErrorAnswer(410, "deprecated_v1_order_endpoint"))
    assert (type(gone), gone.code) == (Retired, "E606")
    late = refusal(ErrorAnswer(401, "header_timestamp_expired"))
    assert isinstance(late, TimestampExpired)
    assert isinstance(late, AccessDenied)
    assert gone.answer.exchange_code == "deprecated_v1_order_endpoint"


@pytest.mark.parametrize(
    ("code", "proves"),
    [
        ("insufficient_balance", True),
        ("EXCEEDED_ORDER_GROUP_RISK_LIMIT", True),
        ("order_side_mismatch", True),
        ("invalid_order_size", True),
        ("order_already_exists", False),
        ("internal_server_error", False),
        ("service_unavailable", False),
        ("", False),
    ],
)
def test_an_item_of_a_batch_proves_by_its_code_alone(code: str, proves: bool) -> None:
    assert item_proves_refusal(ErrorAnswer(201, code)) is proves


@pytest.mark.parametrize(
    "code",
    [
        "order_id_and_client_order_id_mismatch",
        "EXCEEDED_PER_MARKET_RISK_LIMIT",
        "EXCEEDED_SELL_POSITION_FLOOR",
        "ORDER_GROUP_NOT_FOUND",
        "EXCHANGE_PAUSED",
        "SELF_CROSS_ATTEMPT",
    ],
)
def test_the_engines_reasons_prove_a_refusal_but_not_beside_a_failing_server(code: str) -> None:
    assert proves_refusal(ErrorAnswer(400, code))
    assert not proves_refusal(ErrorAnswer(500, code))
    assert not proves_refusal(ErrorAnswer(429, code))


def test_whatever_was_not_sent_is_one_kind_of_error() -> None:
    assert {kind.code for kind in (Unreachable, OverBudget, ClockOff)} == {"E601", "E602", "E611"}
    assert all(issubclass(kind, Unsent) for kind in (Unreachable, OverBudget, ClockOff))
