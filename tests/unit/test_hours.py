"""When the exchange takes orders, told from its word, its shards and its maintenance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.hours import (
    NEW_YORK,
    OLDEST_WORD,
    ExchangeFacts,
    ShardState,
    Standing,
    Window,
    weekly_window,
    words,
)

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)  # a Monday


def said(*, is_active: bool = True, is_trading: bool = True, **more: Any) -> ExchangeFacts:
    return ExchangeFacts(is_active=is_active, is_trading=is_trading, **{"as_of": NOW, **more})


@pytest.mark.parametrize(
    ("facts", "standing"),
    [
        (said(), Standing.TRADING),
        (said(is_trading=False), Standing.PAUSED),
        (said(is_active=False), Standing.CLOSED),
        (said(is_active=False, is_trading=False), Standing.CLOSED),
        (ExchangeFacts(), Standing.UNKNOWN),
        (said(as_of=NOW - OLDEST_WORD), Standing.TRADING),
        (said(as_of=NOW - OLDEST_WORD - timedelta(milliseconds=1)), Standing.UNKNOWN),
        (said(as_of=NOW + OLDEST_WORD + timedelta(seconds=1)), Standing.UNKNOWN),
        (said(maintenance=(Window(NOW, NOW + timedelta(hours=1)),)), Standing.MAINTENANCE),
        (said(maintenance=(Window(NOW - timedelta(hours=1), NOW),)), Standing.TRADING),
    ],
)
def test_how_the_exchange_stands(facts: ExchangeFacts, standing: Standing) -> None:
    assert facts.standing(NOW) is standing


@pytest.mark.parametrize(
    ("facts", "index", "standing"),
    [
        (said(shards=(ShardState(0, True, True), ShardState(3, True, False))), 0, Standing.TRADING),
        (said(shards=(ShardState(0, True, True), ShardState(3, True, False))), 3, Standing.PAUSED),
        (said(shards=(ShardState(3, False, True),)), 3, Standing.CLOSED),
        (said(shards=(ShardState(3, False, True),)), 2, Standing.TRADING),
        # The whole exchange pauses although the shard says that it trades: the worse holds.
        (said(is_trading=False, shards=(ShardState(3, True, True),)), 3, Standing.PAUSED),
    ],
)
def test_a_shard_pauses_alone_and_with_the_whole(
    facts: ExchangeFacts, index: int, standing: Standing
) -> None:
    assert facts.standing(NOW, index) is standing


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        # Winter: New York is UTC-5. Summer: UTC-4.
        ("2026-11-23T14:00", "2026-11-26T08:00", "2026-11-26T10:00"),
        ("2026-11-26T09:59", "2026-11-26T08:00", "2026-11-26T10:00"),
        ("2026-11-26T10:00", "2026-12-03T08:00", "2026-12-03T10:00"),
        ("2026-07-01T00:00", "2026-07-02T07:00", "2026-07-02T09:00"),
        # Across the change of the clocks on 1 November 2026, and on 8 March 2026.
        ("2026-10-30T12:00", "2026-11-05T08:00", "2026-11-05T10:00"),
        ("2026-03-05T10:00", "2026-03-12T07:00", "2026-03-12T09:00"),
        # Late on Wednesday in New York it is Thursday in UTC already.
        ("2026-11-26T04:30", "2026-11-26T08:00", "2026-11-26T10:00"),
    ],
)
def test_the_weekly_window_follows_new_yorks_clock(now: str, start: str, end: str) -> None:
    window = weekly_window(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert window == Window(*(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end)))


@given(st.integers(0, 15 * 365 * 24 * 60))
def test_the_weekly_window_is_always_the_next_thursday_and_two_hours_long(minutes: int) -> None:
    now = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    window = weekly_window(now)
    local = window.start_at.astimezone(NEW_YORK)
    assert (local.weekday(), local.hour, local.minute) == (3, 3, 0)
    assert window.end_at - window.start_at == timedelta(hours=2)
    assert now < window.end_at <= now + timedelta(days=7, hours=1)


def test_only_an_exchange_that_keeps_it_has_the_weekly_window() -> None:
    thursday = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
    assert said(as_of=thursday).standing(thursday) is Standing.TRADING
    assert said(as_of=thursday, weekly=True).standing(thursday) is Standing.MAINTENANCE


def test_the_next_window_is_the_earliest_that_has_not_begun() -> None:
    announced = Window(NOW + timedelta(hours=2), NOW + timedelta(hours=3))
    assert said(weekly=True, maintenance=(announced,)).next_window(NOW) == announced
    assert said(weekly=True).next_window(NOW) == weekly_window(NOW)
    assert said().next_window(NOW) is None


@pytest.mark.parametrize(
    ("facts", "index", "sentence"),
    [
        (said(), None, "the exchange is trading"),
        (
            said(is_trading=False, resumes_at=NOW + timedelta(hours=1)),
            None,
            "the exchange has paused trading, expected back at 15:00 UTC: cancels still work, orders do not",
        ),
        (
            said(shards=(ShardState(3, False, False),)),
            3,
            "shard 3 of the exchange is closed: neither orders nor cancels work",
        ),
        (
            said(maintenance=(Window(NOW, NOW + timedelta(hours=30)),)),
            None,
            "the exchange is in maintenance until 24 Nov 20:00 UTC: connections may drop",
        ),
        (ExchangeFacts(), None, "the exchange has not said lately whether it trades"),
    ],
)
def test_it_is_told_in_plain_words(facts: ExchangeFacts, index: int | None, sentence: str) -> None:
    assert words(facts, NOW, index) == sentence
