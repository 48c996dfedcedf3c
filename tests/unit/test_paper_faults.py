"""The plan of faults: which rows happen, in which order, again the same from the same seed; what bodies become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trading.paper.fault_bodies import edited
from trading.paper.faults import Asked, Fault, Faults, Plan, Sent, asked

CREATE = asked("POST", "/portfolio/events/orders", has_cursor=False)


def planned(*rows: Fault, seed: int = 0) -> Faults:
    faults = Faults()
    faults.plan(Plan(list(rows), seed))
    return faults


def drawn(faults: Faults, request: Asked = CREATE, count: int = 1) -> list[str | None]:
    found = [faults.on_request(request, "before") for _ in range(count)]
    return [None if fault is None else fault.kind for fault in found]


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("POST", "/portfolio/events/orders", "create"),
        ("DELETE", "/portfolio/events/orders", "cancel_all"),
        ("DELETE", "/portfolio/events/orders/o-1", "cancel"),
        ("POST", "/portfolio/events/orders/o-1/amend", "amend"),
        ("POST", "/portfolio/events/orders/o-1/decrease", "decrease"),
        ("POST", "/portfolio/events/orders/batched", "batch_create"),
        ("DELETE", "/portfolio/events/orders/batched", "batch_cancel"),
        ("PUT", "/portfolio/order_groups/g-1/trigger", "groups"),
        ("GET", "/portfolio/orders", "read"),
        ("POST", "/portfolio/subaccounts", "write"),
    ],
)
def test_every_operation_has_its_name(method: str, path: str, endpoint: str) -> None:
    assert asked(method, path, has_cursor=False).endpoint == endpoint


def test_the_oldest_row_that_fits_happens_and_then_the_next() -> None:
    faults = planned(
        Fault("rate_limited", endpoint="cancel"),
        Fault("drop_before", endpoint="create", times=2),
        Fault("error_before", endpoint="write"),
    )
    assert drawn(faults, count=4) == ["drop_before", "drop_before", "error_before", None]


def test_a_row_lets_some_pass_and_looks_at_path_and_page() -> None:
    later = asked("GET", "/portfolio/fills", has_cursor=True)
    first = asked("GET", "/portfolio/fills", has_cursor=False)
    other = asked("GET", "/markets", has_cursor=True)
    faults = planned(Fault("error_before", endpoint="read", path="/portfolio/*", page="later", skip=1))
    happened = [drawn(faults, request)[0] for request in (other, later, first, later, later)]
    assert happened == [None, None, None, "error_before", None]


def test_the_same_seed_gives_the_same_faults_and_another_seed_others() -> None:
    row = Fault("drop_before", probability=0.3, times=None)
    runs = [drawn(planned(row, seed=seed), count=200) for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]
    assert 30 <= runs[0].count("drop_before") <= 90


def test_frames_are_chosen_by_channel_type_and_market() -> None:
    faults = planned(
        Fault("drop_frame", channel="orderbook_delta", frame="orderbook_delta", market="A", times=None)
    )
    body = b'{"msg":{"market_ticker":"A"}}'
    assert faults.on_frame(Sent("orderbook_delta", "orderbook_delta", body)) is not None
    assert faults.on_frame(Sent("orderbook_delta", "orderbook_snapshot", body)) is None
    assert faults.on_frame(Sent("trade", "trade", body)) is None
    assert faults.on_frame(Sent("orderbook_delta", "orderbook_delta", body.replace(b'"A"', b'"AB"'))) is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault("drop_frame", endpoint="create"),
        Fault("drop_after", endpoint="stream"),
        Fault("missing_field", endpoint="create"),
    ],
)
def test_a_row_that_could_never_happen_is_refused(fault: Fault) -> None:
    with pytest.raises(ValueError, match=r"stream|field"):
        fault.require_sense()


ORDER = {"order": {"order_id": "o", "client_order_id": "c", "status": "resting", "count_fp": "1.00"}}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("no_id"), {"client_order_id": "c", "status": "resting", "count_fp": "1.00"}),
        (Fault("wrong_echo"), {**ORDER["order"], "client_order_id": "somebody-else"}),
        (Fault("wrong_count"), {**ORDER["order"], "count_fp": "999.00"}),
        (Fault("unknown_enum"), {**ORDER["order"], "status": "surprising"}),
        (
            Fault("missing_field", field="order.count_fp"),
            {k: v for k, v in ORDER["order"].items() if k != "count_fp"},
        ),
        (Fault("wrong_value", field="order.order_id", value=None), {**ORDER["order"], "order_id": None}),
        (Fault("extra_field", field="order.colour"), {**ORDER["order"], "colour": "new"}),
    ],
)
def test_an_answer_can_say_something_else(fault: Fault, expected: dict[str, Any]) -> None:
    assert json.loads(edited(fault, json.dumps(ORDER).encode())) == {"order": expected}


def test_a_star_reaches_every_element() -> None:
    body = json.dumps({"orders": [{"status": "a", "x": 1}, {"status": "b"}]}).encode()
    shown = json.loads(edited(Fault("wrong_value", field="orders.*.status", value="odd"), body))
    assert shown == {"orders": [{"status": "odd", "x": 1}, {"status": "odd"}]}
    assert json.loads(edited(Fault("missing_field", field="orders.*.status"), body)) == {
        "orders": [{"x": 1}, {}]
    }


def test_bodies_can_be_cut_replaced_and_emptied() -> None:
    body = b'{"a": 1}'
    assert edited(Fault("truncated_body"), body) == b'{"a"'
    assert edited(Fault("garbage_body"), body).startswith(b"<html>")
    assert edited(Fault("empty_body"), body) == b""
