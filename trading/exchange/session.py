"""One connection's frames, without any I/O: frames in, books and events out, commands to send in `outbox`.

The rules (API.md 14, "Order book maintenance"):

1. `seq` counts the frames of one subscription (sid), all its markets and the replies to commands together.
2. After a gap every book of that subscription is untrusted; `get_snapshot` is sent, and a book is trusted again when
   its snapshot has come. Until then its changes are withheld: they have nothing to build on.
3. A change that describes no real book makes that book untrusted in the same way.
4. Errors 10 and 25 end a subscription: it is subscribed anew.
5. A frame that we cannot read counts as lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from trading.domain.book import LOTS, BookFault
from trading.exchange import events, frames, stream_parsing
from trading.exchange import public_frames as public
from trading.exchange.bookkeeping import NO_ROWS, Bookkeeper, KeptBooks, Teller
from trading.exchange.channels import BOOKS, Wanted
from trading.exchange.commands import Commands
from trading.exchange.drift import Ear
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.snapshots_due import SnapshotsDue
from trading.exchange.subscriptions import Subscription, Subscriptions

log = logging.getLogger(__name__)

TERMINAL: Final = frozenset({10, 25})
_HEARD_MASK: Final = 15  # of changes of books the sentinel hears few, and compares fewer
_NO_SUBSCRIPTION: Final = Subscription(0, "", ())
_NO_SUBSCRIPTION.last_seq = -2  # no frame follows it

Emit = Callable[[events.StreamEvent], None]


class StreamFault(Exception):
    """The connection says nothing that we can follow: drop it and connect anew."""

    code = "E609"


class Session:
    """Follows one connection and emits events; books go to the `keeper`, by default as events too.

    `clocks` is the latest pair (the exchange's sending time, ours at receipt) of a frame that is no change of a book,
    in Unix ms.
    """

    def __init__(
        self,
        wanted: Wanted,
        emit: Emit,
        *,
        clock_ms: Callable[[], int],
        use_yes_price: bool = True,
        keeper: Bookkeeper | None = None,
        options: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.clocks: tuple[int, int] | None = None
        self._wanted = wanted
        self._emit = emit
        self._clock_ms = clock_ms
        self._use_yes_price = use_yes_price
        self._books = KeptBooks(keeper or Teller(emit), use_yes_price=use_yes_price)
        self._ear = Ear()
        self._last: str | bytes = b""
        self._pinged_ms: int | None = None
        self._ticked_ms = clock_ms()
        self._due = SnapshotsDue(clock_ms)
        # The default of the scale will flip one day (API.md 14): always said.
        told = {**(options or {}), BOOKS: {"use_yes_price": use_yes_price}}
        self._commands = Commands(clock_ms)
        self._subscriptions = Subscriptions(wanted, self._commands, emit, told)
        self._by_sid = self._subscriptions.by_sid

    @property
    def proven_ms(self) -> int | None:
        """The exchange's time up to which the trusted books are proven current; ours where a ping is the proof.

        Read from the last frame when it is asked for: frames come by the thousand, this question once a second. A frame
        without the time of its sending proves no more than that it came after our last look at the clock.
        """
        if not self._last:
            return self._pinged_ms
        return frames.sent_ms(self._last) or self._ticked_ms

    @property
    def outbox(self) -> list[bytes]:
        return self._commands.outbox

    @property
    def trusted(self) -> Collection[str]:
        """The markets whose book can be believed."""
        return self._books.kept.keys()

    def open(self) -> None:
        """Subscribe to everything wanted."""
        self._subscriptions.open()
        self._due.first(self._wanted.markets.get(BOOKS) or ())

    def close(self) -> None:
        """The connection is gone: no book of it can be believed any more."""
        self._books.forget(list(self._books.kept))

    def add_markets(self, channel: str, tickers: Iterable[str]) -> None:
        """Follow more markets of a channel; those already wanted are left alone."""
        fresh = self._subscriptions.add(channel, tickers)
        if channel == BOOKS:
            self._due.first(fresh)

    def remove_markets(self, channel: str, tickers: Iterable[str]) -> None:
        """Follow these markets of a channel no longer."""
        gone = self._subscriptions.remove(channel, tickers)
        if channel == BOOKS:
            self._books.forget(gone)
            self._due.drop(gone)

    def unsubscribe(self, channel: str) -> None:
        """End a channel for good."""
        if channel == BOOKS:
            self._books.forget(list(self._books.kept))
            self._due.clear()
        self._subscriptions.unsubscribe(channel)

    def ask_subscriptions(self) -> None:
        """Ask what the exchange thinks we have subscribed; the answer is the event `Subscribed`."""
        self._subscriptions.ask_list()

    def ask_names(self, channel: str) -> None:
        """Ask an index channel what it offers; the answer is the event `IndexNames`."""
        self._subscriptions.ask_names(channel)

    def distrust(self, ticker: str) -> None:
        """A book turned out impossible where it is kept: fetch a new snapshot."""
        if ticker in self._books.kept:
            self._doubt([ticker])

    def tick(self) -> None:
        """Repeat what was put off and ask again for snapshots that did not come. Call a few times a second."""
        self._ticked_ms = self._clock_ms()
        self._subscriptions.tick()
        self._subscriptions.ask_snapshots(self._due.take_overdue())

    def ping(self) -> None:
        """The exchange's ping, or its answer to ours: what it sent before has come, because frames keep their order."""
        self._pinged_ms, self._last = self._clock_ms(), b""
        self.tick()
        self._emit(events.Heartbeat(self._pinged_ms))

    def receive(self, text: str | bytes) -> None:
        """Follow one frame. Raises StreamFault when it is not even a frame."""
        self.receive_all((text,))

    def receive_all(self, texts: Sequence[str | bytes]) -> None:  # noqa: C901, PLR0915 - the hot path in one piece
        """Follow frames in the order of their arrival. Raises StreamFault at the first that is not even a frame.

        Nearly all frames are changes of a level that stands, in a book that we keep. Those are followed here without a
        call or an object more than they need; everything else goes one of the long ways below.
        """
        decode, delta, by_sid, lots_of = frames.decode, public.Delta, self._by_sid, LOTS.known
        rows, changed = self._books.rows, self._books.changed
        sid, subscription = 0, _NO_SUBSCRIPTION
        ticker, yes, no = "", *NO_ROWS  # a market changes several times in a row
        before: str | bytes = b""
        for text in texts:
            try:
                frame = decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._unreadable(text, error)
                continue
            if type(frame) is not delta:
                changed[ticker] = before
                self._follow(frame, text)
                sid, ticker = 0, ""  # it may have begun or ended a subscription or a book
                continue
            if frame.sid != sid:
                sid = frame.sid
                subscription = by_sid.get(sid, _NO_SUBSCRIPTION)
            if frame.seq == subscription.last_seq + 1:
                subscription.last_seq = frame.seq
            elif not self._is_followed(subscription, frame.seq):
                continue
            told = frame.msg
            if told.market_ticker != ticker:
                changed[ticker] = before
                ticker = told.market_ticker
                yes, no = rows.get(ticker, NO_ROWS)
            before = text
            slots, row, begin = yes if told.side == "yes" else no
            try:
                slot, change = slots[told.price_dollars], lots_of[told.delta_fp]
                held = row[slot]
                if held and (total := held + change) >= 0:
                    row[slot] = total
                    continue
                if change > 0:
                    begin(slot, change)
                    continue
            except (KeyError, ValueError, BookFault):
                pass  # a price or a count not read before, a book that we do not keep, or one that cannot be true
            self._change(told, text)
            yes, no = rows.get(ticker, NO_ROWS)
        changed[ticker] = before
        self._last = texts[-1]
        self._books.stamp()
        if sid and not subscription.last_seq & _HEARD_MASK:
            self._ear.heard(delta, texts[-1])

    def _change(self, told: public.DeltaBody, text: str | bytes) -> None:
        try:
            self._books.change(told, text)
        except (BookFault, ValueError) as error:
            self._impossible(told.market_ticker, text, error)

    def _follow(self, frame: frames.AnyFrame, text: str | bytes) -> None:
        sid, seq = getattr(frame, "sid", 0), getattr(frame, "seq", 0)
        subscription = self._by_sid.get(sid)
        if sid and subscription is None:
            return  # the tail of a subscription that has ended
        if subscription is not None and seq:
            self._check(subscription, seq)
        sent = getattr(frame, "sending_ts_ms", 0)
        if sent:
            self.clocks = (sent, self._clock_ms())
        self._ear.heard(type(frame), text)
        try:
            self._dispatch(frame)
        except UnreadableAnswer as error:
            self._ear.failed(text, error)
            if subscription is not None:
                self._lost(subscription, str(error))

    def _dispatch(self, frame: frames.AnyFrame) -> None:
        if isinstance(frame, public.Snapshot):
            self._snapshot(frame)
        elif (make := stream_parsing.PLAIN.get(type(frame))) is not None:
            self._emit(make(frame))
        elif isinstance(frame, frames.Subscribed):
            self._subscriptions.subscribed(frame)
        elif isinstance(frame, frames.Error):
            self._error(frame)
        elif isinstance(frame, frames.Unsubscribed):
            self._ended(frame.sid)
        elif isinstance(frame, frames.Ok):
            self._ok(frame)

    # --- sequence and trust

    def _is_followed(self, subscription: Subscription, seq: int) -> bool:
        """False for the tail of a subscription that has ended; otherwise its sequence has been checked."""
        if subscription is _NO_SUBSCRIPTION:
            return False
        self._check(subscription, seq)
        return True

    def _check(self, subscription: Subscription, seq: int) -> None:
        last, subscription.last_seq = subscription.last_seq, seq
        if last and seq != last + 1:
            self._lost(subscription, f"seq {seq} after {last}")

    def _lost(self, subscription: Subscription, reason: str) -> None:
        """Frames of this subscription are missing: each of its books may lack a change."""
        channel = subscription.channel
        tickers = tuple(sorted(subscription.keys or ())) if channel == BOOKS else ()
        self._doubt(tickers)
        log.warning("stream.gap", extra={"channel": channel, "reason": reason, "markets": len(tickers)})
        self._emit(events.Gap(channel, reason, tickers))

    def _impossible(self, ticker: str, text: str | bytes, error: Exception) -> None:
        """The frames are complete, but one says what cannot be true of its book."""
        if not isinstance(error, BookFault):
            self._ear.failed(text, error)
        log.warning("stream.book.fault", extra={"ticker": ticker, "fault": str(error)})
        self._doubt([ticker])
        self._emit(events.Gap(BOOKS, str(error), (ticker,)))

    def _unreadable(self, text: str | bytes, error: Exception) -> None:
        self._ear.failed(text, error)
        try:
            envelope = frames.decode_envelope(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as second:
            raise StreamFault(f"not a frame: {second}") from error
        subscription = self._by_sid.get(envelope.sid)
        if subscription is not None and envelope.seq:
            self._check(subscription, envelope.seq)
        if envelope.type in frames.KNOWN_TYPES:
            log.error("stream.contract.drift", extra={"type": envelope.type, "error": str(error)})
            if subscription is not None:
                self._lost(subscription, f"unreadable {envelope.type}: {error}")

    def _snapshot(self, frame: public.Snapshot) -> None:
        ticker = frame.msg.market_ticker
        if ticker not in (self._wanted.markets.get(BOOKS) or ()):
            return
        snapshot = stream_parsing.snapshot(frame, use_yes_price=self._use_yes_price)
        try:
            self._books.begin(snapshot)
        except BookFault as fault:
            # Asked again only after a while: an exchange that shows a crossed book will do so for longer.
            log.warning("stream.book.fault", extra={"ticker": ticker, "fault": str(fault)})
            self._due.first([ticker])
            self._emit(events.Gap(BOOKS, str(fault), (ticker,)))
            return
        self._due.drop([ticker])

    def _doubt(self, tickers: Collection[str]) -> None:
        self._books.forget(tickers)
        self._subscriptions.ask_snapshots(self._due.ask(tickers))

    # --- answers to commands

    def _ok(self, frame: frames.Ok) -> None:
        self._commands.accepted(frame.id)
        if isinstance(frame.msg, list):
            try:
                listed = msgspec.convert(frame.msg, list[frames.SubscribedBody])
            except msgspec.ValidationError as error:
                raise UnreadableAnswer(f"unreadable list of subscriptions: {error}") from error
            self._emit(events.Subscribed(tuple((each.channel, each.sid) for each in listed)))

    def _error(self, frame: frames.Error) -> None:
        asked = self._commands.answered(frame.id)
        found = self._by_sid.get(frame.sid)
        channel = asked.channel if asked else "" if found is None else found.channel
        code, text = frame.msg.code, frame.msg.msg
        log.warning("stream.error", extra={"number": code, "channel": channel, "text": text})
        if code in TERMINAL:
            self._terminal(frame, channel)
        elif asked is not None:
            self._subscriptions.refused(frame.id, asked, code, text)
        else:
            self._emit(events.Rejected(channel, code, text))

    def _terminal(self, frame: frames.Error, channel: str) -> None:
        reason = f"error {frame.msg.code}: {frame.msg.msg}"
        sids = [frame.sid] if frame.sid else [each.sid for each in self._subscriptions.of(channel)]
        if len(sids) != 1:
            raise StreamFault(f"{reason} without a subscription")
        self._ended(sids[0], reason)

    def _ended(self, sid: int, reason: str = "unsubscribed") -> None:
        over = self._subscriptions.ended(sid)
        if over is None:
            return
        tickers = tuple(sorted(over.keys or ())) if over.channel == BOOKS else ()
        self._books.forget(tickers)
        self._due.first(tickers)
        self._emit(events.Gap(over.channel, reason, tickers))
