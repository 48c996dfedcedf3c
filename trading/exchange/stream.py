"""The live connection: a signed websocket that comes back by itself and delivers events (see `events`).

Whoever uses private channels reconciles by REST on every `Connected`: those channels have no sequence and no replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from trading.exchange import tls
from trading.exchange.auth import Signer
from trading.exchange.bookkeeping import Bookkeeper
from trading.exchange.channels import Channel, Wanted
from trading.exchange.events import Connected, Disconnected, StreamEvent
from trading.exchange.inbox import ALIVE, Inbox, Message, Socket
from trading.exchange.session import Session, StreamFault
from trading.exchange.venue_clock import wall_clock_ms

log = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 25.0  # the exchange pings about every 10 s; two missed pings and a half
LONGEST_PAUSE: Final = 60.0
HEALTH_SECONDS: Final = (
    10.0  # a connection that held so long was good: the next loss begins with a short pause
)
PING_SECONDS: Final = (
    3.0  # our own pings: their answers prove quiet books within the age that the rules allow
)
_WATCH_SECONDS: Final = 0.25
_CONNECT_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0  # an exchange that is silent will not say goodbye either
_LARGEST_MESSAGE: Final = 64 * 1024 * 1024

Sink = Callable[[StreamEvent], None]
Tap = Callable[[int, str | bytes], None]
Channels = dict[Channel, Collection[str] | None]


def reconnect_pause(attempt: int, share: float) -> float:
    """Seconds before the try number `attempt` (from 0): a `share` (0..1, drawn at random) of 1, 2, 4 … 60.

    Full jitter: a thousand clients that lost the same exchange do not come back in the same second.
    """
    return min(LONGEST_PAUSE, float(2 ** min(attempt, 6))) * share


class Stream:
    """Delivers the events of the wanted channels to a sink, over as many connections as it takes.

    With a `keeper` (see `bookkeeping`) the books go there and not to the sink. `options` are further parameters of a
    channel's `subscribe`. `health` is the time in seconds after which a connection counts as good.

    `tap` is called with (our Unix ms, the frame as it came) for every data frame, before anything is made of it, even
    of one that nobody can read. It must not block; what it raises ends the run. Connections begin and end in the
    sink's `Connected` and `Disconnected`, in order with the tap's calls.
    """

    def __init__(
        self,
        ws_url: str,
        signer: Signer,
        channels: Channels,
        *,
        keeper: Bookkeeper | None = None,
        options: dict[str, dict[str, Any]] | None = None,
        use_yes_price: bool = True,
        silence: float = SILENCE_SECONDS,
        health: float = HEALTH_SECONDS,
        clock_ms: Callable[[], int] = wall_clock_ms,
        sign_ms: Callable[[], int] | None = None,
        share: Callable[[], float] = random.random,
        tap: Tap | None = None,
    ) -> None:
        self._url = ws_url
        self._path = urlsplit(ws_url).path
        self._signer = signer
        self._wanted = Wanted(channels)
        self._keeper = keeper
        self._options = options
        self._use_yes_price = use_yes_price
        self._silence = silence
        self._health = health
        self._clock_ms = clock_ms
        self._sign_ms = sign_ms or clock_ms  # the exchange's time, where it is known
        self._share = share
        self._tap = tap
        self._session: Session | None = None
        self._socket: Socket | None = None
        self._stop = asyncio.Event()
        self._sending = asyncio.Lock()
        self._heard = False
        self._is_silent = False

    async def run(self, sink: Sink) -> None:
        """Deliver events until `stop`. The sink is called in order and must not block; what it raises ends the run."""
        attempt = 0
        connector = aiohttp.TCPConnector(ssl=tls.context())
        async with aiohttp.ClientSession(connector=connector) as http:
            while not self._stop.is_set():
                began = time.monotonic()
                reason = await self._connect_and_follow(http, sink)
                if self._stop.is_set():
                    return
                if time.monotonic() - began >= self._health:
                    attempt = 0
                pause = reconnect_pause(attempt, self._share())
                attempt += 1
                log.warning("stream.disconnected", extra={"reason": reason, "retry_in": pause})
                sink(Disconnected(reason, pause))
                await self._wait(pause)

    async def stop(self) -> None:
        """Close the connection and let `run` return."""
        self._stop.set()
        if self._socket is not None:
            await self._socket.close()

    async def add_markets(self, channel: Channel, tickers: Iterable[str]) -> None:
        """Follow more markets, now and after every reconnect."""
        if self._session is None:
            self._wanted.add(channel, tickers)
            return
        self._session.add_markets(channel, tickers)
        await self._flush_if_open()

    async def remove_markets(self, channel: Channel, tickers: Iterable[str]) -> None:
        """Follow these markets no longer."""
        if self._session is None:
            self._wanted.remove(channel, tickers)
            return
        self._session.remove_markets(channel, tickers)
        await self._flush_if_open()

    async def unsubscribe(self, channel: Channel) -> None:
        """Follow nothing of this channel any more, now and after every reconnect."""
        if self._session is None:
            self._wanted.markets.pop(channel, None)
            return
        self._session.unsubscribe(channel)
        await self._flush_if_open()

    async def ask_subscriptions(self) -> None:
        """Ask what the exchange thinks that we have subscribed; the event `Subscribed` answers."""
        if self._session is not None:
            self._session.ask_subscriptions()
            await self._flush_if_open()

    async def ask_names(self, channel: Channel) -> None:
        """Ask an index channel what it offers; the event `IndexNames` answers."""
        if self._session is not None:
            self._session.ask_names(channel)
            await self._flush_if_open()

    def distrust(self, ticker: str) -> None:
        """A book made of this stream turned out impossible: fetch a new snapshot. May be called by the sink."""
        if self._session is not None:
            self._session.distrust(ticker)

    @property
    def trusted(self) -> frozenset[str]:
        """The markets whose books can be believed at this moment."""
        return frozenset() if self._session is None else frozenset(self._session.trusted)

    @property
    def proven_ms(self) -> int | None:
        """Up to when the trusted books are proven current (Unix ms); None without a connection."""
        return None if self._session is None else self._session.proven_ms

    @property
    def clocks(self) -> tuple[int, int] | None:
        """(The exchange's time of sending, ours at receipt) of a late frame, in Unix ms: fit to measure the skew."""
        return None if self._session is None else self._session.clocks

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _connect_and_follow(self, http: aiohttp.ClientSession, sink: Sink) -> str:
        try:
            socket = await self._connect(http)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return tls.fault(error) or f"no connection: {_told(error)}"
        self._session = session = Session(
            self._wanted,
            sink,
            clock_ms=self._clock_ms,
            use_yes_price=self._use_yes_price,
            keeper=self._keeper,
            options=self._options,
        )
        self._socket = socket
        inbox = Inbox(socket)
        duties = [
            asyncio.create_task(_or_hang_up(socket, each))
            for each in (
                inbox.fill,
                lambda: _keep_pinging(socket),
                lambda: self._watch(socket, session),
            )
        ]
        try:
            sink(Connected(self._clock_ms()))
            session.open()
            await self._flush()
            return await self._follow(inbox, session)
        except (aiohttp.ClientError, OSError, StreamFault) as error:
            return repr(error)
        finally:
            session.close()
            self._session = self._socket = None
            for duty in duties:
                duty.cancel()
            await socket.close()

    async def _connect(self, http: aiohttp.ClientSession) -> Socket:
        headers = self._signer.headers("GET", self._path, self._sign_ms())
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await http.ws_connect(
                self._url,
                headers=headers,
                autoping=False,
                compress=0,
                max_msg_size=_LARGEST_MESSAGE,
                timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE_SECONDS),
                decode_text=False,
            )

    async def _follow(self, inbox: Inbox, session: Session) -> str:
        outbox = session.outbox
        while True:
            for texts, message in inbox.parted(await inbox.take()):
                self._heard = True
                if texts:
                    self._tell_tap(texts)
                    session.receive_all(texts)
                if message is None:
                    continue
                if message.type not in ALIVE:
                    return self._farewell(inbox, message)
                if message.type is aiohttp.WSMsgType.PING:
                    await inbox.socket.pong(message.data)
                session.ping()
            if outbox:
                await self._flush()

    def _tell_tap(self, texts: Sequence[str | bytes]) -> None:
        if self._tap is not None:
            now = self._clock_ms()
            for text in texts:
                self._tap(now, text)

    def _farewell(self, inbox: Inbox, message: Message) -> str:
        if self._is_silent:
            return f"silent for {self._silence:.0f} s"
        return f"closed by the exchange: {message.type.name} {inbox.socket.close_code}"

    async def _watch(self, socket: Socket, session: Session) -> None:
        """Any frame proves life; none for too long ends the connection. Meanwhile let the session repeat itself.

        Looked at a few times a second, because a timer for each frame costs as much as reading the frame.
        """
        self._is_silent = False
        heard_at = time.monotonic()
        while True:
            await asyncio.sleep(min(_WATCH_SECONDS, self._silence / 2))
            if self._heard:
                self._heard, heard_at = False, time.monotonic()
            elif time.monotonic() - heard_at >= self._silence:
                self._is_silent = True
                await socket.close()
                return
            session.tick()
            await self._flush_if_open()

    async def _flush_if_open(self) -> None:
        """What a broken connection does not take is wanted all the same: the next one subscribes it."""
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._flush()

    async def _flush(self) -> None:
        session, socket = self._session, self._socket
        if session is None or socket is None:
            return
        async with self._sending:  # commands keep their order
            while session.outbox:
                await socket.send_str(session.outbox.pop(0).decode())


def _told(error: BaseException) -> str:
    """What went wrong. A refused handshake in its short form: the long one shows the request with our signature."""
    return str(error) if isinstance(error, aiohttp.ClientResponseError) else repr(error)


async def _or_hang_up(socket: Socket, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A connection that lost one of its duties, such as the watch over its silence, is not to be trusted."""
    try:
        await duty()
    except Exception:
        log.exception("stream.duty.broke")
        await socket.close()


async def _keep_pinging(socket: Socket) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while not socket.closed:
            await asyncio.sleep(PING_SECONDS)
            await socket.ping()


def open_stream(
    ws_url: str,
    signer: Signer,
    channels: Channels,
    *,
    keeper: Bookkeeper | None = None,
    tap: Tap | None = None,
    sign_ms: Callable[[], int] | None = None,
) -> Stream:
    """A stream of the given channels; a channel's markets, or None for all that it offers. See `Stream`.

    `sign_ms` is the time to sign with, such as `VenueClock.now_ms`.
    """
    return Stream(ws_url, signer, channels, keeper=keeper, tap=tap, sign_ms=sign_ms)
