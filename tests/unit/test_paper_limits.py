"""The rate limits: what a request is billed to, and that a batch fits whole or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from trading.paper.limits import LEVELS, ROUTED_BY_TICKER, TIERS, Limits, at_least, route_of
from trading.paper.refusals import Refused


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(tier: str = "basic", shards: int = 1) -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(TIERS[tier], clock, shards=shards), clock


def spent(book: Limits, route: int | None = 0, cost: int = 10) -> int:
    """How many writes pass before one is refused."""
    for number in range(10_000):
        try:
            book.write("me", cost, route)
        except Refused:
            return number
    raise AssertionError("nothing was refused")


def test_basic_sustains_ten_creates_or_fifty_cancels_a_second() -> None:
    book, clock = limits()
    assert spent(book) == 10
    clock.now += 1
    assert spent(book, cost=2) == 50


def test_an_idle_bucket_fills_up_to_its_burst_and_no_further() -> None:
    book, clock = limits("advanced")
    clock.now += 3600
    assert spent(book) == 90


def test_a_batch_fits_whole_or_nothing_of_it_is_spent() -> None:
    book, _ = limits()
    with pytest.raises(Refused) as refused:
        book.write("me", 11 * 10)
    assert (refused.value.status, refused.value.body) == (429, {"error": "too many requests"})
    assert spent(book) == 10


def test_each_shard_has_the_full_budget() -> None:
    book, _ = limits(shards=3)
    assert [spent(book, route) for route in (0, 1, 2)] == [10, 10, 10]


def test_a_write_routed_by_its_ticker_is_billed_to_every_shard() -> None:
    book, _ = limits(shards=2)
    assert spent(book, 1) == 10
    assert spent(book, ROUTED_BY_TICKER) == 0, "the naive bill, to shard 0 alone, would let ten pass"
    assert spent(book, 0) == 10, "a refused write spends nothing anywhere"


def test_accounts_do_not_share_a_budget_and_the_balance_has_its_own() -> None:
    book, _ = limits()
    assert spent(book) == 10
    book.write("you", 10)
    book.balance("me")
    with pytest.raises(Refused):
        book.balance("me")
    book.read("me")


@pytest.mark.parametrize(
    ("query", "body", "route"),
    [
        ({}, {"ticker": "T"}, None),
        ({}, {"ticker": "T", "exchange_index": -1}, None),
        ({}, {"ticker": "T", "exchange_index": 0}, 0),
        ({}, {"ticker": "T", "exchange_index": 2}, 2),
        ({"exchange_index": "1"}, {}, 1),
        ({"market_ticker": "T"}, {}, None),
        ({"market_ticker": "T", "exchange_index": "-1"}, {}, None),
        ({}, {}, 0),
        ({}, {"market_ticker": "T"}, None),
        ({"exchange_index": "nonsense"}, {}, 0),
        ({}, {"exchange_index": [1]}, 0),
        ({}, {"exchange_index": {}, "ticker": "T"}, None),
    ],
)
def test_the_bill_follows_what_the_request_names(
    query: dict[str, str], body: dict[str, Any], route: int | None
) -> None:
    assert route_of(query, body) == route


def test_tiers_are_ordered_and_a_grant_never_lowers_one() -> None:
    assert LEVELS[0] == "basic"
    assert at_least("prime", "premier")
    assert not at_least("basic", "advanced")
    book, _ = limits("expert")
    book.grant("me", "advanced")
    assert book.tier_of("me").name == "expert"
    book, _ = limits("basic")
    book.grant("me", "advanced")
    assert spent(book) == 90
