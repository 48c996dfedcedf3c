"""The drift sentinel: what it notes, what it lets pass, what it shows of private data, and that it stays small."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trading.exchange import drift
from trading.exchange.conformity import DriftKind, conforms, departures
from trading.exchange.contract import MONEY_FIELDS, contract, is_known_code
from trading.exchange.drift import Ear, Sentinel, listening
from trading.exchange.findings import LONGEST_SAMPLE, Drift

BALANCE = {"balance": 123, "balance_dollars": "1.2345", "portfolio_value": 0, "updated_ts": 1_786_085_188}
TRADE = {
    "trade_id": "t-1",
    "ticker": "SIM",
    "count_fp": "1.50",
    "yes_price_dollars": "0.4000",
    "no_price_dollars": "0.6000",
    "taker_outcome_side": "no",
    "taker_book_side": "ask",
    "created_time": "2026-08-05T03:45:00Z",
    "is_block_trade": False,
}
DELTA = {
    "type": "orderbook_delta",
    "sid": 1,
    "seq": 2,
    "msg": {
        "market_ticker": "SIM",
        "market_id": "m",
        "clock": 7,
        "price_dollars": "0.4000",
        "delta_fp": "-1.00",
        "side": "yes",
    },
}


@pytest.fixture
def heard() -> Iterator[Sentinel]:
    with listening() as sentinel:
        yield sentinel


def drifts(sentinel: Sentinel) -> list[Drift]:
    return [each.drift for each in sentinel.take().sightings]


def answered(
    sentinel: Sentinel, resource: str, payload: object, status: int = 200, method: str = "GET"
) -> Drift:
    """The one drift that this answer is."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    sentinel.answer(method, resource, status, body)
    [found] = drifts(sentinel)
    return found


def trades(**changes: Any) -> dict[str, Any]:
    return {"trades": [{**TRADE, **changes}], "cursor": ""}


def test_an_answer_as_agreed_is_counted_and_nothing_is_noted(heard: Sentinel) -> None:
    heard.answer("GET", "/portfolio/balance", 200, json.dumps(BALANCE).encode())
    taken = heard.take()
    assert (taken.sightings, taken.answers) == ((), 1)
    assert taken.last_ms is not None


@pytest.mark.parametrize(
    ("payload", "kind", "field", "found", "is_money"),
    [
        (trades(yes_price_dollars=0.4), DriftKind.WRONG_TYPE, "trades[].yes_price_dollars", "number", True),
        (trades(yes_price_dollars="40"), DriftKind.WRONG_TYPE, "trades[].yes_price_dollars", "text", True),
        (trades(count_fp=""), DriftKind.WRONG_TYPE, "trades[].count_fp", "empty text", True),
        (trades(count_fp=None), DriftKind.WRONG_TYPE, "trades[].count_fp", "null", True),
        (trades(taker_book_side="both"), DriftKind.UNKNOWN_WORD, "trades[].taker_book_side", "both", True),
        (trades(is_block_trade="no"), DriftKind.WRONG_TYPE, "trades[].is_block_trade", "text", False),
        (trades(venue="x"), DriftKind.UNKNOWN_FIELD, "trades[].venue", "text", False),
        ({"trades": [TRADE], "next": "c"}, DriftKind.UNKNOWN_FIELD, "next", "text", True),
        ([], DriftKind.WRONG_TYPE, "", "list", True),
        (b"<html>", DriftKind.UNREADABLE, "", "no JSON", True),
    ],
)
def test_it_names_the_place_and_whether_money_depends_on_it(
    heard: Sentinel, payload: object, kind: DriftKind, field: str, found: str, is_money: bool
) -> None:
    noted = answered(heard, "/markets/trades", payload)
    assert (noted.kind, noted.field, noted.found) == (kind, field, found)
    assert noted.where == "GET /markets/trades"
    assert noted.is_money is is_money


def test_a_missing_field_is_named_and_a_renamed_one_is_two_drifts(heard: Sentinel) -> None:
    told = {("yes_price_usd" if name == "yes_price_dollars" else name): each for name, each in TRADE.items()}
    heard.answer("GET", "/markets/trades", 200, json.dumps({"trades": [told]}).encode())
    assert {(each.kind, each.field, each.is_money) for each in drifts(heard)} == {
        (DriftKind.MISSING_FIELD, "trades[].yes_price_dollars", True),
        (DriftKind.UNKNOWN_FIELD, "trades[].yes_price_usd", False),
    }


