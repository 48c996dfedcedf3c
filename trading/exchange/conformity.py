"""Whether an answer or a frame is as agreed, and where it departs from that.

Nearly everything is as agreed, so the question is asked of a strict decoder (about the cost of reading the message once
more); only what it refuses is walked field by field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec

from trading.exchange.contract import Field, Kind, contract

_DECIMAL: Final = r"^-?[0-9]{1,15}(\.[0-9]{1,6})?$"
_PRICE: Final = r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$"
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
# An unknown field of this name on a page may be the cursor's new name: then we would take a part for the whole.
PAGING: Final = re.compile(r"cursor|next|page|more|token", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ .:-]{0,39}")
_LONGEST_NAME: Final = 60


class DriftKind(StrEnum):
    """In which way the exchange departed from what was agreed."""

    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_WORD = "unknown_word"
    UNREADABLE = "unreadable"
    UNKNOWN_CODE = "unknown_code"
    UNEXPECTED_STATUS = "unexpected_status"
    RETIRED_ENDPOINT = "retired_endpoint"
    UNKNOWN_FRAME = "unknown_frame"
    UNKNOWN_STREAM_ERROR = "unknown_stream_error"


@dataclass(frozen=True, slots=True)
class Departure:
    """One place that is not as agreed: the path to the field, what came there, the value as it came (not redacted)."""

    kind: DriftKind
    field: str
    found: str
    value: Any = None
    is_money: bool = False


def conforms(shape: str, body: str | bytes) -> bool:
    """Whether the body is exactly as agreed, by one strict decode."""
    try:
        _strict(shape).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def departures(shape: str, body: str | bytes) -> list[Departure]:
    """Every place at which the body departs from the shape; a repeated one (of a list's items) once."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [Departure(DriftKind.UNREADABLE, "", "no JSON", is_money=True)]
    found = {(each.kind, each.field, each.found): each for each in _of_shape(shape, told, "", is_money=True)}
    return list(found.values())


# --- the strict decoder


@cache
def _strict(shape: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_struct(shape))


@cache
def _struct(shape: str) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in contract().shapes[shape].values():
        kind: Any = _type(field.kind, may_be_empty=field.may_lack)
        kind = kind | None if field.may_be_null else kind
        fields.append(
            (field.name, kind | msgspec.UnsetType, msgspec.UNSET) if field.may_lack else (field.name, kind)
        )
    return msgspec.defstruct(re.sub(r"\W", "_", shape), fields, kw_only=True, forbid_unknown_fields=True)


def _type(kind: Kind, *, may_be_empty: bool = False) -> Any:
    if kind.item is not None:
        return list[_type(kind.item)]  # type: ignore[misc]  # a type made of the table
    if kind.shape:
        return _struct(kind.shape)
    if kind.words:
        return Literal[tuple(sorted(kind.words | ({""} if may_be_empty else set())))]
    return (_OR_EMPTY if may_be_empty else _PLAIN_TYPES).get(kind.name, _PLAIN_TYPES[kind.name])


_decimal = Annotated[str, msgspec.Meta(pattern=_DECIMAL)]
_price = Annotated[str, msgspec.Meta(pattern=_PRICE)]
_PLAIN_TYPES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "text": str,
        "id": Annotated[str, msgspec.Meta(min_length=1)],
        "time": Annotated[str, msgspec.Meta(pattern=_TIME)],
        "decimal": _decimal,
        "price": _price,
        "int": int,
        "number": int | float,
        "bool": bool,
        "object": dict[str, Any],
        "any": Any,
        "level": tuple[_price, _decimal],
    }
)
_OR_EMPTY: Final[Mapping[str, Any]] = MappingProxyType(
    {
        name: Annotated[str, msgspec.Meta(pattern=f"^$|{pattern}")]
        for name, pattern in (("time", _TIME), ("decimal", _DECIMAL), ("price", _PRICE))
    }
)


# --- the walk


def _of_shape(shape: str, told: Any, at: str, *, is_money: bool) -> Iterator[Departure]:
    if not isinstance(told, dict):
        yield Departure(DriftKind.WRONG_TYPE, at, form(told), told, is_money)
        return
    fields = contract().shapes[shape]
    for name, field in fields.items():
        if name in told:
            yield from _of_field(field, told[name], _below(at, name))
        elif not field.may_lack:
            yield Departure(DriftKind.MISSING_FIELD, _below(at, name), "", None, field.is_money)
    is_page = "cursor" in fields and "cursor" not in told
    for name in told.keys() - fields.keys():
        shown = _printable(name)
        risky = is_page and bool(PAGING.search(name))
        yield Departure(DriftKind.UNKNOWN_FIELD, _below(at, shown), form(told[name]), told[name], risky)


def _of_field(field: Field, value: Any, at: str) -> Iterator[Departure]:
    # An optional text that is empty is an absent one (API.md 4).
    if (value is None and field.may_be_null) or (value == "" and field.may_lack and _is_text(field.kind)):
        return
    yield from _of_kind(field.kind, value, at, is_money=field.is_money)


def _of_kind(kind: Kind, value: Any, at: str, *, is_money: bool) -> Iterator[Departure]:
    if kind.shape:
        yield from _of_shape(kind.shape, value, at, is_money=is_money)
    elif kind.item is not None and isinstance(value, list):
        for item in value:
            yield from _of_kind(kind.item, item, f"{at}[]", is_money=is_money)
    elif kind.words and isinstance(value, str):
        if value not in kind.words:
            word = value if _WORD.fullmatch(value) else "another word"
            yield Departure(DriftKind.UNKNOWN_WORD, at, word, value, is_money)
    elif not _FITS.get(kind.name, _never)(value):
        yield Departure(DriftKind.WRONG_TYPE, at, form(value), value, is_money)


def _is_text(kind: Kind) -> bool:
    return bool(kind.words) or kind.name in {"text", "time", "decimal", "price"}


def form(value: Any) -> str:
    """What a JSON value is, in a word; nothing of what it says."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "empty text" if not value else "text"
    names = {type(None): "null", int: "number", float: "number", list: "list", dict: "object"}
    return names.get(type(value), "something else")


def _never(_: Any) -> bool:
    return False


def _matches(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.search(value) is not None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_level(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and _FITS["price"](value[0])
        and _FITS["decimal"](value[1])
    )


_FITS: Final[Mapping[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "text": lambda value: isinstance(value, str),
        "id": lambda value: isinstance(value, str) and bool(value),
        "time": _matches(_TIME),
        "decimal": _matches(_DECIMAL),
        "price": _matches(_PRICE),
        "int": lambda value: _is_int(value) or (isinstance(value, float) and value.is_integer()),
        "number": lambda value: _is_int(value) or isinstance(value, float),
        "bool": lambda value: isinstance(value, bool),
        "object": lambda value: isinstance(value, dict),
        "any": lambda _: True,
        "level": _is_level,
    }
)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _printable(name: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in name[:_LONGEST_NAME])
