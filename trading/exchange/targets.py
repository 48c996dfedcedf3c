"""What a write is aimed at, where an id alone does not route it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CancelTarget:
    """One order of a batch of cancels. The ticker, or the shard, is what routes it (API.md 11)."""

    order_id: str
    market_ticker: str
    exchange_index: int | None = None
    subaccount: int | None = None
