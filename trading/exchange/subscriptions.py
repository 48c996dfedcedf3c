"""What one connection has subscribed: which subscription (sid) follows which markets of which channel.

The exchange limits the markets of one subscription (error 26, the number is unpublished). What does not fit is put into
a further subscription of the channel. Should the exchange merge that into the first one (API.md 14: re-subscribing
merges) and refuse again, the group is halved until it is known what fits; the rest is reported and not followed until
other markets leave.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

from trading.exchange import frames
from trading.exchange.channels import BOOKS, Wanted, narrowing_of
from trading.exchange.commands import REPEATABLE, Asked, Commands
from trading.exchange.events import Rejected

_KEYS_A_COMMAND: Final = 200
_FULL: Final = 26
SUBSCRIBE: Final = "subscribe"
_UPDATE: Final = "update_subscription"


class Subscription:
    """One sid. `keys` are its markets (or indices), None for all; `last_seq` is 0 before its first frame."""

    __slots__ = ("channel", "is_full", "keys", "last_seq", "sid")

    def __init__(self, sid: int, channel: str, keys: Collection[str] | None) -> None:
        self.sid = sid
        self.channel = channel
        self.keys = None if keys is None else set(keys)
        self.is_full = False
        self.last_seq = 0


class Subscriptions:
    """Sends commands so that what is wanted is followed. `reject` hears what the exchange does not let us follow."""

    def __init__(
        self,
        wanted: Wanted,
        commands: Commands,
        reject: Callable[[Rejected], None],
        options: dict[str, dict[str, Any]],
    ) -> None:
        self.by_sid: dict[int, Subscription] = {}
        self._wanted = wanted
        self._commands = commands
        self._reject = reject
        self._options = options
        self._homeless: dict[str, set[str]] = {}
        self._bite: dict[
            str, int
        ] = {}  # markets of one `subscribe`, halved each time when even that is too much

    def open(self) -> None:
        """Subscribe to everything wanted."""
        for channel, keys in self._wanted.markets.items():
            self._subscribe(channel, keys)

    def of(self, channel: str) -> list[Subscription]:
        return [each for each in self.by_sid.values() if each.channel == channel]

    def add(self, channel: str, keys: Iterable[str]) -> list[str]:
        """Follow more; what is already wanted is left alone. Returns what is new."""
        fresh = self._wanted.add(channel, keys)
        self._place(channel)
        return fresh

    def remove(self, channel: str, keys: Iterable[str]) -> list[str]:
        """Follow these no longer; return those that were wanted."""
        gone = self._wanted.remove(channel, keys)
        for each in self.of(channel):
            if each.keys is None:
                continue
            leaving = sorted(each.keys.intersection(gone))
            each.keys.difference_update(leaving)
            self._update(each, narrowing_of(channel).remove, leaving)
            each.is_full = each.is_full and not leaving
        self._bite.pop(channel, None)
        if self._homeless.pop(channel, None):
            self._place(channel)  # there may be room now
        return gone

    def unsubscribe(self, channel: str) -> None:
        """End all subscriptions of a channel, now and after every reconnect."""
        self._wanted.markets.pop(channel, None)
        sids = [each.sid for each in self.of(channel)]
        if sids:
            self._commands.send(Asked(channel, "unsubscribe", {"sids": sids}))
        for sid in sids:
            del self.by_sid[sid]  # what still comes is the tail of an ended subscription

    def ask_list(self) -> None:
        """Ask the exchange what we have subscribed."""
        self._commands.send(Asked("", "list_subscriptions", {}))

    def ask_names(self, channel: str) -> None:
        """Ask an index channel what it offers."""
        action = "underlying_list" if channel == "pyth_value" else "indexlist"
        for each in self.of(channel)[:1]:
            self._commands.send(Asked(channel, _UPDATE, {"sids": [each.sid], "action": action}))

    def ask_snapshots(self, tickers: Collection[str]) -> None:
        """Ask for the books of these markets, each of the subscription that follows it."""
        for each in self.of(BOOKS):
            self._update(each, "get_snapshot", sorted((each.keys or set()).intersection(tickers)))

    # --- answers

    def subscribed(self, frame: frames.Subscribed) -> None:
        """A subscription exists, or has been merged into one that did."""
        asked = self._commands.accepted(frame.id)
        sid, channel = frame.msg.sid, frame.msg.channel
        if channel not in self._wanted.markets:
            self._commands.send(Asked(channel, "unsubscribe", {"sids": [sid]}))
            return
        follows_all = self._wanted.markets[channel] is None
        keys = () if asked is None else asked.keys
        known = self.by_sid.get(sid)
        if known is None:
            self.by_sid[sid] = Subscription(sid, channel, None if follows_all else keys)
        elif known.keys is not None:
            known.keys.update(keys)
        self._place(channel)

    def refused(self, number: int, asked: Asked, code: int, text: str) -> None:
        """A command of ours was not accepted."""
        if code in REPEATABLE:
            self._commands.hold(number, asked)
        elif code == _FULL and asked.keys:
            self._overflowed(asked, text)
        else:
            self._reject(Rejected(asked.channel, code, text, asked.keys))

    def ended(self, sid: int) -> Subscription | None:
        """A subscription is over; return what it was. Its markets are subscribed anew unless nobody wants them."""
        over = self.by_sid.pop(sid, None)
        if over is not None and over.channel in self._wanted.markets:
            self._subscribe(over.channel, over.keys)
        return over

    def tick(self) -> None:
        """Release held commands; say a subscription again that was never answered, for it is harmless to repeat."""
        for asked in self._commands.tick():
            if asked.cmd == SUBSCRIBE:
                self._commands.send(asked)

    # --- where each market goes

    def _place(self, channel: str) -> None:
        """Follow what is wanted and neither followed nor asked for."""
        missing = sorted(self._missing(channel))
        if not missing:
            return
        room = next((each for each in self.of(channel) if each.keys is not None and not each.is_full), None)
        if room is not None and room.keys is not None:
            room.keys.update(missing)
            self._update(room, narrowing_of(channel).add, missing)
        elif not self._commands.outstanding(SUBSCRIBE, channel):
            self._subscribe(channel, missing)

    def _missing(self, channel: str) -> set[str]:
        missing = set(self._wanted.markets.get(channel) or ()) - self._homeless.get(channel, set())
        for each in self.of(channel):
            missing -= each.keys or set()
        for asked in self._commands.outstanding(SUBSCRIBE, channel):
            missing.difference_update(asked.keys)
        return missing

    def _overflowed(self, asked: Asked, text: str) -> None:
        channel = asked.channel
        for each in self.of(channel):
            if asked.cmd == SUBSCRIBE:
                each.is_full = True
            elif each.sid in asked.params["sids"] and each.keys is not None:
                each.is_full = True
                each.keys.difference_update(asked.keys)
        if asked.cmd == SUBSCRIBE:
            self._bite[channel] = len(asked.keys) // 2
        if self._bite.get(channel, 1):
            self._place(channel)
            return
        homeless = sorted(self._missing(channel))
        self._homeless[channel] = self._homeless.get(channel, set()).union(homeless)
        self._reject(Rejected(channel, _FULL, text, tuple(homeless)))

    # --- commands

    def _subscribe(self, channel: str, keys: Collection[str] | None) -> None:
        params: dict[str, Any] = {"channels": [channel], **self._options.get(channel, {})}
        if keys is None:
            self._commands.send(Asked(channel, SUBSCRIBE, params))
            return
        first = tuple(sorted(keys)[: self._bite.get(channel, _KEYS_A_COMMAND)])
        if first:
            params[narrowing_of(channel).param] = list(first)
            self._commands.send(Asked(channel, SUBSCRIBE, params, first))

    def _update(self, subscription: Subscription, action: str, keys: list[str]) -> None:
        for group in _groups(keys):
            params: dict[str, Any] = {"sids": [subscription.sid]}
            params |= {narrowing_of(subscription.channel).param: group, "action": action}
            self._commands.send(Asked(subscription.channel, _UPDATE, params, tuple(group)))


def _groups(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _KEYS_A_COMMAND):
        yield keys[start : start + _KEYS_A_COMMAND]
