"""A valid example of every answer and frame, made from our contract table: what mutations start from.

Every optional field is there too. Values are picked by name, so that the parts of an example fit each other.
"""

from __future__ import annotations

from typing import Any

from trading.exchange.contract import Kind, contract, frame_shape

TICKER = "KXTEST-26NOV25-T50"
_MOMENT = "2026-08-05T03:45:00Z"
_SECONDS, _MILLIS = 1_786_085_188, 1_786_085_188_123
_BY_NAME: dict[str, Any] = {
    "ticker": TICKER,
    "market_ticker": TICKER,
    "market_tickers": TICKER,
    "value_usd": "104.50",
    "cursor": "",
    "yes_price_dollars": "0.4200",
    "no_price_dollars": "0.5800",
    "yes_bid_dollars": "0.4100",
    "yes_ask_dollars": "0.4300",
    "no_bid_dollars": "0.5700",
    "no_ask_dollars": "0.5900",
    "price_dollars": "0.4200",
    "start": "0.0000",
    "end": "1.0000",
    "step": "0.0100",
    "open_time": _MOMENT,
    "initial_count_fp": "3.00",
    "fill_count_fp": "1.00",
    "remaining_count_fp": "2.00",
    "fill_count": "1.00",
    "remaining_count": "1.00",
    "reduced_by": "1.00",
    "fee_multiplier": 0.5,
    "exchange_index": 2,
    "sid": 7,
    "seq": 1,
    "code": 8,
}
# The first word of a list is not always the one that goes with the rest of the example.
_WORDS = {"outcome_side": "yes", "taker_outcome_side": "yes", "book_side": "bid", "taker_book_side": "bid"}
_PLAIN: dict[str, Any] = {
    "text": "some text",
    "id": "id-4711",
    "time": _MOMENT,
    "decimal": "12.34",
    "price": "0.4200",
    "int": 5,
    "number": 0.25,
    "bool": True,
    "object": {"inner": "value"},
    "any": {"inner": "value"},
    "level": ["0.4200", "12.34"],
}


def example(shape: str) -> dict[str, Any]:
    """One value of every field of a shape."""
    return {name: _value(name, field.kind) for name, field in contract().shapes[shape].items()}


def frame_example(type_: str) -> dict[str, Any]:
    """One whole frame."""
    return {**example(frame_shape(type_)), "type": type_}


def _value(name: str, kind: Kind) -> Any:
    if kind.item is not None:
        return [_value(name, kind.item)]
    if kind.shape:
        return example(kind.shape)
    return _word(name, kind) if kind.words else _plain(name, kind.name)


def _word(name: str, kind: Kind) -> str:
    fit = _WORDS.get(name, "")
    return fit if fit in kind.words and fit else min(word for word in kind.words if word)


def _plain(name: str, kind: str) -> Any:
    if kind == "level":
        return _PLAIN[kind]
    if kind == "int" and name.endswith("ts"):
        return _SECONDS
    if kind == "text" and name == "value":
        return "104.50"
    if kind == "text" and name == "data":
        return '{"value": "104.50", "time": 1786085188123}'
    return _BY_NAME.get(name, _MILLIS if kind == "int" and name.endswith("_ms") else _PLAIN[kind])
