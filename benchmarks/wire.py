"""From the claim's commit to the first byte on the wire, in one process: our order endpoints beside the usual form.

The claim has stored the body and fixed the signed time; what is left is to sign, to have a connection and to write.
The other end is a bare socket in a thread, which notes when bytes come and answers what an exchange would.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.usual_execution import UsualOrders
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.auth import open_signer
from trading.exchange.orders import Orders, create_body, open_orders
from trading.exchange.outcomes import Accepted
from trading.paper.accounts import make_key


class Exchange:
    """Accepts every order. `heard` are the moments (`time.perf_counter`) at which requests began to arrive.

    `connections` counts those that brought a request; order endpoints keep others warm for the way out.
    """

    def __init__(self) -> None:
        self.heard: list[float] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/trade-api/v2"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        is_new = True
        with connection:
            while received := connection.recv(65_536):
                self.heard.append(time.perf_counter())
                self.connections += is_new
                is_new = False
                while not _is_whole(received):
                    received += connection.recv(65_536)
                connection.sendall(_created(received))


def _is_whole(request: bytes) -> bool:
    head, separator, body = request.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return bool(separator) and len(body) >= int(length)


def _created(request: bytes) -> bytes:
    sent = json.loads(request.partition(b"\r\n\r\n")[2])
    body = json.dumps(
        {
            "order_id": str(uuid.uuid4()),
            "client_order_id": sent["client_order_id"],
            "fill_count": "0.00",
            "remaining_count": sent["count"],
            "ts_ms": time.time_ns() // 1_000_000,
        }
    ).encode()
    head = f"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True)
class Wire:
    """Milliseconds to the first byte, of each order; and how many connections both forms opened together."""

    ours: list[float]
    usual: list[float]
    connections: int


def measure(home: Path, count: int) -> Wire:
    """Send so many orders in each form, in turns, with one RSA key."""
    made: dict[str, Any] = make_key(home, "benchmark", "rsa", ("read", "write::trade"))
    key_id, key_file = made["key_id"], home / made["key_file"]
    exchange = Exchange()
    ours = open_orders(exchange.url, open_signer(key_id, key_file))
    ours.warm()
    forms: dict[str, Orders] = {"ours": ours, "usual": UsualOrders(exchange.url, key_id, key_file)}
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(count):
        for name, orders in forms.items():
            taken[name].append(_one(orders, exchange))
    for orders in forms.values():
        orders.close()
    exchange.close()
    return Wire(taken["ours"], taken["usual"], exchange.connections)


def _one(orders: Orders, exchange: Exchange) -> float:
    body = create_body(
        ticker="KXBENCH-1",
        client_order_id=str(uuid.uuid4()),
        book_side=BookSide.BID,
        quantity=Decimal(1),
        yes_price=Decimal("0.0100"),
        time_in_force=TimeInForce.GTC,
    )
    before = len(exchange.heard)
    began = time.perf_counter()
    outcome = orders.send_create(body, time.time_ns() // 1_000_000, send_before=time.monotonic() + 2.0)
    if not isinstance(outcome, Accepted):
        raise RuntimeError(f"not accepted: {outcome}")
    return 1000 * (exchange.heard[before] - began)
