"""The table of sizes: a build runs the small ones, RELIABILITY=full the large, one variable one of them."""

from __future__ import annotations

import pytest

from tests.reliability.sizes import SIZES, size


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_full_size_is_never_below_the_small_one(name: str) -> None:
    assert 0 <= SIZES[name].small <= SIZES[name].full


def test_full_is_chosen_for_all_and_a_number_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRASH_RUNS", raising=False)
    monkeypatch.delenv("RACE_PROPOSALS", raising=False)
    monkeypatch.setenv("RELIABILITY", "full")
    assert size("crash_runs") == SIZES["crash_runs"].full
    monkeypatch.setenv("CRASH_RUNS", "7")
    assert size("crash_runs") == 7
    monkeypatch.delenv("RELIABILITY")
    assert size("race_proposals") == SIZES["race_proposals"].small


def test_a_size_without_a_row_is_refused() -> None:
    with pytest.raises(KeyError):
        size("orders_of_nobody")
