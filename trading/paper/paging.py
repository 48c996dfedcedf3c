"""Query parameters and pages (API.md 6): `limit` above the maximum is refused, a garbage cursor is silently
accepted."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from trading.paper.refusals import bare

T = TypeVar("T")
MOST_TICKERS = 100


def whole(query: Mapping[str, str], name: str) -> int | None:
    """An integer parameter, or None when absent or empty. Raises Refused."""
    text = query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise bare(f"{name} must be an integer") from error


def required_whole(query: Mapping[str, str], name: str) -> int:
    value = whole(query, name)
    if value is None:
        raise bare(f"{name} is required")
    return value


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter; absent is false. Raises Refused."""
    text = query.get(name, "").lower()
    if text not in {"", "true", "false", "1", "0"}:
        raise bare(f"{name} must be true or false")
    return text in {"true", "1"}


def word(query: Mapping[str, str], name: str, allowed: Iterable[str]) -> str | None:
    """One of some words, or None when absent. Raises Refused."""
    text = query.get(name, "")
    if text and text not in allowed:
        raise bare(f"{name} must be one of {', '.join(sorted(allowed))}")
    return text or None


def listed(query: Mapping[str, str], name: str) -> frozenset[str] | None:
    """Comma-separated names, at most 100, or None when absent. Raises Refused."""
    text = query.get(name, "")
    if not text:
        return None
    names = frozenset(part.strip() for part in text.split(",") if part.strip())
    if len(names) > MOST_TICKERS:
        raise bare(f"{name} takes at most {MOST_TICKERS} names")
    return names


def within(query: Mapping[str, str], low: str, high: str) -> Callable[[int], bool]:
    """A test for Unix seconds against an optional pair of bounds, both inclusive: who asks from its last
    known second on must not miss what else happened in that second."""
    after, before = whole(query, low), whole(query, high)
    return lambda ts: (after is None or ts >= after) and (before is None or ts <= before)


def page(
    items: Sequence[T],
    query: Mapping[str, str],
    key: Callable[[T], str],
    *,
    most: int = 1000,
    usual: int = 100,
) -> tuple[list[T], str]:
    """One page of items in their order and the cursor of the next (`""` on the last). The cursor names the
    last item shown by its key, so that items that join or leave meanwhile neither repeat nor hide others.
    Raises Refused."""
    limit = whole(query, "limit")
    if limit is not None and not 0 <= limit <= most:
        raise bare(f"limit must be between 1 and {most}")
    size = limit or usual
    start = _start(items, _decode(query.get("cursor", "")), key)
    shown = list(items[start : start + size])
    more = start + size < len(items)
    return shown, _encode(start + len(shown), key(shown[-1])) if more and shown else ""


def _encode(position: int, last_key: str) -> str:
    return base64.urlsafe_b64encode(f"{position}:{last_key}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[int, str] | None:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        position, _, last_key = text.partition(":")
        return int(position), last_key
    except (binascii.Error, ValueError):
        return None


def _start(items: Sequence[T], cursor: tuple[int, str] | None, key: Callable[[T], str]) -> int:
    if cursor is None:
        return 0
    position, last_key = cursor
    if 0 < position <= len(items) and key(items[position - 1]) == last_key:
        return position
    found = next((index for index, item in enumerate(items) if key(item) == last_key), None)
    return min(max(position, 0), len(items)) if found is None else found + 1
