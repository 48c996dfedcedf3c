"""Candles from trades and best prices: the exchange's own rules, minute by minute."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.domain.candles import Candle, Maker, Span, end_of, filled, fold
from trading.domain.matching import TICKS_PER_DOLLAR
from trading.exchange import messages, parsing
from trading.paper.candles import Candles as Theirs

D = Decimal
M = 60_000
CAPTURES = os.environ.get("KALSHI_CAPTURES", "")


def span(*prices: str) -> Span:
    return Span(*(D(price) for price in prices))


def test_a_minute_holds_what_happened_up_to_its_end_and_not_beyond() -> None:
    maker = Maker()
    maker.quote(1, D("0.40"), D("0.44"), D(7))
    maker.trade(M - 1, D("0.44"), D(3))
    maker.trade(M, D("0.50"), D(1))
    (first,) = maker.take(M)
    assert (first.end_ms, first.volume, first.traded) == (M, D(3), span("0.44", "0.44", "0.44", "0.44"))
    (second,) = maker.take(2 * M)
    assert (second.end_ms, second.traded, second.previous) == (
        2 * M,
        span("0.50", "0.50", "0.50", "0.50"),
        D("0.44"),
    )
    assert second.bid == Span.flat(D("0.40"))
    assert maker.take(9 * M) == []


def test_a_missing_side_counts_as_on_the_wire() -> None:
    maker = Maker()
    maker.quote(1, None, D("0.44"), None)
    maker.quote(2, D("0.40"), None, None)
    (candle,) = maker.take(M)
    assert candle.bid == span("0", "0.40", "0", "0.40")
    assert candle.ask == span("0.44", "1", "0.44", "1")


def test_a_minute_without_a_trade_has_no_price_but_the_one_before() -> None:
    maker = Maker()
    maker.quote(1, D("0.40"), D("0.44"), None)
    assert maker.take(M)[0].traded is None
    maker.trade(M + 1, D("0.41"), D(2))
    maker.quote(2 * M + 1, D("0.41"), D("0.44"), None)
    last = maker.take(9 * M)[-1]
    assert (last.traded, last.mean, last.previous) == (None, None, D("0.41"))


def test_a_mean_that_nobody_told_is_missing_and_not_zero() -> None:
    flat = Span.flat(D("0.41"))
    assert Candle(M, flat, flat, traded=flat, volume=D(3)).mean is None


def test_the_mean_is_weighted_by_quantity() -> None:
    maker = Maker()
    maker.trade(1, D("0.40"), D(3))
    maker.trade(2, D("0.44"), D(1))
    assert maker.take(M)[0].mean == D("0.4100")


def test_a_minute_that_was_not_heard_whole_says_so() -> None:
    maker = Maker()
    maker.trade(1, D("0.40"), D(1))
    maker.trade(M + 1, D("0.40"), D(1))
    maker.trade(2 * M + 1, D("0.40"), D(1))
    maker.miss()
    maker.trade(3 * M + 1, D("0.40"), D(1))
    assert [each.is_whole for each in maker.take(9 * M)] == [False, True, False, True]


def test_what_comes_late_for_a_minute_given_out_is_a_part_of_it() -> None:
    maker = Maker()
    maker.trade(1, D("0.40"), D(1))
    (given_out,) = maker.take(M)
    maker.trade(2, D("0.42"), D(2))
    (late,) = maker.take(M)
    whole = given_out.join(late)
    assert (whole.end_ms, whole.volume, whole.traded) == (M, D(3), span("0.40", "0.42", "0.40", "0.42"))


PRICE = st.integers(1, 99)
ACTS = st.lists(
    st.tuples(st.sampled_from(("quote", "trade")), st.integers(0, 90_000), PRICE, PRICE, st.integers(1, 500)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)  # days are filled minute by minute
@given(ACTS, st.sampled_from((1, 60, 1440)))
def test_they_are_the_paper_exchanges_own_to_the_last_digit(
    acts: list[tuple[str, int, int, int, int]], minutes: int
) -> None:
    """Another implementation, in another unit, from the same events: minutes, hours and days, quiet ones filled in."""
    maker, theirs, at, interest = Maker(), Theirs(), 1_000, 0
    for kind, pause, one, other, lots in acts:
        at += pause
        if kind == "quote":
            bid, ask = min(one, other), max(one, other)
            theirs.add_quote(at, bid * 100, ask * 100, interest)
            maker.quote(at, D(bid) / 100, D(ask) / 100, D(interest) / 100)
        else:
            interest += lots
            theirs.add_trade(at, one * 100, lots, interest)
            maker.trade(at, D(one) / 100, D(lots) / 100)
            maker.quote(at, *_touch(theirs), D(interest) / 100)
    until = end_of(at, minutes) + 2 * minutes * M
    minute = list(filled(maker.take(2**60), until, 1))
    ours = [each for each in fold(minute, minutes) if each.end_ms <= until]
    want = theirs.between(0, until // 1000, minutes)
    assert len(ours) == len(want)
    for mine, their in zip(ours, want, strict=True):
        told = parsing.candle(msgspec.convert(their.payload(), messages.Candlestick, strict=False))
        assert mine.end_ms == their.end_ms
        assert _numbers(mine.bid) == _numbers(told.bid) and _numbers(mine.ask) == _numbers(told.ask)
        assert (mine.traded and _numbers(mine.traded)) == (told.traded and _numbers(told.traded))
        assert (mine.volume, mine.open_interest, mine.previous) == (
            told.volume,
            told.open_interest,
            told.previous,
        )
        assert mine.mean is None or told.mean is None or abs(mine.mean - told.mean) <= D("0.0001")


def _touch(theirs: Theirs) -> tuple[Decimal | None, Decimal | None]:
    last = theirs.minutes[-1]
    bid, ask = D(last.bid.close) / TICKS_PER_DOLLAR, D(last.ask.close) / TICKS_PER_DOLLAR
    return (bid or None), (None if ask == 1 else ask)


def _numbers(each: object) -> tuple[Decimal, ...]:
    return tuple(getattr(each, name) for name in ("open", "high", "low", "close"))


@pytest.mark.skipif(not CAPTURES, reason="KALSHI_CAPTURES is not set")
def test_the_exchanges_captured_candles_have_the_same_shape_and_laws() -> None:
    captured = json.loads((Path(CAPTURES) / "candlesticks_mlb.json").read_text(encoding="utf-8"))
    seen = 0
    for market in captured["markets"].values():
        before = None
        for payload in market["candlesticks"]:
            told = parsing.candle(msgspec.convert(payload, messages.Candlestick, strict=False))
            end_ms = payload["end_period_ts"] * 1000
            assert end_of(end_ms - 1) == end_ms
            if told.traded is not None and told.mean is not None:
                assert told.traded.low <= told.mean <= told.traded.high and told.volume > 0
            if before is not None and before.traded is not None:
                assert told.previous == before.traded.close
            before, seen = told, seen + 1
    assert seen > 30


def test_folding_and_filling_keep_every_trade() -> None:
    candles = [
        Candle(
            end_of(n * 7 * M),
            Span.flat(D("0.4")),
            Span.flat(D("0.5")),
            Span.flat(D("0.45")),
            D(n),
            D(n) * D("0.45"),
        )
        for n in range(1, 40)
    ]
    hours = list(filled(fold(candles, 60), 10 * 60 * M, 60))
    assert sum(each.volume for each in hours) == sum(each.volume for each in candles)
    assert [each.end_ms for each in hours] == [n * 60 * M for n in range(1, 11)]
