"""Judges one market's messages by their numbers and times: what follows, what comes again, what is out of its place.

`seq` counts over all markets of a subscription, so within one market a number that jumps forward proves nothing. One
that goes back does, and so does a receipt before the last one: lines are in the order of receipt. Either a message is
out of its place, or a new connection has begun; that begins its book with a snapshot, later than anything before.

A message out of its place puts in doubt all that lies between its two places. So after one nothing is believed up to a
snapshot whose number is above every number seen: a change that came too early is in none of the snapshots before that.
"""

from __future__ import annotations

from enum import Enum, auto

from trading.recordings.messages import Event, Snapshot, Trade


class Verdict(Enum):
    NEXT = auto()
    RECONNECTED = auto()  # a new connection, with its snapshot
    REPEATED = auto()  # the same message again
    REORDERED = auto()  # out of its place: the book is unknown until the next snapshot that is believed
    DOUBTED = auto()  # came after one that was out of its place, and before that snapshot


class Sequence:
    """`judge` takes the messages of one market in the order of the files. `jumps` counts numbers left out."""

    def __init__(self) -> None:
        self.jumps = 0
        self._recv_ms = 0  # the latest seen
        self.forget()

    def forget(self) -> None:
        """The recorder says that a new connection begins: the old numbers mean nothing."""
        self._book: Event | None = None  # the highest numbers of the connection; those below are spent
        self._trade: Event | None = None
        self._is_lost = False

    def judge(self, recv_ms: int, event: Event) -> Verdict:
        """What to make of the next message."""
        is_trade = isinstance(event, Trade)
        highest = self._trade if is_trade else self._book
        if event == highest:
            return Verdict.REPEATED
        is_later, self._recv_ms = recv_ms > self._recv_ms, max(recv_ms, self._recv_ms)
        in_place = recv_ms == self._recv_ms and _follows(event, highest, is_trade=is_trade)
        if in_place:
            if is_trade:
                self._trade = event
            else:
                self.jumps += highest is not None and event.seq != highest.seq + 1
                self._book = event
        elif is_later and isinstance(event, Snapshot):
            self.forget()
            self._book = event
            return Verdict.RECONNECTED
        return self._verdict(event, in_place=in_place)

    def _verdict(self, event: Event, *, in_place: bool) -> Verdict:
        if not in_place:
            was_lost, self._is_lost = self._is_lost, True
            return Verdict.DOUBTED if was_lost else Verdict.REORDERED
        if isinstance(event, Snapshot):
            self._is_lost = False
        return Verdict.DOUBTED if self._is_lost else Verdict.NEXT


def _follows(event: Event, highest: Event | None, *, is_trade: bool) -> bool:
    if highest is None:
        return True
    if event.sid != highest.sid:
        return is_trade  # a subscription of its own, which may be made anew
    return event.seq > highest.seq
