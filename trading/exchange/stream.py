"""The live connection: a signed websocket that comes back by itself and delivers events (see `events`).

Whoever uses private channels reconciles by REST on every `Connected`: those channels have no sequence and no replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from trading.exchange.auth import Signer
from trading.exchange.events import Connected, Disconnected, StreamEvent
from trading.exchange.session import Channel, Session, StreamFault, Wanted
from trading.exchange.transport import wall_clock_ms

log = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 25.0  # the exchange pings about every 10 s; two missed pings and a half
LONGEST_PAUSE: Final = 60.0
PING_SECONDS: Final = (
    3.0  # our own pings: their answers prove quiet books within the age that the rules allow
)
_SETTLED_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0  # an exchange that is silent will not say goodbye either
_LARGEST_MESSAGE: Final = 64 * 1024 * 1024
_TEXT: Final = frozenset({aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY})

Sink = Callable[[StreamEvent], None]


def reconnect_pause(attempt: int, share: float) -> float:
    """Seconds before the try number `attempt` (from 0): a `share` (0..1, drawn at random) of 1, 2, 4 … 60.

    Full jitter: a thousand clients that lost the same exchange do not come back in the same second.
    """
    return min(LONGEST_PAUSE, float(2 ** min(attempt, 6))) * share


class Stream:
    """Delivers the events of the wanted channels to a sink, over as many connections as it takes."""

    def __init__(
        self,
        ws_url: str,
        signer: Signer,
        channels: dict[Channel, Collection[str] | None],
        *,
        use_yes_price: bool = True,
        silence: float = SILENCE_SECONDS,
        clock_ms: Callable[[], int] = wall_clock_ms,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._url = ws_url
        self._path = urlsplit(ws_url).path
        self._signer = signer
        self._wanted = Wanted(channels)
        self._use_yes_price = use_yes_price
        self._silence = silence
        self._clock_ms = clock_ms
        self._share = share
        self._session: Session | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._stop = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        """Deliver events until `stop`. The sink is called in order and must not block; what it raises ends the run."""
        attempt = 0
        async with aiohttp.ClientSession() as http:
            while not self._stop.is_set():
                began = time.monotonic()
                reason = await self._connect_and_follow(http, sink)
                if self._stop.is_set():
                    return
                if time.monotonic() - began >= _SETTLED_SECONDS:
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
        await self._flush()

    async def remove_markets(self, channel: Channel, tickers: Iterable[str]) -> None:
        """Follow these markets no longer."""
        if self._session is None:
            self._wanted.remove(channel, tickers)
            return
        self._session.remove_markets(channel, tickers)
        await self._flush()

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

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _connect_and_follow(self, http: aiohttp.ClientSession, sink: Sink) -> str:
        try:
            socket = await self._connect(http)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return f"no connection: {error!r}"
        self._session = Session(self._wanted, clock_ms=self._clock_ms, use_yes_price=self._use_yes_price)
        self._socket = socket
        pinging = asyncio.create_task(_keep_pinging(socket))
        try:
            sink(Connected(self._clock_ms()))
            self._session.open()
            await self._flush()
            return await self._follow(socket, self._session, sink)
        except TimeoutError:
            return f"silent for {self._silence:.0f} s"
        except (aiohttp.ClientError, OSError, StreamFault) as error:
            return repr(error)
        finally:
            self._session = self._socket = None
            pinging.cancel()
            await socket.close()

    async def _connect(self, http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        headers = self._signer.headers("GET", self._path, self._clock_ms())
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await http.ws_connect(
                self._url,
                headers=headers,
                autoping=False,
                compress=0,
                max_msg_size=_LARGEST_MESSAGE,
                timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE_SECONDS),
            )

    async def _follow(self, socket: aiohttp.ClientWebSocketResponse, session: Session, sink: Sink) -> str:
        while True:
            message = await socket.receive(self._silence)
            if message.type in _TEXT:
                session.receive(message.data, sink)
            elif message.type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
                session.ping(sink)
            elif message.type is not aiohttp.WSMsgType.PONG:
                return f"closed by the exchange: {message.type.name} {socket.close_code}"
            else:
                session.ping(sink)
            if session.outbox:
                await self._flush()

    async def _flush(self) -> None:
        session, socket = self._session, self._socket
        if session is None or socket is None:
            return
        while session.outbox:
            await socket.send_str(session.outbox.pop(0).decode())


async def _keep_pinging(socket: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while not socket.closed:
            await asyncio.sleep(PING_SECONDS)
            await socket.ping()


def open_stream(ws_url: str, signer: Signer, channels: dict[Channel, Collection[str] | None]) -> Stream:
    """A stream of the given channels; a channel's markets, or None for all that it offers."""
    return Stream(ws_url, signer, channels)
