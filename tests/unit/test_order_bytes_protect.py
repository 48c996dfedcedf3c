"""What every create says about its own end, in its bytes: pauses, our own orders, exits, expiries, the net."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.orders import amend_body, create_body

D = Decimal
UNTIL = datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC)


def sent(**changes: Any) -> dict[str, Any]:
    terms: dict[str, Any] = {
        "ticker": "M",
        "client_order_id": "kp-1",
        "book_side": BookSide.BID,
        "quantity": D(10),
        "yes_price": D("0.42"),
        "time_in_force": TimeInForce.GTC,
    }
    decoded: dict[str, Any] = json.loads(create_body(**terms | changes))
    return decoded


def test_a_pause_of_the_exchange_cancels_what_rests() -> None:
    """Naive: the exchange's own default is to leave it standing (API.md 11)."""
    assert sent()["cancel_order_on_pause"] is True


def test_an_order_stops_at_one_of_our_own() -> None:
    assert sent()["self_trade_prevention_type"] == "taker_at_cross"


def test_an_exit_only_reduces_and_never_rests() -> None:
    exit_ = sent(reduce_only=True, time_in_force=TimeInForce.IOC)
    assert (exit_["reduce_only"], exit_["time_in_force"]) == (True, "immediate_or_cancel")
    assert "expiration_time" not in exit_
    with pytest.raises(ValueError, match="immediate_or_cancel"):
        sent(reduce_only=True)


def test_what_rests_says_when_it_ends_and_in_which_net_it_is() -> None:
    resting = sent(expires_at=UNTIL, order_group_id="group-1")
    assert (resting["expiration_time"], resting["order_group_id"]) == (int(UNTIL.timestamp()), "group-1")


def test_an_amend_of_the_expiry_cannot_drop_a_protection() -> None:
    """The exchange's amend has no field for them, so there is none in our bytes."""
    body = amend_body(
        ticker="M", book_side=BookSide.BID, yes_price=D("0.42"), quantity=D(10), expires_at=UNTIL
    )
    assert not {"cancel_order_on_pause", "self_trade_prevention_type", "order_group_id"} & set(
        json.loads(body)
    )
