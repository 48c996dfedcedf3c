"""What keeps one socket from eating the process: the server below knows no back-pressure (RELIABILITY.md, finding 10).

In: a token bucket. Out: numbered changes wait in a short queue and are never dropped; of prices only the latest of each
market waits; and what was sent is counted until the reader acknowledges it, because bytes that a stalled reader does
not take pile up below us where nobody counts them. Whoever is over a limit is let go and resumes by number.

    TooSlow   E851   the reader takes less than it is sent
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from kalshi_site.errors import DeskError

MOST_WAITING: Final = 256  # frames that were not handed to the server yet
MOST_UNREAD: Final = 1_000  # frames sent and not acknowledged
MOST_UNREAD_BYTES: Final = 2_000_000

Frame = dict[str, Any]


class TooSlow(DeskError):
    code = "E851"


class Bucket:
    """`rate` messages a second, and `burst` at once after a pause."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self.left, self.at = burst, clock()

    def take(self) -> bool:
        """Take one; False when there is none."""
        now = self.clock()
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Outbox:
    """Frames on their way to one reader. One writer takes them out."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._latest: dict[str, Frame] = {}
        self._ready = asyncio.Event()
        self._unread: deque[int] = deque()  # the size of each frame that was not acknowledged
        self._unread_bytes = 0
        self._acknowledged = 0

    def put(self, frame: Frame) -> None:
        """A frame that must arrive. Raises TooSlow when too many wait."""
        if len(self._frames) >= MOST_WAITING:
            raise TooSlow(f"{MOST_WAITING} frames wait")
        self._frames.append(frame)
        self._ready.set()

    def put_latest(self, name: str, frame: Frame) -> None:
        """A frame that counts only until the next of the same name."""
        self._latest[name] = frame
        self._ready.set()

    async def next(self) -> Frame:
        """The next frame to send: what must arrive goes first."""
        while not self._frames and not self._latest:
            self._ready.clear()
            await self._ready.wait()
        if self._frames:
            return self._frames.popleft()
        return self._latest.pop(next(iter(self._latest)))

    def sent(self, size: int) -> None:
        """One frame went out. Raises TooSlow when the reader has left too much unread."""
        self._unread.append(size)
        self._unread_bytes += size
        if len(self._unread) > MOST_UNREAD or self._unread_bytes > MOST_UNREAD_BYTES:
            raise TooSlow(f"{len(self._unread)} frames of {self._unread_bytes} bytes were not acknowledged")

    def acknowledge(self, received: int) -> None:
        """The reader has received so many frames since it connected. Less than it said before changes nothing."""
        for _ in range(min(received - self._acknowledged, len(self._unread))):
            self._acknowledged += 1
            self._unread_bytes -= self._unread.popleft()
