"""The definitions of recorded markets: what `GET /events/{ticker}` said (API.md 9), at best after settlement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from trading.recordings.files import METADATA, NoRecordingError, is_ticker


class _Answer(msgspec.Struct):
    event: dict[str, Any]
    markets: list[dict[str, Any]]


class _Metadata(msgspec.Struct):
    response: _Answer


class _Kept(msgspec.Struct):
    response: msgspec.Raw
    fetched_at_ms: int
    url: str
    status: int = 200


_metadata: Final = msgspec.json.Decoder(_Metadata)
_SETTLED: Final = frozenset({"finalized", "settled"})


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
    """Every settled market that `metadata/*.json` defines, by ticker: no settlement, no replay.

    Raises ValueError, naming the file, when one cannot be read.
    """
    return {ticker: market for ticker, market in _read(root) if market is not None}


def read_states(root: Path) -> dict[str, str]:
    """Every defined market by ticker, as "settled" or "open". Raises ValueError like `read_definitions`."""
    return {ticker: "open" if market is None else "settled" for ticker, market in _read(root)}


def write_event(root: Path, event_ticker: str, answer: bytes, *, url: str, fetched_at_ms: int) -> None:
    """Keep what the exchange answered to `GET /events/{ticker}`, as it came; an earlier answer is replaced.

    Raises ValueError when it is no JSON object or the ticker is no name for a file, and OSError.
    """
    if not is_ticker(event_ticker):
        raise ValueError(f"{event_ticker!r} is not a ticker")
    kept = _Kept(msgspec.Raw(answer), fetched_at_ms, url)
    msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
    file = root / METADATA / f"{event_ticker}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".tmp")
    partial.write_bytes(msgspec.json.encode(kept) + b"\n")
    partial.replace(file)


def _read(root: Path) -> Iterator[tuple[str, RecordedMarket | None]]:
    for file in sorted((root / METADATA).glob("*.json")):
        try:
            answer = _metadata.decode(file.read_bytes()).response
            yield from [_defined(answer.event, market) for market in answer.markets]
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise ValueError(f"{file.name} does not define markets: {error!r}") from error


def _defined(event: dict[str, Any], market: dict[str, Any]) -> tuple[str, RecordedMarket | None]:
    is_settled = market.get("status", "settled") in _SETTLED
    return market["ticker"], _recorded(event, market) if is_settled else None


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
