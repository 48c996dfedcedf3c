"""One connection's subscriptions, without any I/O: frames in, events out, commands to send in `outbox`.

The rules (API.md 14, "Order book maintenance"):

1. `seq` counts the frames of one subscription (sid), all its markets and the replies to commands together.
2. After a gap every book of that subscription is untrusted; `get_snapshot` is sent, and a book is trusted again when
   its snapshot has come. Until then its changes are withheld: they have nothing to build on.
3. Errors 10 and 25 end a subscription: it is subscribed anew.
4. A frame that we cannot read counts as lost.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

from trading.exchange import events, frames, stream_parsing
from trading.exchange.errors import UnreadableAnswer

log = logging.getLogger(__name__)

Channel = Literal[
    "orderbook_delta",
    "ticker",
    "trade",
    "fill",
    "user_orders",
    "market_positions",
    "market_lifecycle_v2",
]
BOOKS: Final = "orderbook_delta"
TERMINAL: Final = frozenset({10, 25})
_REPEATABLE: Final = frozenset({18, 27})  # command timeout, too many commands: say it again later
_TICKERS_A_COMMAND: Final = 200
_SNAPSHOT_PATIENCE_MS: Final = 10_000

Emit = Callable[[events.StreamEvent], None]


class StreamFault(Exception):
    """The connection says nothing that we can follow: drop it and connect anew."""

    code = "E609"


class Wanted:
    """What shall be subscribed, kept across connections: per channel its markets, or None for all of them."""

    def __init__(self, channels: dict[Channel, Collection[str] | None]) -> None:
        self.markets: dict[str, set[str] | None] = {
            channel: None if tickers is None else set(tickers) for channel, tickers in channels.items()
        }

    def add(self, channel: str, tickers: Iterable[str]) -> list[str]:
        """Note more markets; return those that are new."""
        have = self.markets.setdefault(channel, set())
        if have is None:
            return []
        fresh = sorted(set(tickers) - have)
        have.update(fresh)
        return fresh

    def remove(self, channel: str, tickers: Iterable[str]) -> list[str]:
        """Forget markets; return those that were there."""
        have = self.markets.get(channel) or set()
        gone = sorted(set(tickers) & have)
        have.difference_update(gone)
        return gone


class Session:
    """Follows one connection. `outbox` holds commands to be sent; `trusted` the markets whose book can be believed.

    `proven_ms` is the exchange's time (ours for a ping) up to which the trusted books are proven current.
    """

    def __init__(self, wanted: Wanted, *, clock_ms: Callable[[], int], use_yes_price: bool = True) -> None:
        self.outbox: list[bytes] = []
        self.trusted: set[str] = set()
        self.proven_ms: int | None = None
        self._wanted = wanted
        self._clock_ms = clock_ms
        self._use_yes_price = use_yes_price
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[str, str, dict[str, Any]]] = {}
        self._sids: dict[str, int] = {}
        self._channels: dict[int, str] = {}
        self._last_seq: dict[int, int] = {}
        self._snapshot_due: dict[str, int] = {}
        self._later: list[tuple[str, str, dict[str, Any]]] = []

    def open(self) -> None:
        """Subscribe to everything wanted."""
        for channel, tickers in self._wanted.markets.items():
            self._subscribe(channel, tickers)

    def add_markets(self, channel: str, tickers: Iterable[str]) -> None:
        """Subscribe more markets of a channel; those already wanted are left alone."""
        fresh = self._wanted.add(channel, tickers)
        sid = self._sids.get(channel)
        if sid is not None:
            self._update(channel, sid, "add_markets", fresh)
        elif fresh and not self._is_subscribing(channel):
            self._subscribe(channel, fresh)

    def remove_markets(self, channel: str, tickers: Iterable[str]) -> None:
        """Unsubscribe markets of a channel."""
        gone = self._wanted.remove(channel, tickers)
        if channel == BOOKS:
            self._forget(gone)
        sid = self._sids.get(channel)
        if sid is not None:
            self._update(channel, sid, "delete_markets", gone)

    def distrust(self, ticker: str) -> None:
        """Ask for a new snapshot of one book, because its messages describe no real book."""
        if ticker in self.trusted:
            self._ask_snapshots([ticker])

    def tick(self) -> None:
        """Repeat what was put off and ask again for snapshots that did not come. Call every few seconds."""
        later, self._later = self._later, []
        for channel, cmd, params in later:
            self._send(channel, cmd, params)
        now = self._clock_ms()
        overdue = sorted(ticker for ticker, due in self._snapshot_due.items() if due <= now)
        if overdue and BOOKS in self._sids:
            self._ask_snapshots(overdue)

    def ping(self, emit: Emit) -> None:
        """The exchange's ping, or its answer to ours: what it sent before has come, because frames keep their order."""
        self.proven_ms = self._clock_ms()
        self.tick()
        emit(events.Heartbeat(self.proven_ms))

    def receive(self, text: str | bytes, emit: Emit) -> None:
        """Follow one frame. Raises StreamFault when it is not even a frame."""
        try:
            frame = frames.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._unreadable(text, error, emit)
            return
        if type(frame) is frames.Delta:
            self._delta(frame, emit)
        else:
            self._follow(frame, emit)

    def _delta(self, frame: frames.Delta, emit: Emit) -> None:
        """The same as `_follow` and `_dispatch`, without their questions: nearly all frames are changes of a book."""
        sid, seq = frame.sid, frame.seq
        if sid not in self._channels:
            return
        if self._last_seq.get(sid) == seq - 1:
            self._last_seq[sid] = seq
        else:
            self._check(sid, seq, emit)
        self.proven_ms = frame.sending_ts_ms or self._clock_ms()
        if frame.msg.market_ticker in self.trusted:
            try:
                emit(stream_parsing.delta(frame, use_yes_price=self._use_yes_price))
            except UnreadableAnswer as error:
                self._lost(sid, str(error), emit)

    def _follow(self, frame: frames.AnyFrame, emit: Emit) -> None:
        sid, seq = getattr(frame, "sid", 0), getattr(frame, "seq", 0)
        if sid and sid not in self._channels:
            return  # the tail of a subscription that has ended
        if seq:
            self._check(sid, seq, emit)
        self.proven_ms = getattr(frame, "sending_ts_ms", 0) or self._clock_ms()
        try:
            self._dispatch(frame, emit)
        except UnreadableAnswer as error:
            self._lost(sid, str(error), emit)

    def _dispatch(self, frame: frames.AnyFrame, emit: Emit) -> None:
        if isinstance(frame, frames.Snapshot):
            self._snapshot(frame, emit)
        elif (make := stream_parsing.PLAIN.get(type(frame))) is not None:
            emit(make(frame))
        elif isinstance(frame, frames.Subscribed):
            self._subscribed(frame)
        elif isinstance(frame, frames.Error):
            self._error(frame, emit)
        elif isinstance(frame, frames.Unsubscribed):
            self._ended(frame.sid)
        elif isinstance(frame, frames.Ok):
            self._asked.pop(frame.id, None)

    # --- sequence and trust

    def _check(self, sid: int, seq: int, emit: Emit) -> None:
        last = self._last_seq.get(sid)
        self._last_seq[sid] = seq
        if last is not None and seq != last + 1:
            self._lost(sid, f"seq {seq} after {last}", emit)

    def _lost(self, sid: int, reason: str, emit: Emit) -> None:
        channel = self._channels.get(sid, "")
        tickers: tuple[str, ...] = ()
        if channel == BOOKS:
            tickers = tuple(sorted(self._wanted.markets.get(BOOKS) or ()))
            self._ask_snapshots(tickers)
        log.warning("stream.gap", extra={"channel": channel, "reason": reason, "markets": len(tickers)})
        emit(events.Gap(channel, reason, tickers))

    def _unreadable(self, text: str | bytes, error: Exception, emit: Emit) -> None:
        try:
            envelope = frames.decode_envelope(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as second:
            raise StreamFault(f"not a frame: {second}") from error
        known = envelope.sid in self._channels
        if known and envelope.seq:
            self._check(envelope.sid, envelope.seq, emit)
        if envelope.type in frames.KNOWN_TYPES:
            log.error("stream.contract.drift", extra={"type": envelope.type, "error": str(error)})
            self._lost(envelope.sid, f"unreadable {envelope.type}: {error}", emit)

    def _snapshot(self, frame: frames.Snapshot, emit: Emit) -> None:
        event = stream_parsing.snapshot(frame, use_yes_price=self._use_yes_price)
        if event.ticker not in (self._wanted.markets.get(BOOKS) or ()):
            return
        self._snapshot_due.pop(event.ticker, None)
        self.trusted.add(event.ticker)
        emit(event)

    def _ask_snapshots(self, tickers: Collection[str]) -> None:
        self.trusted.difference_update(tickers)
        due = self._clock_ms() + _SNAPSHOT_PATIENCE_MS
        self._snapshot_due.update(dict.fromkeys(tickers, due))
        sid = self._sids.get(BOOKS)
        if sid is not None:
            self._update(BOOKS, sid, "get_snapshot", sorted(tickers))

    def _forget(self, tickers: Iterable[str]) -> None:
        for ticker in tickers:
            self.trusted.discard(ticker)
            self._snapshot_due.pop(ticker, None)

    # --- subscriptions

    def _subscribed(self, frame: frames.Subscribed) -> None:
        sid, channel = frame.msg.sid, frame.msg.channel
        _, _, params = self._asked.pop(frame.id, ("", "", {}))
        self._sids[channel], self._channels[sid] = sid, channel
        wanted = self._wanted.markets.get(channel)
        if wanted:
            self._update(channel, sid, "add_markets", sorted(wanted - set(params.get("market_tickers", ()))))

    def _error(self, frame: frames.Error, emit: Emit) -> None:
        asked = self._asked.pop(frame.id, None)
        channel = asked[0] if asked else self._channels.get(frame.sid, "")
        log.warning(
            "stream.error", extra={"number": frame.msg.code, "channel": channel, "text": frame.msg.msg}
        )
        if frame.msg.code in TERMINAL:
            self._terminal(frame, channel, emit)
        elif asked and frame.msg.code in _REPEATABLE:
            self._later.append(asked)
        else:
            emit(events.Rejected(channel, frame.msg.code, frame.msg.msg))

    def _terminal(self, frame: frames.Error, channel: str, emit: Emit) -> None:
        sid = frame.sid or self._sids.get(channel, 0)
        if not sid:
            raise StreamFault(f"error {frame.msg.code} without a subscription: {frame.msg.msg}")
        ended = self._ended(sid)
        wanted = self._wanted.markets.get(ended)
        tickers = tuple(sorted(wanted or ())) if ended == BOOKS else ()
        self._subscribe(ended, wanted)
        emit(events.Gap(ended, f"error {frame.msg.code}: {frame.msg.msg}", tickers))

    def _ended(self, sid: int) -> str:
        channel = self._channels.pop(sid, "")
        self._sids.pop(channel, None)
        self._last_seq.pop(sid, None)
        if channel == BOOKS:
            self.trusted.clear()
        return channel

    def _is_subscribing(self, channel: str) -> bool:
        return any(cmd == "subscribe" and of == channel for of, cmd, _ in self._asked.values())

    # --- commands

    def _subscribe(self, channel: str, tickers: Collection[str] | None) -> None:
        params: dict[str, Any] = {"channels": [channel]}
        if channel == BOOKS:
            # The default will flip one day (API.md 14): always said.
            params["use_yes_price"] = self._use_yes_price
        if tickers is not None:
            if not tickers:
                return
            first = sorted(tickers)[:_TICKERS_A_COMMAND]
            params["market_tickers"] = first
        if channel == BOOKS and tickers:
            due = self._clock_ms() + _SNAPSHOT_PATIENCE_MS
            self._snapshot_due.update(dict.fromkeys(tickers, due))
        self._send(channel, "subscribe", params)

    def _update(self, channel: str, sid: int, action: str, tickers: list[str]) -> None:
        if channel == BOOKS and action == "add_markets":
            due = self._clock_ms() + _SNAPSHOT_PATIENCE_MS
            self._snapshot_due.update(dict.fromkeys(tickers, due))
        for group in _groups(tickers):
            params: dict[str, Any] = {"sids": [sid], "market_tickers": group, "action": action}
            self._send(channel, "update_subscription", params)

    def _send(self, channel: str, cmd: str, params: dict[str, Any]) -> None:
        number = next(self._ids)
        self._asked[number] = (channel, cmd, params)
        self.outbox.append(msgspec.json.encode(frames.Command(number, cmd, params)))


def _groups(tickers: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(tickers), _TICKERS_A_COMMAND):
        yield tickers[start : start + _TICKERS_A_COMMAND]
