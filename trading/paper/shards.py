"""The matching engines of this exchange, by `exchange_index`: each may be paused alone (API.md 8, 12)."""

from __future__ import annotations

from typing import Any


class Shards:
    """Which shards there are, and which of them run. A trading pause refuses new orders but allows cancels; an exchange
    pause refuses both."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"an exchange has at least one shard, not {count}")
        self.exchange_active = [True] * count
        self.trading_active = [True] * count

    def __len__(self) -> int:
        return len(self.exchange_active)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < len(self)

    def grow(self, count: int) -> None:
        """Have at least so many shards: markets of the journal must keep theirs."""
        missing = count - len(self)
        self.exchange_active += [True] * missing
        self.trading_active += [True] * missing

    def runs(self, index: int) -> bool:
        """Whether a shard takes any change of state."""
        return self.exchange_active[index]

    def trades(self, index: int) -> bool:
        """Whether a shard takes orders."""
        return self.exchange_active[index] and self.trading_active[index]

    def transfers(self) -> bool:
        """Whether money may move between shards now: there are several, and all run."""
        return len(self) > 1 and all(self.exchange_active)

    def statuses(self, introduction: str) -> dict[str, Any]:
        """The flags of `GET /exchange/status`: the top level reflects shard 0 (openapi.yaml). Each shard introduces
        itself as the exchange does."""
        shards = [
            {
                "exchange_index": index,
                "description": f"{introduction}, shard {index}",
                "exchange_active": self.exchange_active[index],
                "trading_active": self.trading_active[index],
                "intra_exchange_transfers_active": self.transfers(),
            }
            for index in range(len(self))
        ]
        first = {key: value for key, value in shards[0].items() if key.endswith("_active")}
        return {**first, "exchange_index_statuses": shards}
