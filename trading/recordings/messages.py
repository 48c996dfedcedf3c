"""The words of a recording: the wire's own messages as received (API.md 14), typed and otherwise untouched.

Prices and counts stay exact strings here; `apply` turns them into the integers of `trading.domain.book`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trading.domain.book import Book, RawLevel, lots, side_and_tick, ticks
from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide, Side

# A number that is none, or is finer than the exchange's steps, makes a line that we cannot use.
Price = Annotated[str, Meta(pattern=r"^(0\.[0-9]{1,4}|1\.0{1,4})$")]
Count = Annotated[str, Meta(pattern=r"^[0-9]{1,10}(\.[0-9]{1,2})?$")]
Change = Annotated[str, Meta(pattern=r"^-?[0-9]{1,10}(\.[0-9]{1,2})?$")]
Whole = Annotated[int, Meta(ge=0, lt=2**53)]

WireLevel = tuple[Price, Count]
WireSide = Literal["yes", "no"]
_SIDES: dict[str, Side] = {side.value: side for side in Side}


class SnapshotBody(msgspec.Struct, frozen=True):
    """Every level of both sides; a side without orders has no key. NO prices are on the NO scale."""

    market_ticker: str
    market_id: str = ""
    yes_dollars_fp: tuple[WireLevel, ...] = ()
    no_dollars_fp: tuple[WireLevel, ...] = ()


class DeltaBody(msgspec.Struct, frozen=True):
    """A signed change of one level. `ts_ms` is the exchange's clock."""

    market_ticker: str
    price_dollars: Price
    delta_fp: Change
    side: WireSide
    market_id: str = ""
    ts_ms: Whole | None = None


class TradeBody(msgspec.Struct, frozen=True):
    """A public print."""

    trade_id: str
    market_ticker: str
    yes_price_dollars: Price
    no_price_dollars: Price
    count_fp: Count
    taker_outcome_side: WireSide
    taker_book_side: Literal["bid", "ask"]
    ts_ms: Whole
    is_block_trade: bool = False


class Snapshot(msgspec.Struct, frozen=True, tag_field="type", tag="orderbook_snapshot"):
    sid: Whole
    seq: Whole
    msg: SnapshotBody


class Delta(msgspec.Struct, frozen=True, tag_field="type", tag="orderbook_delta"):
    sid: Whole
    seq: Whole
    msg: DeltaBody


class Trade(msgspec.Struct, frozen=True, tag_field="type", tag="trade"):
    sid: Whole
    seq: Whole
    msg: TradeBody


class Misplaced(msgspec.Struct, frozen=True):
    """Receipt and number of a message that came too late: what is later or higher before it is in doubt as well."""

    recv_ms: int
    seq: int
    is_trade: bool


class Gap(msgspec.Struct, frozen=True):
    """Something is missing here: a book built so far must not be believed until the next snapshot."""

    reason: str
    misplaced: Misplaced | None = None


Event = Snapshot | Delta | Trade


class Line(msgspec.Struct, frozen=True):
    """One line of a recording: our clock at receipt, and what the exchange sent."""

    recv_ms: Whole
    event: Event


class Received(msgspec.Struct, frozen=True):
    """A message, or a gap, in the order of receipt."""

    recv_ms: int
    event: Event | Gap


def apply(book: Book, received: Received) -> None:
    """Bring the book up to one received message. Raises BookFault.

    A gap empties it, a trade leaves it alone, changes are passed over while there is no snapshot to build on.
    """
    event = received.event
    if isinstance(event, Delta):
        if not book.is_current:
            return
        book.apply_delta(*delta_change(event.msg), at_ms=event.msg.ts_ms)
    elif isinstance(event, Snapshot):
        bids, asks = snapshot_levels(event.msg)
        book.apply_snapshot(bids, asks, at_ms=received.recv_ms)
    elif isinstance(event, Gap):
        book.invalidate()


def delta_change(body: DeltaBody) -> tuple[BookSide, Ticks, Lots]:
    """A change's side, tick on the YES scale, and signed lots."""
    side, tick = side_and_tick(_SIDES[body.side], ticks(body.price_dollars))
    return side, tick, lots(body.delta_fp)


def snapshot_levels(body: SnapshotBody) -> tuple[list[RawLevel], list[RawLevel]]:
    """A snapshot's bids and asks as (ticks, lots) on the YES scale."""
    return _levels(Side.YES, body.yes_dollars_fp), _levels(Side.NO, body.no_dollars_fp)


def _levels(side: Side, levels: tuple[WireLevel, ...]) -> list[RawLevel]:
    return [(side_and_tick(side, ticks(price))[1], lots(count)) for price, count in levels]
