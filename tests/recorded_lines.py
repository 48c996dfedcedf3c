"""Recordings for tests: small made-up ones, and a fold of their lines that shares no code with ours."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

TICKER = "SIMT-26NOV25-A"
START_MS = 1_786_400_000_000
Sides = dict[str, list[list[str]]]


def line(kind: str, sid: int, seq: int, recv_ms: int, msg: dict[str, Any], ticker: str = TICKER) -> bytes:
    event = {"type": kind, "sid": sid, "seq": seq, "msg": {"market_ticker": ticker, **msg}}
    return json.dumps({"recv_ms": recv_ms, "event": event}, separators=(",", ":")).encode()


def write_day(
    root: Path, content: bytes, *, ticker: str = TICKER, name: str = "2026-08-10.ndjson.gz"
) -> Path:
    """One file of a market with these bytes as they are."""
    folder = root / "events" / ticker
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return root


def packed(lines: Iterable[bytes]) -> bytes:
    return gzip.compress(b"".join(each + b"\n" for each in lines), 1, mtime=0)


class Market:
    """Makes the lines of one market whose book is always possible."""

    def __init__(self, seed: int) -> None:
        self.lines: list[bytes] = []
        self._chance = random.Random(seed)
        self._books: dict[str, dict[str, Decimal]] = {"yes": {}, "no": {}}
        self._now = START_MS
        self._seq = [100, 500]

    def snapshot(self) -> None:
        """The whole book, as a new connection or an answer to `get_snapshot` tells it."""
        msg = {
            f"{side}_dollars_fp": [[price, f"{count:.2f}"] for price, count in sorted(book.items())]
            for side, book in self._books.items()
            if book
        }
        self._add("orderbook_snapshot", 0, msg)

    def reconnect(self) -> None:
        self._now += self._chance.randint(300, 2_000)
        self._seq = [self._chance.randint(1, 30), self._chance.randint(1, 30)]
        self.snapshot()

    def change(self) -> None:
        side = self._chance.choice(["yes", "no"])
        price = f"0.{self._chance.randint(1, 45):02}00"
        standing = self._books[side].get(price, Decimal(0))
        change = Decimal(self._chance.randint(-int(standing * 100), 5_000)).scaleb(-2) or Decimal("0.01")
        self._books[side][price] = standing + change
        if not self._books[side][price]:
            del self._books[side][price]
        msg = {"price_dollars": price, "delta_fp": f"{change:.2f}", "side": side, "ts_ms": self._now - 12}
        self._add("orderbook_delta", 0, msg)

    def trade(self) -> None:
        msg = {
            "trade_id": str(len(self.lines)),
            "yes_price_dollars": "0.4000",
            "no_price_dollars": "0.6000",
            "count_fp": "1.00",
            "taker_outcome_side": "yes",
            "taker_book_side": "bid",
            "ts_ms": self._now - 13,
        }
        self._add("trade", 1, msg)

    def grow(self, messages: int) -> None:
        for _ in range(messages):
            self._now += self._chance.choice([0, 0, 1, 7, 40, 400])
            self.trade() if self._chance.random() < 0.1 else self.change()

    def _add(self, kind: str, stream: int, msg: dict[str, Any]) -> None:
        self._seq[stream] += self._chance.choice([1, 1, 1, 4])
        self.lines.append(line(kind, stream + 1, self._seq[stream], self._now, msg))


def made_up(seed: int) -> list[bytes]:
    """A market with a snapshot on demand and a reconnect."""
    market = Market(seed)
    market.snapshot()
    market.grow(60)
    market.snapshot()
    market.grow(40)
    market.reconnect()
    market.grow(60)
    return market.lines


def last_changes(events: Sequence[dict[str, Any]], instants: Iterable[int]) -> dict[int, int]:
    """For each instant the position of the last change with `ts_ms` up to it; instants without one are left out."""
    waiting, found = sorted(set(instants)), dict[int, int]()
    for position in range(len(events) - 1, -1, -1):
        event = events[position]
        if event["type"] != "orderbook_delta":
            continue
        while waiting and waiting[-1] >= event["msg"]["ts_ms"]:
            found[waiting.pop()] = position
    return found


def true_books(lines: Sequence[bytes], instants: Iterable[int]) -> dict[int, Sides]:
    """The book at each exchange time, folded in Decimals; instants before the first change are left out."""
    events = [json.loads(raw)["event"] for raw in lines]
    at = last_changes(events, instants)
    wanted: dict[int, list[int]] = {}
    for instant, position in at.items():
        wanted.setdefault(position, []).append(instant)
    books: dict[str, dict[str, Decimal]] = {"yes": {}, "no": {}}
    found: dict[int, Sides] = {}
    for position, event in enumerate(events):
        msg = event["msg"]
        if event["type"] == "orderbook_snapshot":
            books = {
                side: {price: Decimal(count) for price, count in msg.get(f"{side}_dollars_fp", [])}
                for side in ("yes", "no")
            }
        elif event["type"] == "orderbook_delta":
            levels, price = books[msg["side"]], msg["price_dollars"]
            levels[price] = levels.get(price, Decimal(0)) + Decimal(msg["delta_fp"])
        for instant in wanted.get(position, ()):
            found[instant] = {
                side: [[price, f"{count:.2f}"] for price, count in sorted(levels.items()) if count]
                for side, levels in books.items()
            }
    return found
