"""The definitions of recorded markets: what `GET /events/{ticker}` said after settlement (API.md 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from trading.recordings.reader import NoRecordingError


class _Answer(msgspec.Struct):
    event: dict[str, Any]
    markets: list[dict[str, Any]]


class _Metadata(msgspec.Struct):
    response: _Answer


_metadata = msgspec.json.Decoder(_Metadata)


@dataclass(frozen=True, slots=True)
class RecordedMarket:
    """One market with its event, as the exchange's own payloads, and how it ended.

    `settlement_value` is the YES contract's payment as the wire's dollar string; times are UTC.
    """

    ticker: str
    event: Mapping[str, Any]
    market: Mapping[str, Any]
    open_at: datetime
    close_at: datetime
    settled_at: datetime
    result: str
    settlement_value: str
    expiration_value: str


def read_definitions(root: Path) -> dict[str, RecordedMarket]:
    """Every market that `metadata/*.json` defines, by ticker.

    Raises ValueError, naming the file, when one cannot be read: no settlement, no replay.
    """
    found: dict[str, RecordedMarket] = {}
    for file in sorted((root / "metadata").glob("*.json")):
        try:
            answer = _metadata.decode(file.read_bytes()).response
            found.update({market["ticker"]: _recorded(answer.event, market) for market in answer.markets})
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise ValueError(f"{file.name} does not define settled markets: {error!r}") from error
    return found


def definition_of(root: Path, ticker: str) -> RecordedMarket:
    """One market's definition. Raises NoRecordingError."""
    try:
        return read_definitions(root)[ticker]
    except KeyError:
        raise NoRecordingError(f"no definition of {ticker} under {root}") from None


def _recorded(event: dict[str, Any], market: dict[str, Any]) -> RecordedMarket:
    return RecordedMarket(
        ticker=market["ticker"],
        event=event,
        market=market,
        open_at=datetime.fromisoformat(market["open_time"]),
        close_at=datetime.fromisoformat(market["close_time"]),
        settled_at=datetime.fromisoformat(market["settlement_ts"]),
        result=market["result"],
        settlement_value=market["settlement_value_dollars"],
        expiration_value=market["expiration_value"],
    )
