"""How long a crashed process waits before it is started again."""

from __future__ import annotations

from kalshi_site.management.supervisor.children import STOOD_SECONDS, next_delay


def test_the_delay_doubles_from_one_to_thirty_seconds() -> None:
    delays = [0.0]
    for _ in range(7):
        delays.append(next_delay(delays[-1], stood=0.5))
    assert delays[1:] == [1, 2, 4, 8, 16, 30, 30]


def test_a_process_that_stood_begins_anew() -> None:
    assert next_delay(30, stood=STOOD_SECONDS + 1) == 1