def test_the_path_of_a_market_is_not_part_of_the_name(heard: Sentinel) -> None:
    noted = answered(heard, "/markets/SIM-1/orderbook", {"orderbook_fp": {"yes_dollars": []}})
    assert (noted.where, noted.field) == ("GET /markets/{ticker}/orderbook", "orderbook_fp.no_dollars")


@pytest.mark.parametrize(
    ("method", "resource", "status", "payload", "kind", "is_money"),
    [
        (
            "POST",
            "/portfolio/events/orders",
            410,
            {"error": {"code": "deprecated_v1_order_endpoint"}},
            "retired_endpoint",
            True,
        ),
        ("GET", "/portfolio/fills", 404, {"error": {"code": "not_found"}}, "retired_endpoint", True),
        ("GET", "/portfolio/orders/o-1", 404, b"404: Not Found", "retired_endpoint", True),
        ("GET", "/account/limits", 410, {"error": {"code": "gone"}}, "retired_endpoint", False),
        ("POST", "/portfolio/events/orders", 400, {"error": {"code": "too_sunny"}}, "unknown_code", False),
        ("GET", "/markets", 400, b"<html>", "unreadable", False),
        ("GET", "/markets", 204, b"", "unreadable", True),
        ("GET", "/markets", 307, b"", "unexpected_status", True),
    ],
)
def test_it_notes_what_an_error_answer_tells_of_a_change(
    heard: Sentinel, method: str, resource: str, status: int, payload: object, kind: str, is_money: bool
) -> None:
    noted = answered(heard, resource, payload, status, method)
    assert (noted.kind, noted.is_money) == (kind, is_money)


@pytest.mark.parametrize(
    ("method", "resource", "status", "payload"),
    [
        ("GET", "/markets/NONE", 404, {"error": {"code": "not_found", "message": "market not found"}}),
        ("POST", "/portfolio/events/orders", 404, {"error": {"code": "not_found"}}),
        ("GET", "/markets", 400, {"msg": "limit too large"}),
        ("GET", "/markets", 429, {"error": "too many requests"}),
        ("GET", "/markets", 400, {"code": "invalid_content_type", "message": "m"}),
        ("GET", "/markets", 502, b"<html>bad gateway"),
        ("GET", "/exchange/status", 503, {"exchange_active": False, "trading_active": False}),
        ("DELETE", "/portfolio/events/orders", 204, b""),
        ("GET", "/somewhere/else", 200, {"never": "agreed"}),
    ],
)
def test_it_lets_pass_what_is_agreed_of_errors(
    heard: Sentinel, method: str, resource: str, status: int, payload: object
) -> None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    heard.answer(method, resource, status, body)
    assert drifts(heard) == []


@pytest.mark.parametrize(
    ("frame", "kind", "found"),
    [
        ({"type": "orderbook_delta_v3", "sid": 1}, DriftKind.UNKNOWN_FRAME, "orderbook_delta_v3"),
        ({"type": "error", "msg": {"code": 99, "msg": "new"}}, DriftKind.UNKNOWN_STREAM_ERROR, "99"),
        ({**DELTA, "msg": {**DELTA["msg"], "side": "maybe"}}, DriftKind.UNKNOWN_WORD, "maybe"),  # type: ignore[dict-item]
        ("not a frame", DriftKind.UNREADABLE, "not a frame"),
    ],
)
def test_it_notes_what_a_frame_tells_of_a_change(
    heard: Sentinel, frame: object, kind: DriftKind, found: str
) -> None:
    assert heard.frame(json.dumps(frame)) is False
    [noted] = drifts(heard)
    assert (noted.kind, noted.found) == (kind, found)


def test_a_drift_is_logged_once_and_counted_each_time(
    heard: Sentinel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "trading.exchange.drift"):
        for _ in range(3):
            heard.answer("GET", "/markets/trades", 200, json.dumps(trades(venue="x")).encode())
    [seen] = heard.take().sightings
    assert (seen.count, len(caplog.records)) == (3, 1)
    heard.answer("GET", "/markets/trades", 200, json.dumps(trades(venue="x")).encode())
    assert len(caplog.records) == 1
    assert heard.take().sightings[0].count == 1


