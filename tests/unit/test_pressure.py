"""What waits for one reader: nothing that must arrive is dropped, of prices only the latest waits, all is counted."""

from __future__ import annotations

import pytest

from kalshi_site.live import pressure
from kalshi_site.live.pressure import Outbox, TooSlow


async def test_what_must_arrive_goes_first_and_in_order() -> None:
    outbox = Outbox()
    outbox.put_latest("SIM1", {"n": 1})
    outbox.put({"n": 2})
    outbox.put({"n": 3})
    assert [(await outbox.next())["n"] for _ in range(3)] == [2, 3, 1]


async def test_of_prices_only_the_latest_of_each_market_waits() -> None:
    outbox = Outbox()
    for cents in range(1_000):
        outbox.put_latest(f"SIM{cents % 2}", {"cents": cents})
    assert [(await outbox.next())["cents"] for _ in range(2)] == [998, 999]


def test_a_full_queue_is_said_and_drops_nothing_in_silence() -> None:
    outbox = Outbox()
    for n in range(pressure.MOST_WAITING):
        outbox.put({"n": n})
    with pytest.raises(TooSlow):
        outbox.put({"n": -1})


@pytest.mark.parametrize(("frames", "size"), [(1_001, 1), (3, 700_000)])
def test_too_much_unread_is_said_by_frames_and_by_bytes(frames: int, size: int) -> None:
    outbox = Outbox()
    for _ in range(frames - 1):
        outbox.sent(size)
    with pytest.raises(TooSlow):
        outbox.sent(size)


def test_an_acknowledgement_makes_room_and_an_odd_one_changes_nothing() -> None:
    outbox = Outbox()
    for n in range(1, 5_000):
        outbox.sent(1_000)
        outbox.acknowledge(n - 1)
        outbox.acknowledge(-7)
        outbox.acknowledge(1)
    outbox.acknowledge(10**12)
    for _ in range(1_000):
        outbox.sent(1_000)
    with pytest.raises(TooSlow):
        outbox.sent(1_000)
