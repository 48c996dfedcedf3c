"""Faults on demand, for tests of clients: a plan is a list of rows, each says what goes wrong, where and how often.

Without `--faults` none of this is reachable. `POST /__faults` takes one row, a list of rows, or
`{"seed": 7, "faults": [rows]}`; `GET` shows the plan with what each row has `seen` and how often it `happened`;
`DELETE` forgets it.

    {"endpoint": "create", "kind": "drop_after"}
    {"endpoint": "read", "path": "/portfolio/fills", "page": "later", "kind": "error_before", "status": 503}
    {"endpoint": "stream", "kind": "drop_frame", "channel": "orderbook_delta", "probability": 0.01, "times": null}

A row counts what it fits (`endpoint`, `path`, `page`, or `channel`, `frame`, `market`), lets `skip` of them pass, then
happens with `probability` until it has happened `times` (null: without end). Of several rows that fit, the oldest that
happens is the only one. Chance is drawn per row from `seed`, so the same requests meet the same faults again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from fnmatch import fnmatchcase
from random import Random
from typing import Annotated, Any, Literal, get_args

import msgspec

Endpoint = Literal[
    "any",
    "read",
    "write",
    "create",
    "cancel",
    "amend",
    "decrease",
    "batch_create",
    "batch_cancel",
    "cancel_all",
    "groups",
    "stream",
]
# Before the request is looked at; afterwards nothing has changed.
Before = Literal["drop_before", "error_before", "delay_before", "rate_limited", "page_short"]
# At once no answer, or `status`; carried out `seconds` later all the same.
Late = Literal["late_drop", "late_error"]
# After the change is durable: the answer is lost, late, or says something else.
After = Literal[
    "drop_after",
    "error_after",
    "delay_after",
    "broken_off",
    "truncated_body",
    "garbage_body",
    "empty_body",
    "no_id",
    "wrong_echo",
    "wrong_count",
    "missing_field",
    "wrong_value",
    "extra_field",
    "unknown_enum",
    "page_repeats",
]
# Drawn for each frame of a subscription.
Frame = Literal[
    "drop_frame",
    "duplicate_frame",
    "swap_frames",
    "skip_seq",
    "garbage_frame",
    "cut_connection",
    "frame_missing_field",
    "frame_wrong_value",
    "frame_extra_field",
]
# At the moment of planning, to the connections and subscriptions that are there.
Now = Literal["disconnect", "refuse_connections", "channel_error", "silence", "read_lag"]
Kind = Literal[Before, Late, After, Frame, Now]

MOMENTS: dict[str, frozenset[str]] = {
    "before": frozenset(get_args(Before)) | frozenset(get_args(Late)),
    "after": frozenset(get_args(After)),
    "frame": frozenset(get_args(Frame)),
    "now": frozenset(get_args(Now)),
}
_STREAM_KINDS = MOMENTS["frame"] | MOMENTS["now"] - {"read_lag"}
_NEEDS_FIELD = frozenset({"missing_field", "wrong_value", "frame_missing_field", "frame_wrong_value"})


class Dropped(Exception):
    """End the connection without an answer."""


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """One row of a plan. Which fields a kind reads is told in docs/how-to/paper-exchange.md."""

    kind: Kind
    endpoint: Endpoint = "any"
    path: str = ""  # a pattern of the path below /trade-api/v2, such as /portfolio/orders*
    page: Literal["any", "first", "later"] = "any"  # without a cursor, or with one
    channel: str = ""
    frame: str = ""  # the type of the frame
    market: str = ""
    times: Annotated[int, msgspec.Meta(ge=1)] | None = 1
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # waited first, by every kind
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500
    field: str = ""  # dotted; a * stands for every element: orders.*.status
    value: Any = None

    def require_sense(self) -> None:
        """Raises ValueError for a row that could never happen."""
        if self.kind in _STREAM_KINDS and self.endpoint not in {"any", "stream"}:
            raise ValueError(f"{self.kind} happens to the stream, not to {self.endpoint}")
        if self.kind not in _STREAM_KINDS and self.endpoint == "stream":
            raise ValueError(f"{self.kind} does not happen to the stream")
        if self.kind in _NEEDS_FIELD and not self.field:
            raise ValueError(f"{self.kind} needs a field")


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """Rows with the seed of their chance."""

    faults: list[Fault]
    seed: int = 0


class Asked(msgspec.Struct, frozen=True):
    """One request, as rows see it; `path` below the prefix."""

    endpoint: str
    path: str
    is_read: bool
    has_cursor: bool


class Sent(msgspec.Struct, frozen=True):
    """One frame on its way, as rows see it."""

    channel: str
    frame: str
    body: bytes


_ORDERS = r"/portfolio/events/orders"
_OPERATIONS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("POST", _ORDERS, "create"),
        ("DELETE", _ORDERS, "cancel_all"),
        ("POST", _ORDERS + "/batched", "batch_create"),
        ("DELETE", _ORDERS + "/batched", "batch_cancel"),
        ("DELETE", _ORDERS + "/[^/]+", "cancel"),
        ("POST", _ORDERS + "/[^/]+/amend", "amend"),
        ("POST", _ORDERS + "/[^/]+/decrease", "decrease"),
        ("POST|PUT|DELETE", r"/portfolio/order_groups.*", "groups"),
    )
)


def asked(method: str, path: str, *, has_cursor: bool) -> Asked:
    """The request in the words of the rows."""
    if method == "GET":
        return Asked("read", path, is_read=True, has_cursor=has_cursor)
    named = (
        name for verbs, pattern, name in _OPERATIONS if method in verbs.split("|") and pattern.fullmatch(path)
    )
    return Asked(next(named, "write"), path, is_read=False, has_cursor=has_cursor)


class Row:
    """A planned fault with what it has seen."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.seen = self.happened = 0
        self._chance = Random(seed)

    def happens(self) -> bool:
        """Count one that fits, and throw the dice for it."""
        fault = self.fault
        if fault.times is not None and self.happened >= fault.times:
            return False
        self.seen += 1
        if self.seen <= fault.skip or self._chance.random() >= fault.probability:
            return False
        self.happened += 1
        return True


