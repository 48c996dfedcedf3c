"""The plain fold: a recorded book at an instant, in Decimals, without any cleverness.

It is the yardstick for `trading.domain.book` and for a replay's checkpoints; it shares no code with either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from trading.recordings.messages import Delta, Gap, Received, Snapshot, WireLevel

Depth = dict[Decimal, Decimal]


def fold(messages: Iterable[Received], at_ms: int) -> tuple[Depth, Depth] | None:
    """YES bids and NO bids, each on its own scale, after all messages received up to `at_ms`.

    None while nothing may be believed: before the first snapshot or after a gap.
    """
    book: tuple[Depth, Depth] | None = None
    for message in messages:
        if message.recv_ms > at_ms:
            break
        event = message.event
        if isinstance(event, Snapshot):
            book = (_depth(event.msg.yes_dollars_fp), _depth(event.msg.no_dollars_fp))
        elif isinstance(event, Gap):
            book = None
        elif isinstance(event, Delta) and book is not None:
            side = book[0] if event.msg.side == "yes" else book[1]
            side[Decimal(event.msg.price_dollars)] += Decimal(event.msg.delta_fp)
    return book and (_standing(book[0]), _standing(book[1]))


def _depth(levels: tuple[WireLevel, ...]) -> Depth:
    return defaultdict(Decimal, {Decimal(price): Decimal(count) for price, count in levels})


def _standing(depth: Depth) -> Depth:
    return {price: count for price, count in depth.items() if count != 0}
