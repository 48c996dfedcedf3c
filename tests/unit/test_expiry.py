"""The dead man's switch as a rule: when an expiry is moved on, how far, and never past what was approved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.expiry import expiry_from, renewal_due

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
AHEAD = timedelta(seconds=120)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def due(expires: float, good: float = 900, tried: float | None = None) -> float | None:
    """The renewal due now of an order that expires and is good for so many seconds from now."""
    wanted = renewal_due(
        NOW + seconds(expires),
        good_until=NOW + seconds(good),
        now=NOW,
        ahead=AHEAD,
        tried_at=None if tried is None else NOW + seconds(tried),
    )
    return None if wanted is None else (wanted - NOW).total_seconds()


@pytest.mark.parametrize(
    ("expires", "good", "wanted"),
    [
        (120, 900, None),  # too early
        (61, 900, None),
        (60, 900, 120),  # half the way
        (1, 900, 120),
        (0, 900, None),  # the exchange has ended it
        (-5, 900, None),
        (60, 90, 90),  # the end of what was approved
        (60, 60.9, None),  # nothing to gain: the wire counts whole seconds
        (60, 30, None),
    ],
)
def test_an_expiry_is_moved_on_at_half_the_way_and_never_past_the_approval(
    expires: float, good: float, wanted: float | None
) -> None:
    assert due(expires, good) == wanted


@pytest.mark.parametrize(("tried", "wanted"), [(-1, None), (-9.9, None), (-10, 120), (-50, 120)])
def test_a_renewal_that_was_not_done_is_not_tried_again_at_once(tried: float, wanted: float | None) -> None:
    assert due(40, tried=tried) == wanted


@given(st.floats(-300, 300), st.floats(0, 1_000), st.floats(1, 120), st.one_of(st.none(), st.floats(-300, 0)))
def test_no_expiry_is_ever_farther_ahead_than_the_switch_or_the_approval_allows(
    expires: float, good: float, ahead: float, tried: float | None
) -> None:
    wanted = renewal_due(
        NOW + seconds(expires),
        good_until=NOW + seconds(good),
        now=NOW,
        ahead=seconds(ahead),
        tried_at=None if tried is None else NOW + seconds(tried),
    )
    first = expiry_from(NOW, ahead=seconds(ahead), good_until=NOW + seconds(good))
    assert first <= NOW + min(seconds(ahead), seconds(good))
    if wanted is not None:
        assert NOW + seconds(expires) < wanted <= NOW + min(seconds(ahead), seconds(good))
