"""Every field of every frame, removed, renamed, retyped, nulled: noticed, and never a number that nobody said.

Through the real session. Each frame here is one that the sentinel compares (of a hot stream that is a sample); the last
test says what is noticed at once even of a frame that it does not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract_examples import TICKER, frame_example
from tests.mutations import complaints, judge, mutations
from tests.scripted_exchange import Ledger
from trading.exchange.channels import Wanted
from trading.exchange.contract import contract, frame_shape
from trading.exchange.events import Gap
from trading.exchange.session import Session, StreamFault

# What an absent field means by the exchange's own word: before sharding one shard, the first; without a clock no merge.
DEFAULTS = {"exchange_index": 0, "clock": 0}
SID = 7
COMPARED, NOT_COMPARED = 16, 17  # a session lets the sentinel hear one change of a book in sixteen
CHANNELS: dict[str, str] = {
    "orderbook_snapshot": "orderbook_delta",
    "orderbook_delta": "orderbook_delta",
    "ticker": "ticker",
    "trade": "trade",
    "fill": "fill",
    "user_order": "user_orders",
    "market_position": "market_positions",
    "order_group_updates": "order_group_updates",
    "market_lifecycle_v2": "market_lifecycle_v2",
    "event_lifecycle": "market_lifecycle_v2",
    "event_fee_update": "market_lifecycle_v2",
    "multivariate_market_lifecycle": "multivariate_market_lifecycle",
    "cfbenchmarks_value": "cfbenchmarks_value",
    "cfbenchmarks_value_indexlist": "cfbenchmarks_value",
    "cfbenchmarks_value_5hz": "cfbenchmarks_value_5hz",
    "cfbenchmarks_value_5hz_indexlist": "cfbenchmarks_value_5hz",
    "pyth_value": "pyth_value",
    "pyth_value_underlying_list": "pyth_value",
    "subscribed": "trade",
    "unsubscribed": "trade",
    "ok": "trade",
    "error": "trade",
}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "trading.exchange")


def channel_of(type_: str) -> str:
    return CHANNELS.get(type_, "communications")


def playing(type_: str, seq: int) -> Callable[[Any], Any]:
    """A function that plays one frame to a fresh session whose subscription stands; returns the events that it made."""
    channel = channel_of(type_)
    keyed = channel in {"orderbook_delta", "ticker", "trade"}

    def play(told: Any) -> Any:
        got = Ledger()
        wanted: dict[Any, Any] = {channel: [TICKER] if keyed else None}
        session = Session(Wanted(wanted), got, clock_ms=lambda: 1_000_000)
        session.open()
        session.receive(json.dumps({"type": "subscribed", "id": 1, "msg": {"channel": channel, "sid": SID}}))
        if type_ == "orderbook_delta":
            body = {
                "market_ticker": TICKER,
                "market_id": "m",
                "clock": 4,
                "yes_dollars_fp": [["0.4200", "99.00"]],
            }
            session.receive(
                json.dumps({"type": "orderbook_snapshot", "sid": SID, "seq": seq - 1, "msg": body})
            )
        got.events.clear()
        try:
            session.receive(json.dumps(told))
        except StreamFault:
            return ()
        return tuple(event for event in got.events if not isinstance(event, Gap))

    return play


def wrongs(type_: str, *, seq: int) -> list[str]:
    play, message = playing(type_, seq), {**frame_example(type_), "seq": seq}
    if "seq" not in contract().shapes[frame_shape(type_)]:
        del message["seq"]
    before = judge(lambda: play(message))
    assert not before.noticed, before
    return [
        wrong
        for each in mutations(frame_shape(type_), message)
        for wrong in complaints(
            each,
            before,
            judge(lambda told=each.message: play(told)),  # type: ignore[misc]  # bound at once
            defaults=DEFAULTS,
        )
    ]


@pytest.mark.parametrize("type_", sorted(contract().frames))
def test_no_change_of_a_frame_passes_in_silence(type_: str) -> None:
    assert wrongs(type_, seq=COMPARED) == []


def test_what_a_book_is_made_of_is_watched_in_every_frame_and_the_rest_in_a_sample() -> None:
    found = wrongs("orderbook_delta", seq=NOT_COMPARED)
    assert [wrong for wrong in found if "made up" in wrong] == []
    silent = {wrong.split(":")[0] for wrong in found}
    unread = ("market_id", "clock", "client_order_id", "ts", "ts_ms", "subaccount")
    # Read from the last of many frames alone; where it says nothing, the books are proven no further than before.
    unread_names = (*(f" msg.{name}" for name in unread), " sending_ts_ms")
    assert {each for each in silent if not each.endswith(unread_names)} == {
        *("extra ", "extra msg"),
        "emptied msg.market_ticker",  # a market that nobody follows: the sample names it
    }