class Faults:
    """The plan, oldest row first."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.silent_until = 0.0  # of the loop's clock
        self.refusing_until = 0.0
        self.usual_lag: timedelta | None = None  # of reads, while another is planned

    def plan(self, plan: Plan) -> list[Row]:
        """Add rows; returns them."""
        first = len(self.rows)
        fresh = [Row(fault, f"{plan.seed}:{first + n}") for n, fault in enumerate(plan.faults)]
        self.rows += fresh
        return fresh

    def forget(self) -> None:
        """No more faults, also none that last."""
        self.rows.clear()
        self.silent_until = self.refusing_until = 0.0

    def shown(self) -> list[dict[str, Any]]:
        """The plan with its counters."""
        return [
            {**msgspec.to_builtins(row.fault), "seen": row.seen, "happened": row.happened}
            for row in self.rows
        ]

    def on_request(self, request: Asked, moment: Literal["before", "after"]) -> Fault | None:
        """What goes wrong with this request at this moment, if anything does."""
        return self._drawn(moment, lambda fault: _fits_request(fault, request))

    def on_frame(self, sent: Sent) -> Fault | None:
        """What happens to this frame, if anything does."""
        return self._drawn("frame", lambda fault: fits_frame(fault, sent))

    def _drawn(self, moment: str, fits: Callable[[Fault], bool]) -> Fault | None:
        fitting: Iterator[Row] = (
            row for row in self.rows if row.fault.kind in MOMENTS[moment] and fits(row.fault)
        )
        return next((row.fault for row in fitting if row.happens()), None)


def _fits_request(fault: Fault, request: Asked) -> bool:
    groups = {"any", "read" if request.is_read else "write", request.endpoint}
    page = "later" if request.has_cursor else "first"
    return (
        fault.endpoint in groups
        and fault.page in {"any", page}
        and (not fault.path or fnmatchcase(request.path, fault.path))
    )


def fits_frame(fault: Fault, sent: Sent) -> bool:
    """Whether a row is about this frame."""
    return (
        fault.channel in {"", sent.channel}
        and fault.frame in {"", sent.frame}
        and (not fault.market or f'"{fault.market}"'.encode() in sent.body)
    )
