"""The two pipelines under the same frames: ours as the feed runs it, and the baseline."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.baseline import NaiveClient
from trading.domain.book import Book
from trading.domain.orders import BookSide
from trading.exchange.auth import Signer
from trading.exchange.bookkeeping import Shelf
from trading.exchange.channels import Wanted
from trading.exchange.events import StreamEvent
from trading.exchange.session import Session
from trading.exchange.stream import Stream, Tap

BATCH: Final = 400  # frames of a socket's buffer: so many come together when there is a burst
Depths = dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of CPU of the thread that follows the frames and of the whole process, and the books that came of it."""

    loop: float
    process: float
    books: Depths


class Watch:
    """Measures a block; the garbage of earlier rounds is not its fault."""

    def __enter__(self) -> Watch:
        gc.collect()
        self.loop, self.process = time.thread_time(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop, self.process = time.thread_time() - self.loop, time.process_time() - self.process


def session_over(tickers: list[str], shelf: Shelf) -> Session:
    session = Session(
        Wanted({"orderbook_delta": tickers}),
        _fail_on_anything,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        keeper=shelf,
    )
    session.open()
    return session


def _fail_on_anything(event: StreamEvent) -> None:
    raise AssertionError(f"the tape has no gap, and yet: {event}")


def ours_from_bytes(tickers: list[str], opening: Sequence[bytes], changes: Sequence[bytes]) -> Measured:
    books = {ticker: Book(ticker) for ticker in tickers}
    session = session_over(tickers, Shelf(books))
    session.receive_all(opening)
    batches = [changes[start : start + BATCH] for start in range(0, len(changes), BATCH)]
    with Watch() as watch:
        for batch in batches:
            session.receive_all(batch)
    return Measured(watch.loop, watch.process, our_depths(books))


def baseline_from_bytes(tickers: list[str], opening: Sequence[bytes], changes: Sequence[bytes]) -> Measured:
    client = NaiveClient(tickers)
    for text in opening:
        client.receive(text)
    with Watch() as watch:
        for text in changes:
            client.receive(text)
    return Measured(watch.loop, watch.process, naive_depths(client))


async def ours_from_socket(
    url: str,
    tickers: list[str],
    last_seq: int,
    *,
    books: dict[str, Book] | None = None,
    tap: Tap | None = None,
    beside: Callable[[], Any] | None = None,
) -> Measured:
    """Follow until the frame `last_seq`; `beside` is done every 50 ms meanwhile."""
    held = {ticker: Book(ticker) for ticker in tickers} if books is None else books
    signer = Signer("bench", Ed25519PrivateKey.generate())
    stream = Stream(url, signer, {"orderbook_delta": tickers}, keeper=Shelf(held), tap=tap)
    watch = Watch()
    with watch:
        running = asyncio.create_task(stream.run(lambda _: None))
        while max(book.clock for book in held.values()) < last_seq:
            await asyncio.sleep(0.05 if beside else 0.01)
            if beside is not None:
                beside()
    depths = our_depths(held)  # a stream that stops leaves no book trusted
    await stream.stop()
    await running
    return Measured(watch.loop, watch.process, depths)


async def baseline_from_socket(url: str, tickers: list[str], last_seq: int) -> Measured:
    """`websockets` without compression and with a long queue, which is how it is fastest."""
    client = NaiveClient(tickers)
    with Watch() as watch:
        async with websockets.connect(url, compression=None, max_queue=4096, max_size=None) as socket:
            async for text in socket:
                client.receive(text)
                if client.last_seq.get(1) == last_seq:
                    break
    return Measured(watch.loop, watch.process, naive_depths(client))


def our_depths(books: dict[str, Book]) -> Depths:
    assert all(book.is_current for book in books.values())
    return {
        ticker: (dict(book.levels(BookSide.BID)), dict(book.levels(BookSide.ASK)))
        for ticker, book in books.items()
    }


def naive_depths(client: NaiveClient) -> Depths:
    assert all(book.is_trusted for book in client.books.values())
    return {ticker: (book.yes, book.no) for ticker, book in client.books.items()}
