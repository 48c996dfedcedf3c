"""How the exchange may behave while an order is under way: one row each, in the words of its fault mode.

What it does is named by what the desk sees of it; RELIABILITY.md A1 asks for at least twelve.
"""

from __future__ import annotations

from typing import Any, Final

Rows = list[dict[str, Any]]


def _create(kind: str, **how: Any) -> Rows:
    return [{"endpoint": "create", "kind": kind, **how}]


BEHAVIOURS: Final[dict[str, Rows]] = {
    "normal": [],
    "silence before it looks": _create("drop_before"),
    "silence after it accepts": _create("drop_after"),
    "silence, and accepted later": _create("late_drop", seconds=0.3),
    "500 before it looks": _create("error_before"),
    "500 after it accepts": _create("error_after"),
    "500, and accepted later": _create("late_error", seconds=0.3),
    "409 after it accepts": _create("error_after", status=409),
    "400 without a known code": _create("error_before", status=400),
    "429": _create("rate_limited"),
    "slow answer": _create("delay_after", seconds=0.3),
    "success without an order id": _create("no_id"),
    "success with another's id": _create("wrong_echo"),
    "success with another count": _create("wrong_count"),
    "half a body": _create("truncated_body"),
    "an answer broken off": _create("broken_off"),
    "an empty body": _create("empty_body"),
    "not JSON": _create("garbage_body"),
    "reads that lag": [{"kind": "read_lag", "seconds": 1.0}, *_create("drop_after")],
    "lists cut short": [
        *_create("drop_after"),
        {"endpoint": "read", "kind": "page_short", "times": 4},
        {"endpoint": "read", "page": "later", "kind": "error_before", "status": 503, "times": 2},
    ],
    "events repeated, swapped and lost": [
        {"endpoint": "stream", "kind": kind, "probability": 0.3, "times": None}
        for kind in ("duplicate_frame", "swap_frames", "drop_frame")
    ],
    "a stream that breaks": [
        {"endpoint": "stream", "kind": "cut_connection", "times": 2},
        *_create("error_after"),
    ],
    "cancels without an answer": [{"endpoint": "cancel", "kind": "drop_after"}, *_create("drop_after")],
}
