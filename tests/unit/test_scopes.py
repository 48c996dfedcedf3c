"""Scopes of the trading state: how they are written, what they cover, which mode counts."""

from __future__ import annotations

import pytest

from portfolio.domain.limits import TradingMode
from portfolio.domain.scopes import ALL, LONGEST, UnknownScope, covering, in_words, parse, strictest


@pytest.mark.parametrize(
    ("written", "scope"),
    [
        ("", ALL),
        ("all", ALL),
        ("series:KXGOLD15M", "series:KXGOLD15M"),
        ("market: A ", "market:A"),
        ("series:kxhighny", "series:KXHIGHNY"),
        ("market:kx-1", "market:KX-1"),
        ("strategy:Edge", "strategy:Edge"),
    ],
)
def test_a_scope_is_read_as_it_is_written_and_tickers_in_capitals(written: str, scope: str) -> None:
    assert parse(written) == scope


@pytest.mark.parametrize(
    "wrong",
    [
        "everything",
        "series:",
        "serie:A",
        "market:\n",
        "market:A\n",
        "market:" + "X" * 124,
        "market:" + "ß" * 62,
        ":A",
    ],
)
def test_a_typo_does_not_pass_for_a_stop(wrong: str) -> None:
    with pytest.raises(UnknownScope):
        parse(wrong)


def test_the_longest_scope_is_a_scope() -> None:
    longest = "market:" + "X" * 123
    assert (parse(longest), len(longest)) == (longest, LONGEST)


def test_an_order_is_covered_by_everything_its_strategy_its_series_and_its_market() -> None:
    found = covering(strategy="edge", series="KXGOLD15M", market="KXGOLD15M-1")
    assert found == (ALL, "strategy:edge", "series:KXGOLD15M", "market:KXGOLD15M-1")
    assert covering(strategy="", series="S", market="M") == (ALL, "series:S", "market:M")


def test_the_strictest_mode_counts() -> None:
    assert strictest([]) is TradingMode.ACTIVE
    assert strictest([TradingMode.ACTIVE, TradingMode.HALTED, TradingMode.REDUCING]) is TradingMode.HALTED


def test_a_scope_reads_as_words() -> None:
    assert (in_words(ALL), in_words("series:S")) == ("everything", "the series S")
