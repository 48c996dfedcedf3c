"""The pipeline that one writes first, with the same duties as ours: json, Decimal, dict.

Duties for every frame: follow the sequence of the subscription; believe no book before its snapshot and none after a
gap; refuse a level below zero and a crossed book; know the best prices, the exchange's time and clock of each book;
note which books have changed and up to when all are proven.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

ZERO: Final = Decimal(0)


@dataclass
class NaiveBook:
    yes: dict[Decimal, Decimal] = field(default_factory=dict)
    no: dict[Decimal, Decimal] = field(default_factory=dict)
    is_trusted: bool = False
    best_bid: Decimal | None = None
    best_ask: Decimal | None = None
    ts_ms: int = 0
    clock: int = 0


class NaiveClient:
    """Prices of both sides are on the YES scale (`use_yes_price`)."""

    def __init__(self, tickers: list[str]) -> None:
        self.books = {ticker: NaiveBook() for ticker in tickers}
        self.last_seq: dict[int, int] = {}
        self.changed: set[str] = set()
        self.proven_ms = 0
        self.gaps = 0

    def receive(self, text: str | bytes) -> None:
        message = json.loads(text)
        kind = message["type"]
        if kind == "subscribed":
            self.last_seq[message["msg"]["sid"]] = 0
            return
        sid, seq = message["sid"], message["seq"]
        if seq != self.last_seq[sid] + 1:
            self.gaps += 1
            for book in self.books.values():
                book.is_trusted = False
        self.last_seq[sid] = seq
        if kind == "orderbook_delta":
            self._delta(message["msg"])
        elif kind == "orderbook_snapshot":
            self._snapshot(message["msg"])
        self.proven_ms = message["sending_ts_ms"]

    def _snapshot(self, msg: dict[str, Any]) -> None:
        book = self.books[msg["market_ticker"]]
        book.yes = {Decimal(price): Decimal(count) for price, count in msg.get("yes_dollars_fp", [])}
        book.no = {Decimal(price): Decimal(count) for price, count in msg.get("no_dollars_fp", [])}
        book.is_trusted = True
        book.clock = msg["clock"]

    def _delta(self, msg: dict[str, Any]) -> None:
        book = self.books[msg["market_ticker"]]
        if not book.is_trusted:
            return
        levels = book.yes if msg["side"] == "yes" else book.no
        price = Decimal(msg["price_dollars"])
        quantity = levels.get(price, ZERO) + Decimal(msg["delta_fp"])
        if quantity > 0:
            levels[price] = quantity
        elif quantity == 0:
            levels.pop(price, None)
        else:
            book.is_trusted = False
            return
        book.best_bid = max(book.yes, default=None)
        book.best_ask = min(book.no, default=None)
        if book.best_bid is not None and book.best_ask is not None and book.best_bid >= book.best_ask:
            book.is_trusted = False
        book.ts_ms = msg["ts_ms"]
        book.clock = msg["clock"]
        self.changed.add(msg["market_ticker"])
