"""The frames of the ingest benchmark: made up, and shaped like what the exchange sends.

Fifty markets with a price on nearly every cent, as deep as the books of a captured evening (about 47 levels a side).
Orders come and go near the touch; about one change in ten opens a level and one in ten closes one, and a market changes
three times in a row on average, as in recordings. Frames carry every field of the published contract (300 bytes).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

MARKETS: Final = 50
_DEPTH: Final = 47
_RUN: Final = 3
_SID: Final = 1
_MARKET_ID: Final = "9b0f6b43-5b68-4f9f-9f02-9a2d1b8ac1a1"
_BEGINNING_MS: Final = 1_792_702_641_123
_SIZES: Final = (10, 1_000, 2_500, 3_000, 3_600, 3_900, 6_100, 10_000)


def tickers(count: int = MARKETS) -> list[str]:
    return [f"KXGOLD15M-26OCT22{number:04d}-{number % 60:02d}" for number in range(count)]


@dataclass(slots=True)
class _Market:
    """Resting orders in lots by the cent of their price: YES bids, and NO bids on the YES scale."""

    ticker: str
    sides: tuple[dict[int, list[int]], dict[int, list[int]]] = field(init=False)

    def __post_init__(self) -> None:
        self.sides = (
            {cent: [10_000] for cent in range(1, _DEPTH + 1)},
            {cent: [10_000] for cent in range(100 - _DEPTH, 100)},
        )


class Tape:
    """Frames in order, one subscription, from `subscribed` over the snapshots to an endless row of changes."""

    def __init__(self, *, markets: int = MARKETS, seed: int = 7) -> None:
        self.tickers = tickers(markets)
        self._chance = random.Random(seed)
        self._markets = [_Market(ticker) for ticker in self.tickers]
        self._sizes = [*_SIZES, *(self._chance.randint(1, 700) * 100 for _ in range(1_000))]
        self._seq = 0
        self._busy = self._markets[0]

    def opening(self) -> list[bytes]:
        """What comes before the first change."""
        told = f'{{"id":1,"type":"subscribed","msg":{{"channel":"orderbook_delta","sid":{_SID}}}}}'
        return [told.encode(), *(self._snapshot(market) for market in self._markets)]

    def changes(self, count: int) -> list[bytes]:
        """The next `count` changes."""
        return [self._change() for _ in range(count)]

    def _snapshot(self, market: _Market) -> bytes:
        self._seq += 1
        yes, no = (
            ",".join(f'["{cent / 100:.4f}","{sum(orders) / 100:.2f}"]' for cent, orders in side.items())
            for side in market.sides
        )
        return (
            f'{{"type":"orderbook_snapshot","sid":{_SID},"seq":{self._seq},"msg":{{"market_ticker":"{market.ticker}",'
            f'"market_id":"{_MARKET_ID}","clock":{self._seq},"yes_dollars_fp":[{yes}],"no_dollars_fp":[{no}]}},'
            f'"sending_ts_ms":{_BEGINNING_MS + self._seq}}}'
        ).encode()

    def _change(self) -> bytes:
        chance = self._chance
        if chance.random() * _RUN < 1:
            self._busy = chance.choice(self._markets)
        market, number = self._busy, chance.randrange(2)
        side = market.sides[number]
        depth = min(int(chance.expovariate(0.12)), _DEPTH - 1)
        cent = _DEPTH - depth if number == 0 else 100 - _DEPTH + depth
        orders = side.setdefault(cent, [])
        if orders and chance.random() < 0.5:
            lots = -orders.pop(chance.randrange(len(orders)))
        else:
            lots = chance.choice(self._sizes)
            orders.append(lots)
        return self._frame(market.ticker, ("yes", "no")[number], cent, lots)

    def _frame(self, ticker: str, side: str, cent: int, lots: int) -> bytes:
        self._seq += 1
        now = _BEGINNING_MS + self._seq
        return (
            f'{{"type":"orderbook_delta","sid":{_SID},"seq":{self._seq},"msg":{{"market_ticker":"{ticker}",'
            f'"market_id":"{_MARKET_ID}","clock":{self._seq},"price_dollars":"{cent / 100:.4f}",'
            f'"delta_fp":"{lots / 100:.2f}","side":"{side}","ts":"2026-10-22T20:44:01.123456Z","ts_ms":{now}}},'
            f'"sending_ts_ms":{now + 2}}}'
        ).encode()
