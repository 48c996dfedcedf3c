"""Every field of every answer, removed, renamed, retyped, nulled: noticed, and never a number that nobody said.

Through the real client over a real socket. `tests.mutations` says what counts as noticed; the naive client at the end
shows that the harness can fail.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stamina

from tests.client_calls import COMPLETE, NOT_CALLS, OPENERS, READS, WRITES, Call
from tests.contract_examples import TICKER, example
from tests.mutations import Judged, complaints, encoded, judge, mutations
from tests.scripted_exchange import Connection, Request, ScriptedExchange, answers, serving
from trading.exchange.contract import contract
from trading.exchange.drift import listening
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.outcomes import Unknown

pytestmark = pytest.mark.slow

# What an absent optional field means by the exchange's own word, and so is not made up: before sharding there was one
# shard, the first (API.md 1, 2026-08-06).
DEFAULTS = {"exchange_index": 0}
CREATED = frozenset({"create", "generate", "create_subaccount", "send_create", "send_batch"})


@dataclass
class Venue:
    """The scripted exchange. `told` is its answer to the operation under test; to all others it answers examples."""

    server: ScriptedExchange | None = None
    told: dict[str, bytes] = field(default_factory=dict)
    status: int = 200

    def step(self, connection: Connection, request: Request) -> None:
        operation = contract().operation(request.method, request.path.removeprefix("/trade-api/v2"))
        assert operation is not None, f"{request.method} {request.path} is not in the contract"
        body = self.told.get(operation.name)
        if body is None:
            body = encoded(example(operation.answer)) if operation.answer else b""
        answers(body, self.status)(connection, request)

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    made = Venue()
    with serving(made.step) as server:
        made.server = server
        yield made


@pytest.fixture(scope="module")
def clients(venue: Venue) -> Iterator[dict[type, Any]]:
    opened = {kind: open_it(venue.url) for kind, open_it in OPENERS.items()}
    yield opened
    for client in opened.values():
        client.close()


@pytest.fixture(autouse=True)
def _without_repeats(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """One try each, and no thousand lines of log."""
    caplog.set_level(logging.CRITICAL, "trading.exchange")
    with stamina.set_testing(True, attempts=1):
        yield


def wrongs(venue: Venue, call: Call, message: dict[str, Any], read: Callable[[], Any]) -> list[str]:
    """Everything that is wrong with how this client reads mutations of this message."""
    shape = call.agreed.answer

    def told(payload: Any) -> Judged:
        venue.told, venue.status = {call.operation: encoded(payload)}, 201 if call.method in CREATED else 200
        return judge(read)

    before = told(message)
    assert before.ended == "", f"the unchanged message is refused: {before}"
    found = []
    for each in mutations(shape, message):
        after = told(each.message)
        after.noticed -= before.noticed
        found += complaints(each, before, after, defaults=DEFAULTS)
    return found


@pytest.mark.parametrize("call", READS, ids=str)
def test_no_change_of_an_answer_passes_in_silence(venue: Venue, clients: dict[type, Any], call: Call) -> None:
    assert wrongs(venue, call, call.example(), lambda: call.make(clients)) == []


@pytest.mark.parametrize("kind", COMPLETE, ids=lambda kind: kind.__name__)
def test_every_method_of_the_client_is_tried(kind: type) -> None:
    methods = {name for name in vars(kind) if not name.startswith("_")} - NOT_CALLS
    assert methods == {call.method for call in (*READS, *WRITES) if call.client is kind}


# --- what was captured


def captured() -> dict[str, dict[str, Any]]:
    """Operation -> an answer that the exchange really gave, cut to the first entry of its list."""
    if not (where := os.environ.get("KALSHI_CAPTURES")):
        pytest.skip("KALSHI_CAPTURES is not set: no real data here")

    def load(name: str) -> Any:
        return json.loads((Path(where) / name).read_text(encoding="utf-8"))

    event = load("events_sports_nested.json")[0]
    single, candles = load("market_single.json"), load("candlesticks_mlb.json")["markets"]
    fills, settlements = (
        load("portfolio_fills.json")["payload"],
        load("portfolio_settlements.json")["payload"],
    )
    traded = [each for told in candles.values() for each in told["candlesticks"]]
    return {
        "MarketData.events": {"events": [{**event, "markets": event["markets"][:1]}], "cursor": ""},
        "MarketData.markets": {"markets": load("markets_settled.json")["markets"][:1], "cursor": ""},
        "MarketData.market": single["single"],
        "MarketData.order_book": single["orderbook"],
        "MarketData.order_books": {"orderbooks": load("combo_orderbooks.json")[:1]},
        "MarketData.series": next(iter(load("series_fee_fields.json")["payloads"].values())),
        "MarketData.candles": {"ticker": TICKER, "candlesticks": traded[:1]},
        "Account.fills": {"fills": fills["fills"][:1], "cursor": ""},
        "Account.settlements": {"settlements": settlements["settlements"][:1], "cursor": ""},
    }


def test_no_change_of_what_was_captured_passes_in_silence(venue: Venue, clients: dict[type, Any]) -> None:
    calls = {str(call): call for call in READS}
    for name, message in captured().items():
        call = calls[name]
        assert wrongs(venue, call, message, lambda call=call: call.make(clients)) == [], name  # type: ignore[misc]  # bound at once


# --- writes

WITH_BODY = [call for call in WRITES if call.agreed.answer and contract().shapes[call.agreed.answer]]


def is_unknown(outcome: Any) -> bool:
    return any(isinstance(each, Unknown) for each in (outcome if isinstance(outcome, tuple) else (outcome,)))


@pytest.mark.parametrize("call", WITH_BODY, ids=str)
def test_a_success_that_is_not_as_agreed_is_unknown_and_never_a_success(
    venue: Venue, clients: dict[type, Any], call: Call
) -> None:
    message = call.example()
    assert wrongs(venue, call, message, lambda: call.make(clients)) == []
    for each in mutations(call.agreed.answer, message):
        venue.told = {call.operation: encoded(each.message)}
        with listening() as sentinel:
            outcome = call.make(clients)
        noted = [sighting.drift for sighting in sentinel.take().sightings]
        in_money = any(drift.is_money for drift in noted)
        assert is_unknown(outcome) or not in_money, f"{each}: {outcome}"


@pytest.mark.parametrize("call", WITH_BODY, ids=str)
@pytest.mark.parametrize(
    "body", [b" ", b"{}", b"[]", b"null", b"<html>", b'{"order": {"order_id": "id-4711"}}']
)
def test_a_success_of_another_form_is_unknown(
    venue: Venue, clients: dict[type, Any], call: Call, body: bytes
) -> None:
    venue.told, venue.status = {call.operation: body}, 201 if call.method in CREATED else 200
    with listening() as sentinel:
        assert is_unknown(call.make(clients))
    assert sentinel.take().sightings


# --- the harness has teeth


def naive_market(url: str) -> dict[str, Any]:
    """What most clients do: read what is there, take zero for what is not, and believe every type."""
    with urllib.request.urlopen(f"{url}/markets/{TICKER}") as answer:
        told = json.load(answer).get("market", {})
    return {
        "bid": Decimal(str(told.get("yes_bid_dollars", 0) or 0)),
        "volume": Decimal(str(told.get("volume_fp", 0) or 0)),
        "status": told.get("status", "active"),
    }


def test_a_naive_client_is_caught_with_silence_and_with_numbers_of_its_own(venue: Venue) -> None:
    [call] = [each for each in READS if str(each) == "MarketData.market"]

    def read() -> Any:
        try:
            return naive_market(venue.url)
        except Exception as error:  # it breaks somewhere: that is at least not silence
            raise UnreadableAnswer(str(error)) from error

    found = wrongs(venue, call, call.example(), read)
    assert "removed market.yes_bid_dollars: nobody noticed" in found
    assert "removed market.yes_bid_dollars: .bid = Decimal('0') was made up" in found
    assert "to number market.yes_bid_dollars: nobody noticed" in found
    assert "to cents market.yes_bid_dollars: .bid = Decimal('41') was made up" in found
    assert "new word market.status: nobody noticed" in found
