"""HTTP to the exchange: warm connections, explicit limits of time, no repeat and no redirect anywhere.

Reads share one pool. Order writes go over a `WriteLine`, a connection of its own that does nothing else, because only
there can we say honestly whether a byte of the request has left us:

    Unreachable   the connection could not be made: no byte was written
    TooLate       it was too late to send: no byte was written
    Untrusted     the same, because the certificate did not prove that it is the exchange
    NoAnswer      anything that happened after the first byte
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import SSLError as TLSError

from trading.domain.breaker import Breaker
from trading.exchange import drift, tls
from trading.exchange.answering import Answering
from trading.exchange.auth import Signer
from trading.exchange.errors import NoAnswer, TooLate, Unreachable, Unsent, Untrusted
from trading.exchange.link import Link
from trading.exchange.tariff import Charge
from trading.exchange.venue_clock import VenueClock

_CHUNK: Final = 64 * 1024
_LARGEST_ANSWER: Final = 64 * 1024 * 1024
_HEADERS: Final = {"Accept": "application/json", "User-Agent": "kalshi-ops"}
_BROKEN = (HTTPError, http.client.HTTPException, OSError, ValueError)

Parameters = Mapping[str, str | int | list[str]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to make a connection, to wait for the next bytes, for the whole request, and before it for tokens."""

    connect: float = 2.0
    read: float = 5.0
    total: float = 10.0
    budget: float = 20.0


