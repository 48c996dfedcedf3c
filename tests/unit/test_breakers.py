"""The law of a breaker, without Redis and without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kalshi_site.breakers.law import LONGEST_REASON, Memory, Rules, State, admit, fail, give_back, succeed

RULES = Rules(opens_after=3, rest=5.0, longest_rest=60.0, probe=15.0)
NOW = 1_000_000.0


def opened(now: float = NOW) -> Memory:
    memory = Memory()
    for _ in range(RULES.opens_after):
        memory = fail(memory, RULES, now, "no answer")
    return memory


def test_it_opens_after_so_many_failures_in_a_row_and_says_why() -> None:
    memory = fail(fail(Memory(), RULES, NOW, "a"), RULES, NOW, "b")
    assert (memory.state, memory.failures) == (State.CLOSED, 2)
    memory = fail(memory, RULES, NOW, "no answer")
    assert (memory.state, memory.failures, memory.reason) == (State.OPEN, 3, "no answer")


def test_a_success_in_between_begins_the_count_anew() -> None:
    memory = Memory()
    for _ in range(10):
        memory = succeed(fail(fail(memory, RULES, NOW, ""), RULES, NOW, ""), NOW)
    assert memory.is_clean


def test_an_open_one_lets_nothing_pass_until_its_rest_is_over_and_then_one_probe() -> None:
    memory, passes = admit(opened(), RULES, NOW + 4.9)
    assert not passes
    memory, passes = admit(memory, RULES, NOW + 5.1)
    assert passes and memory.state is State.HALF_OPEN
    memory, second = admit(memory, RULES, NOW + 5.2)
    assert not second, "one probe at a time"


def test_a_probe_that_nobody_heard_of_again_is_lost_and_another_goes() -> None:
    memory, _ = admit(opened(), RULES, NOW + 6)
    _, passes = admit(memory, RULES, NOW + 6 + RULES.probe + 0.1)
    assert passes


def test_a_probe_that_was_not_used_goes_to_the_next_and_no_rest_is_shortened() -> None:
    memory, _ = admit(opened(), RULES, NOW + 6)
    _, passes = admit(give_back(memory, NOW + 6.1), RULES, NOW + 6.2)
    assert passes
    assert give_back(opened(), NOW + 1) == opened()


def test_a_probe_that_fails_doubles_the_rest_up_to_its_bound() -> None:
    memory, now, rests = opened(), NOW, []
    for _ in range(7):
        rests.append(memory.until - now)
        now = memory.until + 0.1
        memory, passes = admit(memory, RULES, now)
        assert passes
        memory = fail(memory, RULES, now, "still none")
    assert rests == [5, 10, 20, 40, 60, 60, 60]


def test_a_probe_that_succeeds_closes_and_the_next_rest_is_short_again() -> None:
    memory, _ = admit(opened(), RULES, NOW + 6)
    memory = succeed(memory, NOW + 7)
    assert (memory.state, memory.failures, memory.trips, memory.since) == (State.CLOSED, 0, 0, NOW + 7)


def test_failures_of_calls_that_pass_all_the_same_prolong_no_rest() -> None:
    memory = opened()
    for second in range(5):
        memory = fail(memory, RULES, NOW + second, "an exit")
    assert memory.until == opened().until


def test_a_clock_that_was_set_back_keeps_nothing_open() -> None:
    _, passes = admit(opened(), RULES, NOW - 3_600)
    assert passes


def test_a_reason_is_cut() -> None:
    assert len(fail(Memory(), RULES, NOW, "x" * 9_000).reason) == LONGEST_REASON


@given(st.lists(st.tuples(st.sampled_from(["ask", "good", "bad"]), st.floats(0.0, 100.0)), max_size=60))
def test_whatever_happens_a_call_passes_again_within_the_longest_rest(
    steps: list[tuple[str, float]],
) -> None:
    memory, now = Memory(), NOW
    for step, wait in steps:
        now += wait
        match step:
            case "ask":
                memory, _ = admit(memory, RULES, now)
            case "good":
                memory = succeed(memory, now)
                assert memory.is_clean
            case _:
                memory = fail(memory, RULES, now, "no answer")
    _, passes = admit(memory, RULES, now + max(RULES.longest_rest, RULES.probe) + 0.1)
    assert passes
