"""Which fees hold at a moment: steps of the series, overridden by steps of the event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.fee_history import FeeStep, fees_at, next_step
from trading.domain.fees import FeeSchedule, FeeType, UnknownFee

T = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
Q, M = FeeType.QUADRATIC, FeeType.QUADRATIC_WITH_MAKER
ONE, HALF = Decimal(1), Decimal("0.5")

SERIES = [FeeStep(T, Q, ONE), FeeStep(T + 2 * HOUR, M, ONE), FeeStep(T + 4 * HOUR, Q, Decimal(2))]


@pytest.mark.parametrize(
    ("event", "at", "fees"),
    [
        ([], T, FeeSchedule(Q, ONE)),
        ([], T + 2 * HOUR - timedelta(microseconds=1), FeeSchedule(Q, ONE)),
        ([], T + 2 * HOUR, FeeSchedule(M, ONE)),
        ([], T + 40 * HOUR, FeeSchedule(Q, Decimal(2))),
        ([FeeStep(T + HOUR, None, HALF)], T + HOUR, FeeSchedule(Q, HALF)),
        ([FeeStep(T + HOUR, None, HALF)], T + 3 * HOUR, FeeSchedule(M, HALF)),
        ([FeeStep(T + HOUR, M, None)], T + HOUR, FeeSchedule(M, ONE)),
        (
            [FeeStep(T + HOUR, M, HALF), FeeStep(T + 3 * HOUR, None, None)],
            T + 5 * HOUR,
            FeeSchedule(Q, Decimal(2)),
        ),
        ([FeeStep(T, None, Decimal(0))], T, FeeSchedule(Q, Decimal(0))),
    ],
)
def test_the_fee_at_a_moment(event: list[FeeStep], at: datetime, fees: FeeSchedule) -> None:
    assert fees_at(SERIES, event, at) == fees


def test_before_anything_is_known_there_is_no_fee() -> None:
    with pytest.raises(UnknownFee):
        fees_at(SERIES, [], T - HOUR)
    with pytest.raises(UnknownFee):
        fees_at([], [FeeStep(T, None, HALF)], T)


def test_an_unknown_type_stays_without_a_formula() -> None:
    fees = fees_at([FeeStep(T, FeeType.FLAT, ONE)], [], T)
    with pytest.raises(UnknownFee):
        fees.trade_fee(HALF, ONE, is_taker=True)


@given(st.permutations(SERIES), st.integers(0, 300))
def test_the_order_in_which_steps_are_told_does_not_matter(steps: list[FeeStep], minutes: int) -> None:
    at = T + timedelta(minutes=minutes)
    assert fees_at(steps, [], at) == fees_at(SERIES, [], at)


def test_the_next_step_is_the_earliest_to_come() -> None:
    assert next_step(SERIES, T) == SERIES[1]
    assert next_step(SERIES, T + 4 * HOUR) is None