WRITE_TIMEOUTS: Final = Timeouts(connect=2.0, read=5.0, total=5.0, budget=1.0)  # RELIABILITY.md 3.1, step 3


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: status and body, as received; when it was asked for and came (`VenueClock.monotonic`, s)."""

    status: int
    body: bytes
    sent: float = 0.0
    received: float = 0.0


@dataclass(frozen=True, slots=True)
class Origin:
    """A base URL taken apart: scheme, host, port, and the path that every request begins with."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, rest_url: str) -> Origin:
        """Read a base URL such as `https://host/trade-api/v2`. Raises ValueError when it is none."""
        parts = urlsplit(rest_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{rest_url!r} is not an http address")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


class Transport:
    """GET requests over one warm pool. Thread-safe. Signs, by the exchange's time, when it was given a signer."""

    def __init__(
        self,
        rest_url: str,
        signer: Signer | None = None,
        *,
        timeouts: Timeouts = Timeouts(),
        link: Link | None = None,
    ) -> None:
        self.origin = Origin.parse(rest_url)
        self.link = link or Link()
        self._signer = signer
        self._timeouts = timeouts
        self._pool = _pool(self.origin)

    def get(self, resource: str, parameters: Parameters | None = None) -> Answer:
        """One GET of `resource` (below the base path). Raises Unsent or NoAnswer; an error status is an answer."""
        budget = self.link.budget
        charge = budget.tariff.charge("GET", resource, is_signed=self._signer is not None)
        budget.take(charge, patience=self._timeouts.budget)
        path = self.origin.path + resource
        target = f"{path}?{urlencode(parameters, doseq=True)}" if parameters else path
        headers = dict(_HEADERS)
        if self._signer is not None:
            headers |= self._signer.headers("GET", path, self.link.clock.now_ms())
        answer = self._fetch(target, headers)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            budget.throttled(charge)
        drift.sentinel().answer("GET", resource, answer.status, answer.body)
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def _fetch(self, target: str, headers: Mapping[str, str]) -> Answer:
        limits, clock = self._timeouts, self.link.clock
        deadline = time.monotonic() + limits.total
        sent = clock.monotonic()
        try:
            response = self._pool.urlopen(
                "GET",
                target,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=limits.connect, read=limits.read, total=limits.total),
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise Unreachable(f"no connection to {self.origin.host}: {error}") from error
        except TLSError as error:
            raise Untrusted(f"{self.origin.host}: {tls.fault(error)}") from error
        except _BROKEN as error:
            raise NoAnswer(f"GET {target}: {error!r}") from error
        received = _learn_time(clock, response, sent)
        return Answer(response.status, _read_until(response, deadline, target), sent, received)


def _learn_time(clock: VenueClock, response: urllib3.BaseHTTPResponse, sent: float) -> float:
    """Let the clock learn from an answer's head; returns when it came."""
    received = clock.monotonic()
    headers = response.headers
    clock.heard_date(headers.get("Date"), sent=sent, received=received, age=headers.get("Age"))
    return received


def _pool(origin: Origin) -> urllib3.HTTPConnectionPool:
    if origin.scheme == "https":
        return urllib3.HTTPSConnectionPool(origin.host, origin.port, maxsize=4, ssl_context=tls.context())
    return urllib3.HTTPConnectionPool(origin.host, origin.port, maxsize=4)


def _read_until(response: urllib3.BaseHTTPResponse, deadline: float, target: str) -> bytes:
    """The whole body. An answer that is cut short, too large or too slow is no answer."""
    chunks, size = [], 0
    try:
        while chunk := response.read1(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > _LARGEST_ANSWER or time.monotonic() > deadline:
                response.close()
                raise NoAnswer(f"{target}: stopped reading after {size} bytes")
    except _BROKEN as error:
        response.close()
        raise NoAnswer(f"{target}: the answer broke off: {error!r}") from error
    response.release_conn()
    return b"".join(chunks)


def counted(breaker: Breaker, ask: Callable[[], Answer]) -> Answer:
    """Ask, and let the breaker know whether the exchange is there. A refusal is an answer; a server fault is none.

    Raises what `ask` raises. Requests that never left for a reason of our own (budget, clock) count as nothing.
    """
    try:
        answer = ask()
    except (Unreachable, NoAnswer) as error:
        breaker.failed(str(error))
        raise
    except Unsent:
        breaker.unused()
        raise
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        breaker.failed(f"HTTP {answer.status}")
    else:
        breaker.succeeded()
    return answer


class WriteLine:
    """One warm connection for order writes, used by one request at a time. Never repeats anything."""

    def __init__(
        self,
        rest_url: str,
        signer: Signer,
        *,
        timeouts: Timeouts = WRITE_TIMEOUTS,
        link: Link | None = None,
    ) -> None:
        self.origin = Origin.parse(rest_url)
        self.link = link or Link()
        self._signer = signer
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._connection = self._new_connection()

    def send(
        self,
        method: str,
        resource: str,
        *,
        signed_ts_ms: int | None = None,
        body: bytes | None = None,
        parameters: Parameters | None = None,
        send_before: float | None = None,
        items: int = 1,
        exchange_index: int | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Answer:
        """Send one request once and return the answer, whatever its status.

        `signed_ts_ms` goes into the signature (else the time of the send); `send_before` is a `time.monotonic()` moment
        after which no first byte is written; `items` and `exchange_index` say what is billed; `meanwhile` is called
        between the last byte and the answer. Raises Unsent when no byte was written and NoAnswer for all after that.
        """
        charge = self._take_tokens(method, resource, send_before, items, exchange_index)
        path = self.origin.path + resource
        target = f"{path}?{urlencode(parameters, doseq=True)}" if parameters else path
        signed = self.link.clock.now_ms() if signed_ts_ms is None else signed_ts_ms
        headers = _HEADERS | self._signer.headers(method, path, signed)
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self._lock:
            self._connect()
            if send_before is not None and time.monotonic() > send_before:
                raise TooLate("too late: the signed timestamp is too old to send")
            answer = self._exchange(method, target, body, headers, meanwhile)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.link.budget.throttled(charge)
        drift.sentinel().answer(method, resource, answer.status, answer.body)
        return answer

    def warm(self) -> bool:
        """Make the connection beforehand, so that an order does not wait for it. False when it cannot be made."""
        with self._lock:
            try:
                self._connect()
            except Unreachable:
                return False
            return True

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        with self._lock:
            self._connection.close()

    def _take_tokens(
        self,
        method: str,
        resource: str,
        send_before: float | None,
        items: int,
        exchange_index: int | None,
    ) -> Charge:
        budget, patience = self.link.budget, self._timeouts.budget
        charge = budget.tariff.charge(method, resource, items=items, exchange_index=exchange_index)
        if send_before is not None:
            patience = max(0.0, min(patience, send_before - time.monotonic()))
        budget.take(charge, patience=patience)
        return charge

    def _connect(self) -> None:
        # A server that has hung up in the meantime shows as a readable socket: found here, it costs a new connection;
        # found after the write, it would cost certainty.
        if self._connection.is_connected:
            return
        self._connection.close()
        self._connection.timeout = self._timeouts.connect
        try:
            self._connection.connect()
        except _BROKEN as error:
            self._connection.close()
            if fault := tls.fault(error):
                raise Untrusted(f"{self.origin.host}: {fault}") from error
            raise Unreachable(f"no connection to {self.origin.host}: {error}") from error

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        meanwhile: Callable[[], None] | None,
    ) -> Answer:
        connection, limits = self._connection, self._timeouts
        connection.timeout = limits.read
        connection.sock.settimeout(limits.read)  # the answer before may have left it shorter
        complete, sent = False, self.link.clock.monotonic()
        try:
            connection.request(method, target, body=body, headers=headers, preload_content=False)
            if meanwhile is not None:
                meanwhile()
            until = time.monotonic() + limits.total
            connection.response_class = partial(Answering, until=until, patience=limits.read)  # type: ignore[assignment]
            response = connection.getresponse()
            received = _learn_time(self.link.clock, response, sent)
            body_read = _read_until(response, until, target)
            complete = True
            return Answer(response.status, body_read, sent, received)
        except _BROKEN as error:
            raise NoAnswer(f"{method} {target}: {error!r}") from error
        finally:
            if not complete:
                connection.close()

    def _new_connection(self) -> HTTPConnection:
        if self.origin.scheme == "https":
            return HTTPSConnection(self.origin.host, self.origin.port, ssl_context=tls.context())
        return HTTPConnection(self.origin.host, self.origin.port)
