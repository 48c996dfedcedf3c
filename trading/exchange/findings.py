"""What a REST answer or a frame says that was not agreed, as drifts: named, judged, redacted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

from trading.exchange.conformity import Departure, DriftKind, conforms, departures
from trading.exchange.contract import Operation, contract, frame_shape, is_known_code, is_private_frame
from trading.exchange.errors import ErrorAnswer, read_error

LONGEST_SAMPLE: Final = 60
STREAM: Final = "stream"


@dataclass(frozen=True, slots=True)
class Drift:
    """One way in which the exchange departs from what was agreed. All but `sample` name it; `sample` is redacted.

    `where` is an operation ("GET /markets/{ticker}") or a frame type ("stream ticker"), `field` the path in it, `found`
    what came there: a type, a new word, a code. `is_money` says that money depends on the field.
    """

    kind: DriftKind
    where: str
    field: str = ""
    found: str = ""
    sample: str = ""
    is_money: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.kind.value, self.where, self.field, self.found)

    def __str__(self) -> str:
        parts = (self.kind.value.replace("_", " "), self.field, f"({self.found})" if self.found else "")
        return f"{self.where}: {' '.join(part for part in parts if part)}"


def departure_in_money(method: str, resource: str, body: bytes) -> str:
    """The first departure of a success that money depends on; "" for none, and for an operation outside our table."""
    operation = contract().operation(method, resource)
    if operation is None or not operation.answer or conforms(operation.answer, body):
        return ""
    found = departures(operation.answer, body)
    return next((f"{each.kind.value} {each.field}" for each in found if each.is_money), "")


class _Envelope(msgspec.Struct):
    type: str = ""


class _ErrorBody(msgspec.Struct):
    code: int = 0


class _ErrorFrame(msgspec.Struct):
    msg: _ErrorBody


def type_of(text: str | bytes) -> str:
    """A frame's type; "" when it has none that can be read."""
    try:
        return msgspec.json.decode(text, type=_Envelope).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


# --- REST


def of_answer(operation: Operation, status: int, body: bytes) -> Iterator[Drift]:
    """What one answer of this operation says that was not agreed, an error answer too."""
    # The exchange's status keeps its form with 500, 503 and 504 (API.md 5).
    if status >= HTTPStatus.BAD_REQUEST:
        yield from _of_error(operation, status, body)
    elif status >= HTTPStatus.MULTIPLE_CHOICES:
        yield Drift(DriftKind.UNEXPECTED_STATUS, operation.name, found=f"HTTP {status}", is_money=True)
    elif operation.answer and not conforms(operation.answer, body):
        found = departures(operation.answer, body)
        yield from _drifts(operation.name, found, is_private=operation.is_private)


def _of_error(operation: Operation, status: int, body: bytes) -> Iterator[Drift]:
    error = read_error(status, body)
    if _is_retired(operation, error, body):
        yield Drift(
            DriftKind.RETIRED_ENDPOINT,
            operation.name,
            found=f"HTTP {status}",
            sample=shown(error.exchange_code, is_private=False),
            is_money=operation.is_needed,
        )
    elif error.exchange_code and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        if not is_known_code(error.exchange_code):
            code = re.sub(r"[^\w.-]", "?", error.exchange_code)[:LONGEST_SAMPLE]
            yield Drift(DriftKind.UNKNOWN_CODE, operation.name, found=code, sample=f"HTTP {status}")
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR and not _is_error(body):
        yield Drift(DriftKind.UNREADABLE, operation.name, found=f"an error of no known form, HTTP {status}")


def _is_retired(operation: Operation, error: ErrorAnswer, body: bytes) -> bool:
    if error.status == HTTPStatus.GONE:
        return True
    return error.status == HTTPStatus.NOT_FOUND and (operation.must_exist or not _is_error(body))


def _is_error(body: bytes) -> bool:
    """Whether an error has one of the exchange's four forms (API.md 5); a gateway's page has none."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    inner = told.get("error", told) if isinstance(told, dict) else None
    return isinstance(inner, str) or (isinstance(inner, dict) and bool({"code", "msg"} & inner.keys()))


# --- stream


def of_frame(text: str | bytes) -> Iterator[Drift]:
    """What one frame of the stream says that was not agreed."""
    kind = type_of(text)
    where = f"{STREAM} {kind}".rstrip()
    if kind not in contract().frames:
        name = re.sub(r"[^\w.-]", "?", kind)[:LONGEST_SAMPLE]
        is_frame = bool(name)
        yield Drift(
            DriftKind.UNKNOWN_FRAME if is_frame else DriftKind.UNREADABLE,
            STREAM,
            found=name or "not a frame",
        )
    elif not conforms(frame_shape(kind), text):
        yield from _drifts(where, departures(frame_shape(kind), text), is_private=is_private_frame(kind))
    elif kind == "error":
        number = msgspec.json.decode(text, type=_ErrorFrame).msg.code
        if number not in contract().stream_errors:
            yield Drift(DriftKind.UNKNOWN_STREAM_ERROR, where, "msg.code", found=str(number))


# --- both


def _drifts(where: str, found: Iterable[Departure], *, is_private: bool) -> Iterator[Drift]:
    for each in found:
        sample = "" if each.value is None else shown(each.value, is_private=is_private)
        yield Drift(each.kind, where, each.field, each.found, sample, each.is_money)


def shown(value: Any, *, is_private: bool) -> str:
    """A value fit for a page and a log: short, and of private ones the form alone (digits as 9, letters as a)."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if is_private:
        text = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", text[: LONGEST_SAMPLE * 2]))
    text = "".join(each if each.isprintable() else "?" for each in text[: LONGEST_SAMPLE * 2])
    return text if len(text) <= LONGEST_SAMPLE else f"{text[:LONGEST_SAMPLE]}…"