def test_of_private_data_only_the_form_is_shown(heard: Sentinel) -> None:
    told = {**BALANCE, "balance_dollars": "12,345.67 USD", "owner": "Jane Doe 4711"}
    heard.answer("GET", "/portfolio/balance", 200, json.dumps(told).encode())
    shown = {each.field: each.sample for each in drifts(heard)}
    assert shown == {"balance_dollars": "99,999.99 aaa", "owner": "aaaa aaa 9999"}


def test_a_sample_is_short_and_printable(heard: Sentinel) -> None:
    noted = answered(heard, "/markets/trades", trades(extra="\x1b[2J" + "y" * 500))
    assert len(noted.sample) <= LONGEST_SAMPLE + 1
    assert noted.sample.isprintable()
    noted = answered(heard, "/markets/trades", trades(**{"\x00" + "n" * 500: 1}))
    assert noted.field.isprintable()
    assert len(noted.field) < 80


def test_a_flood_of_new_names_stays_bounded_and_never_hides_money(heard: Sentinel) -> None:
    for number in range(drift.MOST_KINDS + 50):
        heard.note(Drift(DriftKind.UNKNOWN_FIELD, "GET /markets", f"field_{number}"))
    heard.note(Drift(DriftKind.MISSING_FIELD, "GET /markets", "markets[].yes_bid_dollars", is_money=True))
    taken = heard.take()
    assert len(taken.sightings) == drift.MOST_KINDS
    assert taken.beyond == 51
    assert any(each.drift.is_money for each in taken.sightings)


def test_what_could_not_be_written_down_is_taken_again() -> None:
    sentinel = Sentinel(clock_ms=iter(range(1_000, 9_000)).__next__)
    noted = Drift(DriftKind.MISSING_FIELD, "GET /markets", "cursor")
    sentinel.note(noted)
    first = sentinel.take()
    sentinel.note(noted)
    sentinel.put_back(first)
    [seen] = sentinel.take().sightings
    assert (seen.count, seen.first_ms, seen.last_ms) == (2, 1_000, 1_001)


def test_of_a_hot_stream_the_first_frame_and_a_sample_are_compared(heard: Sentinel) -> None:
    ear, text = Ear(), json.dumps(DELTA)
    for _ in range(257):
        ear.heard(int, text)
    assert heard.take().frames == 17
    rare = json.dumps({"type": "subscribed", "msg": {"channel": "trade", "sid": 1}})
    for _ in range(3):
        ear.heard(str, rare)
    assert heard.take().frames == 3


def test_frames_that_cannot_be_read_are_all_noted_at_first_and_sampled_in_a_flood(heard: Sentinel) -> None:
    ear, broken = Ear(), json.dumps({**DELTA, "msg": {}})
    for _ in range(10_000):
        ear.failed(broken, ValueError("no"))
    taken = heard.take()
    assert any(each.drift.field == "msg.price_dollars" and each.drift.is_money for each in taken.sightings)
    assert taken.frames < 400


def test_a_frame_of_the_right_form_that_cannot_be_true_is_noted(heard: Sentinel) -> None:
    Ear().failed(json.dumps(DELTA), ValueError("a change of 1000000 contracts"))
    [noted] = drifts(heard)
    assert (noted.kind, noted.where, noted.is_money) == (DriftKind.UNREADABLE, "stream orderbook_delta", True)


def test_a_strict_decode_and_the_walk_agree_on_every_shape() -> None:
    for name, shape in contract().shapes.items():
        needed = [field for field in shape.values() if not field.may_lack]
        found = departures(name, b"{}")
        assert conforms(name, b"{}") is (not needed) is (not found)
        assert {each.field for each in found} == {field.name for field in needed}


def test_every_money_field_stands_in_the_contract() -> None:
    agreed = {name for shape in contract().shapes.values() for name in shape}
    assert agreed >= MONEY_FIELDS, sorted(MONEY_FIELDS - agreed)


def test_every_code_that_the_paper_exchange_says_is_in_the_table() -> None:
    said = {
        call.args[1].value
        for path in (Path(__file__).resolve().parents[2] / "trading" / "paper").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"nested", "flat"}
        and len(call.args) > 1
        and isinstance(call.args[1], ast.Constant)
    }
    assert len(said) > 15
    assert {code for code in said if not is_known_code(str(code))} == set()
