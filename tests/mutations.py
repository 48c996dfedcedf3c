"""Everything that may happen to a field of a message, and what must not follow from it.

A mutation is answered well when it is noticed (a drift is noted, or an error with E606 or E610 is raised or returned)
and no number comes out that was not in the message. Only the end of an optional field may pass unnoticed; what is then
read of it must be nothing, never a number.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

import msgspec

from trading.exchange.contract import Field, Kind, contract
from trading.exchange.drift import Sentinel, listening
from trading.exchange.errors import ExchangeError
from trading.exchange.outcomes import Unknown

Path = tuple[str | int, ...]
ALARMS = frozenset({"E606", "E610"})
NEW_WORD = "unheard_of"


@dataclass(frozen=True)
class Mutation:
    """One change of one field and the message after it. `is_legal`: the contract allows it, so nobody need notice."""

    kind: str
    path: Path
    message: Any
    is_legal: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.path))}"


def mutations(shape: str, message: dict[str, Any]) -> Iterator[Mutation]:
    """Every agreed field removed, renamed, nulled, emptied, given another type or another word; every object one more.

    What the contract allows (null where it may be null, any text where any is agreed) is no mutation.
    """
    for path in _objects(shape, message):
        yield Mutation("extra", path, _changed(message, path, lambda told: told | {"brand_new": "x"}))
    for path, field in _fields(shape, message):
        *above, name = path
        holder = tuple(above)
        yield Mutation("removed", path, _changed(message, holder, partial(_without, name)), field.may_lack)
        yield Mutation("renamed", path, _changed(message, holder, partial(_renamed, name)))
        if not field.may_be_null and field.kind.name != "any":
            yield Mutation("nulled", path, _changed(message, path, lambda _: None))
        for kind, other in _others(field.kind, _at(message, path)):
            is_legal = (
                kind == "emptied" and field.may_lack
            )  # an empty optional text is an absent one (API.md 4)
            yield Mutation(kind, path, _changed(message, path, lambda _, other=other: other), is_legal)


def _without(name: str | int, told: Any) -> Any:
    return {key: each for key, each in told.items() if key != name}


def _renamed(name: str | int, told: Any) -> Any:
    return {(f"{key}_v9" if key == name else key): each for key, each in told.items()}


def _others(kind: Kind, value: Any) -> Iterator[tuple[str, Any]]:
    if kind.name == "any":
        return
    if kind.name != "object":
        yield "to object", {"value": value, "brand_new": 1}
    if not kind.item:
        yield "to list", [value]
    if isinstance(value, str):
        yield "to number", float(value) if _is_decimal(value) else 42
        if "" not in kind.words and kind.name != "text":
            yield "emptied", ""
        if kind.name not in {"text", "id"}:
            yield "new word", NEW_WORD
        if kind.name == "price" and float(value) > 0.01:  # one cent could be one dollar
            yield "to cents", str(round(float(value) * 100))
    else:
        yield "to text", str(value).lower()
        if isinstance(value, bool):
            yield "to number", int(value)


def _is_decimal(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


@dataclass
class Judged:
    """What a client made of one message: numbers that it read, whether it noticed something, how it ended."""

    noticed: frozenset[str]
    ended: str
    numbers: dict[str, Any]


def judge(read: Callable[[], Any], *, beside: frozenset[str] = frozenset()) -> Judged:
    """Let a client read, with a sentinel of its own. What was noticed in the unchanged message stands in `beside`."""
    with listening(Sentinel()) as sentinel:
        try:
            outcome = read()
        except ExchangeError as error:
            outcome, ended = None, error.code
        else:
            each = outcome if isinstance(outcome, tuple) else (outcome,)
            ended = "E610" if any(isinstance(one, Unknown) for one in each) else ""
        noted = frozenset("|".join(each.drift.key) for each in sentinel.take().sightings)
    return Judged(noted - beside, ended, {} if ended else dict(numbers_of(outcome)))


def numbers_of(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every number in what was read, with its place. Texts, times and words are no numbers."""
    if isinstance(value, bool | str | bytes | Enum) or value is None:
        return
    if isinstance(value, int | float | Decimal):
        yield at, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from numbers_of(each, f"{at}.{key}")
    elif isinstance(value, list | tuple | set | frozenset):
        for number, each in enumerate(value):
            yield from numbers_of(each, f"{at}[{number}]")
    elif isinstance(value, msgspec.Struct):
        yield from numbers_of(msgspec.structs.asdict(value), at)
    elif dataclasses.is_dataclass(value):
        yield from numbers_of(
            {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}, at
        )


def complaints(
    mutation: Mutation,
    before: Judged,
    after: Judged,
    *,
    defaults: dict[str, Any] | None = None,
) -> list[str]:
    """What is wrong with how a mutation was answered; nothing when it was answered well."""
    wrong = []
    is_noticed = bool(after.noticed) or after.ended in ALARMS
    if not is_noticed and not mutation.is_legal:
        wrong.append(f"{mutation}: nobody noticed")
    allowed = defaults or {}
    # Said in this message, or read of the unchanged one: under another ticker a price has another place.
    said = {number for _, number in numbers_of(mutation.message)} | set(before.numbers.values())
    for place, number in after.numbers.items():
        if number not in said and allowed.get(place.rsplit(".", 1)[-1]) != number:
            wrong.append(f"{mutation}: {place} = {number!r} was made up")
    return wrong


def _objects(shape: str, value: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    for path, field in _fields(shape, value):
        inner = field.kind.item or field.kind
        told = _at(value, path)
        if inner.shape and told:
            yield (*at, *path, 0) if field.kind.item else (*at, *path)


def _fields(shape: str, value: Any, at: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Every agreed field that is there, with its path; of a list its first item's."""
    for name, field in contract().shapes[shape].items():
        if name not in value:
            continue
        yield (*at, name), field
        inner, told, below = field.kind, value[name], (*at, name)
        if inner.item is not None and told:
            inner, told, below = inner.item, told[0], (*below, 0)
        if inner.shape and isinstance(told, dict):
            yield from _fields(inner.shape, told, below)


def _at(message: Any, path: Path) -> Any:
    for part in path:
        message = message[part]
    return message


def _changed(message: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """A copy of the message with the value at `path` changed."""
    if not path:
        return change(copy.deepcopy(message))
    fresh = copy.deepcopy(message)
    holder = _at(fresh, path[:-1])
    holder[path[-1]] = change(holder[path[-1]])
    return fresh


def encoded(message: Any) -> bytes:
    return json.dumps(message).encode()
