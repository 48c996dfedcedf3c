"""The judge of the published contract finds what is wrong: a check that cannot fail would prove nothing."""

from __future__ import annotations

import msgspec
import pytest

from tests.contract import contract_dir, frame_faults, operation, operation_named

CREATE = {
    "ticker": "A",
    "side": "bid",
    "count": "1",
    "price": "0.50",
    "time_in_force": "good_till_canceled",
    "self_trade_prevention_type": "maker",
}


@pytest.fixture(autouse=True)
def _published() -> None:
    contract_dir()


def body(**changes: object) -> bytes:
    return msgspec.json.encode({**CREATE, **changes})


def test_it_knows_literal_paths_before_paths_with_names() -> None:
    found = operation("GET", "/trade-api/v2/portfolio/orders/queue_positions")
    assert found is not None
    assert found.name == "GetOrderQueuePositions"
    assert operation("GET", "/trade-api/v2/no/such/path") is None


def test_it_passes_a_request_as_published() -> None:
    assert operation_named("CreateOrderV2").request_faults([], body()) == []
    assert operation_named("GetOrders").request_faults([("limit", "10"), ("status", "resting")], b"") == []


@pytest.mark.parametrize(
    "wrong", [body(count=1), body(side="yes"), body(time_in_force="gtc"), body(tick="0.01"), b"", b"{"]
)
def test_it_finds_what_is_wrong_in_a_body(wrong: bytes) -> None:
    assert operation_named("CreateOrderV2").request_faults([], wrong)


@pytest.mark.parametrize("wrong", [("limit", "many"), ("state", "resting")])
def test_it_finds_what_is_wrong_in_a_query(wrong: tuple[str, str]) -> None:
    assert operation_named("GetOrders").request_faults([wrong], b"")


def test_it_finds_what_is_wrong_in_an_answer() -> None:
    create = operation_named("CreateOrderV2")
    whole = b'{"order_id": "1", "fill_count": "0.00", "remaining_count": "1.00", "ts_ms": 1}'
    assert create.answer_faults(201, whole) == []
    assert create.answer_faults(201, b'{"order_id": "1"}')
    assert create.answer_faults(202, whole)
    assert create.answer_faults(400, b'{"error": {"code": "bad_request", "message": ""}}') == []
    assert create.answer_faults(400, b'{"oops": 1}')


def test_it_finds_what_is_wrong_in_a_frame() -> None:
    frame = {"type": "unsubscribed", "id": 5, "sid": 1, "seq": 2, "sending_ts_ms": 0}
    assert frame_faults(frame) == []
    assert frame_faults({**frame, "sid": "1"})
    assert frame_faults({"type": "ticker_v3", "msg": {}})
