"""From the log to this process's open sockets: in order, without gaps, within a quarter of a second of the commit.

One per event loop. A hint over the channel layer wakes it at once; without one it looks by itself, so that a crash
between a commit and its announcement, or an emptied Redis, costs a moment and never a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.db import DatabaseError

from kalshi_site.live import witness
from kalshi_site.live.catchup import DIGEST_EVERY, Change, Head, digest_at
from kalshi_site.live.changes import DatabaseLog, every_head

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.25  # seconds
NOTE_EVERY: Final = 1.0  # seconds between two notes of where the log stands
REST: Final = 1.0  # seconds after a look that failed
MOST_AT_ONCE: Final = 200  # changes; sockets that would get more are told to ask instead

# topic, where it stands now, its new changes in order (None: too many or another epoch; ask), digests by number
Listener = Callable[[str, Head, Sequence[Change] | None, dict[int, str]], None]

Restored = Callable[[Sequence[str]], bool]


def _never(_: Sequence[str]) -> bool:
    return False


class Relay:
    """Follows the topics' heads while anybody listens.

    `restored` is asked before the first look, and told the topics whose log stands before where it stood: it says
    whether the database went back in time, and begins a new numbering then.
    """

    def __init__(self, topics: Sequence[str], restored: Restored = _never) -> None:
        self.heads: dict[str, Head] = {}
        self._topics = topics
        self._restored = restored
        self._noted_at = float("-inf")
        self._has_news = False
        self._listeners: set[Listener] = set()
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def join(self, listener: Listener) -> None:
        """Tell this listener of every change from now on; `heads` says where now is."""
        self._listeners.add(listener)
        async with self._opening:  # many pages come at once after a restart: one follower is enough for all
            if self._task is None:
                await self._try(self._open)
                if self._listeners:  # nobody may be left by now
                    self._task = asyncio.create_task(self._follow(), name="live relay")

    def leave(self, listener: Listener) -> None:
        """The last one turns off the light."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    def hurry(self) -> None:
        """Something has changed: look now."""
        self._hurry.set()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._hurry.wait()
            self._hurry.clear()
            if not await self._try(self._look):
                await asyncio.sleep(REST)

    @staticmethod
    async def _try(deed: Callable[[], Awaitable[None]]) -> bool:
        """Whether it went well. When it did not, pages keep what they have; the next look catches up."""
        try:
            await deed()
        except DatabaseError as error:
            log.warning("live.relay.failed", extra={"error": repr(error)})
        except Exception:  # whatever is wrong with one look must not end them: pages would wait in silence
            log.exception("live.relay.broke")
        else:
            return True
        return False

    async def _open(self) -> None:
        await database_sync_to_async(self._restored)([])
        self.heads = await database_sync_to_async(every_head)(self._topics)

    async def _look(self) -> None:
        now = await database_sync_to_async(every_head)(self._topics)
        behind = [topic for topic, head in now.items() if _went_back(self.heads.get(topic), head)]
        if behind and await database_sync_to_async(self._restored)(behind):
            now = await database_sync_to_async(every_head)(self._topics)
        if now != self.heads:
            await self._tell(now)
            self._has_news = True
        if self._has_news and time.monotonic() - self._noted_at > NOTE_EVERY:
            self._has_news, self._noted_at = False, time.monotonic()
            await database_sync_to_async(witness.note)()

    async def _tell(self, now: Mapping[str, Head]) -> None:
        for topic, head in now.items():
            known = self.heads.get(topic, Head(head.epoch, 0))
            if (head.epoch, head.version) == (known.epoch, known.version):
                self.heads[topic] = head  # one at 0 is named too: who follows it asks where it stands
            else:
                changes, digests = await self._news(topic, known, head)
                self.heads[topic] = head
                for listener in list(self._listeners):
                    self._tell_one(listener, topic, head, changes, digests)

    @staticmethod
    def _tell_one(listener: Listener, *news: Any) -> None:
        """One that breaks keeps no other from its news."""
        try:
            listener(*news)
        except Exception:
            log.exception("live.listener.broke")

    @staticmethod
    async def _news(topic: str, known: Head, head: Head) -> tuple[list[Change] | None, dict[int, str]]:
        missed = head.version - known.version
        if head.epoch != known.epoch or not 0 < missed <= MOST_AT_ONCE:
            return None, {}
        read = database_sync_to_async(_read)
        news: tuple[list[Change] | None, dict[int, str]] = await read(topic, known.version, head.version)
        return news


def _went_back(known: Head | None, now: Head) -> bool:
    return known is not None and known.epoch == now.epoch and known.version > now.version


def _read(topic: str, after: int, upto: int) -> tuple[list[Change] | None, dict[int, str]]:
    source = DatabaseLog()
    changes = list(source.between(topic, after, upto))
    if len(changes) != upto - after:
        return None, {}
    marks = [each.number for each in changes if each.number % DIGEST_EVERY == 0]
    return changes, {number: digest_at(source, topic, number) for number in marks}


_relays: WeakKeyDictionary[asyncio.AbstractEventLoop, Relay] = WeakKeyDictionary()


def relay(topics: Sequence[str], restored: Restored = _never) -> Relay:
    """The relay of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in _relays:
        _relays[loop] = Relay(topics, restored)
    return _relays[loop]
