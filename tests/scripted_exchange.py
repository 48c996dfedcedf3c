"""A server on loopback that answers each request as its script says and remembers every request that it read."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


Step = Callable[["Connection", Request], None]


class Connection(BaseHTTPRequestHandler):
    """One client's connection, kept alive between requests."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = (
        True  # head and body are two writes: the second would wait 40 ms for an acknowledgement
    )

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, ScriptedExchange)
        length = int(self.headers.get("Content-Length", 0))
        path, _, query = self.path.partition("?")
        headers = {name.upper(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self.rfile.read(length))
        server.requests.append(request)
        server.next_step()(self, request)

    do_POST = do_GET  # noqa: N815 - the base class calls them by these names
    do_DELETE = do_GET  # noqa: N815
    do_PUT = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
        pass

    def hang_up(self) -> None:
        """End the connection here, with whatever was sent so far."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


class ScriptedExchange(socketserver.ThreadingTCPServer):
    """Steps are used up in order; the last one serves all further requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.requests: list[Request] = []
        self.connections = 0
        self.released = threading.Event()
        self._steps = list(steps)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/trade-api/v2"

    def next_step(self) -> Step:
        with self._lock:
            return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the script."""


@contextmanager
def serving(*steps: Step, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedExchange]:
    with ScriptedExchange(*steps, tls=tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def answers(payload: object, status: int = 200) -> Step:
    """Answer with a payload, or with bytes as they are."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()

    def step(connection: Connection, request: Request) -> None:
        connection.send_response(status)
        connection.send_header("Content-Type", "application/json")
        connection.send_header("Content-Length", str(len(body)))
        connection.end_headers()
        connection.wfile.write(body)

    return step


def redirects(connection: Connection, request: Request) -> None:
    connection.send_response(307)
    connection.send_header("Location", request.path + "/elsewhere")
    connection.send_header("Content-Length", "0")
    connection.end_headers()


def hangs_up(connection: Connection, request: Request) -> None:
    connection.hang_up()


def is_silent(connection: Connection, request: Request) -> None:
    server = connection.server
    assert isinstance(server, ScriptedExchange)
    server.released.wait(15)
    connection.close_connection = True


def cuts_the_answer(connection: Connection, request: Request) -> None:
    connection.send_response(201)
    connection.send_header("Content-Length", "500")
    connection.end_headers()
    connection.wfile.write(b'{"order_id": "o-1", ')
    connection.hang_up()


def drips(connection: Connection, request: Request) -> None:
    """A byte now and then, for ever: no single wait is long."""
    server = connection.server
    assert isinstance(server, ScriptedExchange)
    connection.send_response(201)
    connection.send_header("Content-Length", "100000")
    connection.end_headers()
    while not server.released.wait(0.05):
        connection.wfile.write(b" ")


def speaks_nonsense(connection: Connection, request: Request) -> None:
    connection.wfile.write(b"220 mail server ready\r\n\r\n")
    connection.hang_up()


@dataclass
class Ledger:
    """What a sink was given, for tests of streams."""

    events: list[Any] = field(default_factory=list)

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
