#!/usr/bin/env python3
"""Read the exchange's published contract into our own table: `exchange_contract.py --dir DIR [--write]`.

DIR holds openapi.yaml and asyncapi.yaml as the exchange publishes them. Without --write it says what differs from the
committed table, which is the list of what to look at when a new version comes out. Descriptions are left behind; what
money depends on is not in those files and stands by hand in `trading/exchange/contract.py`.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any, Final

import yaml

TABLE: Final = Path(__file__).resolve().parent.parent / "trading" / "exchange" / "contract.toml"
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
HEAD: Final = """\
# What the exchange has agreed to send: every answer and every frame that a trading desk may meet, field by field.
# Made by ops/exchange_contract.py from openapi.yaml {rest} and asyncapi.yaml {stream}; do not edit by hand.
#
# A field is `name:kind`. Kinds: text, id (a text that is not empty), time (RFC 3339), decimal (a number in a string),
# price (a decimal from 0 to 1), int, number, bool, object, any, level (a price and a count), {shapes}; =a|b is one of
# these words, [x] a list of x.
# Behind the kind: ? may be absent, ~ may be null, - is on its way out (may be absent too).
"""

# Outside of what this desk trades: requests for quote, perpetuals, brokers, live data and the like.
_LEFT_OUT: Final = re.compile(
    r"/(communications|search|live_data|structured_targets|milestones|multivariate_event_collections"
    r"|incentive_programs|fcm)\b|forecast_percentile"
)
_PRICE: Final = re.compile(
    r"((last_|previous_)?(yes_|no_)?(bid|ask|price)|(yes_)?settlement_value|settlement_floor"
    r"|open|low|high|close|mean|previous|min|max)_dollars"
    r"|settlement_value|average_fill_price|open|low|high|close|mean|previous"
)
# What rows are kept and found by: an empty one names nothing.
_ID: Final = re.compile(r"(market_|event_|series_)?ticker|(order|trade|fill)_id")
_DECIMAL: Final = re.compile(
    r"\w+_(dollars|fp)|fee_cost|average_fee_paid|fill_count|remaining_count|reduced_by"
)
_KINDS: Final = {"integer": "int", "boolean": "bool", "number": "number", "object": "object"}
_MONEY: Final = frozenset({"FixedPointDollars", "FixedPointCount"})
# Where the published form is looser than what is sent, and a guess would cost money.
_CLOSER: Final = {
    **{
        f"{owner}.{name}": "decimal"
        for owner in ("PriceRange", "market_lifecycle_v2.price_ranges_item")
        for name in ("start", "end", "step")
    },
    "IndexedBalance.balance": "decimal",
    "EventData.fee_type_override": "=quadratic|quadratic_with_maker_fees|quadratic_with_combo_maker_fees|flat"
    "|margin_market_maker_program_fees|~?",
    "EventData.collateral_return_type": "=MECNET|DIRECNET|",
    "market_lifecycle_v2.result": "=yes|no|scalar|?",
    "multivariate_market_lifecycle.result": "=yes|no|scalar|?",
    # A label, of which new ones appear; the bands themselves are what counts (API.md 9).
    "market_lifecycle_v2.price_level_structure": "text?",
    "multivariate_market_lifecycle.price_level_structure": "text?",
    "market_lifecycle_v2.event_type": "=created|activated|deactivated|close_date_updated|determined|settled"
    "|price_level_structure_updated|metadata_updated",
}


class Reader:
    """Collects the shapes that the operations or frames of one document reach."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.shapes: dict[str, dict[str, str]] = {}

    def named(self, reference: str) -> tuple[str, dict[str, Any]]:
        """The name and the schema of a `$ref`."""
        found: Any = self._document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return reference.rsplit("/", 1)[-1], found

    def shape(self, name: str, schema: dict[str, Any]) -> str:
        """Note an object's fields under `name`; returns the name."""
        if name not in self.shapes:
            self.shapes[name] = {}
            needed = set(schema.get("required", ()))
            self.shapes[name] = {
                field: self._field(name, field, each, needed=field in needed)
                for field, each in schema.get("properties", {}).items()
            }
        return name

    def _field(self, owner: str, field: str, schema: dict[str, Any], *, needed: bool) -> str:
        if closer := _CLOSER.get(f"{owner}.{field}"):
            return closer
        kind, nullable = self._kind(f"{owner}.{field}", field, schema)
        kind = "text" if kind == "id" and not needed else kind  # empty optional texts appear as "" (API.md 4)
        going = "-" if schema.get("deprecated") else ""
        return kind + ("" if needed or going else "?") + going + ("~" if nullable else "")

    def _kind(self, owner: str, field: str, schema: dict[str, Any]) -> tuple[str, bool]:
        """The kind of a value, and whether null may stand for it."""
        nullable = schema.get("nullable") is True
        if parts := schema.get("allOf"):
            kind, inner = self._kind(owner, field, parts[0])
            return kind, nullable or inner
        if reference := schema.get("$ref"):
            name, target = self.named(reference)
            if target.get("type") == "object" and target.get("properties"):
                return self.shape(name, target), nullable or target.get("nullable") is True
            kind, inner = self._kind(name, field, target)
            return kind, nullable or inner
        types = schema.get("type", "object")
        if isinstance(types, list):
            nullable = nullable or "null" in types
            types = next(each for each in types if each != "null")
        return self._plain(owner, field, types, schema), nullable

    def _plain(self, owner: str, field: str, type_: str, schema: dict[str, Any]) -> str:
        if type_ == "array":
            return self._list(owner, field, schema.get("items", {}))
        if type_ == "object" and schema.get("properties"):
            return self.shape(owner, schema)
        if type_ == "string":
            return _text(owner, field, schema)
        return _KINDS[type_]

    def _list(self, owner: str, field: str, items: dict[str, Any]) -> str:
        if "$ref" in items:
            name, target = self.named(items["$ref"])
            if name == "PriceLevelDollarsCountFp":
                return "[level]"
            items = items if target.get("properties") else target
        if items.get("type") == "array":
            inner = items.get("items", {})
            return "[level]" if inner.get("type") == "string" else f"[{self._list(owner, field, inner)}]"
        kind, nullable = self._kind(f"{owner}_item", field, items)
        return f"[{kind}{'~' if nullable else ''}]"


def _text(owner: str, field: str, schema: dict[str, Any]) -> str:
    if words := schema.get("enum"):
        return f"={'|'.join(str(each) for each in words if each is not None)}"
    if schema.get("format") == "date-time":
        return "time"
    if _PRICE.fullmatch(field):
        return "price"
    if _ID.fullmatch(field):
        return "id"
    return "decimal" if _DECIMAL.fullmatch(field) or owner in _MONEY else "text"


def rest(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """`METHOD path` -> shape of its success ("" when it has no body), and the shapes."""
    reader, operations = Reader(document), {}
    for path, item in document["paths"].items():
        for verb in ("get", "post", "put", "delete"):
            if verb not in item or _LEFT_OUT.search(path):
                continue
            success = next(each for status, each in item[verb]["responses"].items() if status[0] == "2")
            schema = success.get("content", {}).get("application/json", {}).get("schema")
            operations[f"{verb.upper()} {path}"] = "" if schema is None else _answer(reader, schema)
    return operations, reader.shapes


def _answer(reader: Reader, schema: dict[str, Any]) -> str:
    name, target = reader.named(schema["$ref"])
    return reader.shape(name, target)


def stream(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Frame type -> the fields around its body, and the shapes of the bodies."""
    reader, frames = Reader(document), dict[str, str]()
    for schema in document["components"]["schemas"].values():
        kind = schema.get("properties", {}).get("type", {}).get("const")
        if kind is None or not {"sid", "msg"} & schema["properties"].keys():
            continue
        _frame(reader, frames, kind, schema)
    return frames, reader.shapes


def _frame(reader: Reader, frames: dict[str, str], kind: str, schema: dict[str, Any]) -> None:
    """Note one form of a frame. `ok` answers two commands and a lifecycle message has two forms: both are one type."""
    body = schema["properties"].get("msg")
    again = kind in frames
    if kind != "ok" and body is not None:
        fields = _loose(reader, kind, body) if again else {}
        known = reader.shapes[reader.shape(kind, body)]
        known |= {name: each for name, each in fields.items() if name not in known}
    needed = set(schema.get("required", ())) if kind != "ok" else set()
    envelope = {
        name: "text" if name == "type" else "int" + ("" if name in needed else "?")
        for name in ("type", "id", "sid", "seq", "sending_ts_ms")
        if name in schema["properties"] or kind == "ok"
    }
    if body is not None:
        envelope["msg"] = kind if kind != "ok" else "any?"
    if not again:
        frames[kind] = " ".join(f"{name}:{each}" for name, each in envelope.items())


def _loose(reader: Reader, kind: str, body: dict[str, Any]) -> dict[str, str]:
    other = f"{kind}.other"
    reader.shape(other, {**body, "required": []})
    return reader.shapes.pop(other)


def table(folder: Path) -> str:
    """The whole table as text."""
    published = {
        name: yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"), LOADER)  # noqa: S506 - a safe loader
        for name in ("openapi", "asyncapi")
    }
    operations, answers = rest(published["openapi"])
    frames, bodies = stream(published["asyncapi"])
    numbers = [str(each["code"]) for each in published["asyncapi"]["x-error-codes"]["codes"]]
    versions = {name: each["info"]["version"] for name, each in published.items()}
    lines = [HEAD.format(rest=versions["openapi"], stream=versions["asyncapi"], shapes="a shape below")]
    lines += ["stream_errors = [", *_wrapped(", ".join(numbers)), "]", "", "[operations]"]
    lines += [f'"{name}" = "{shape}"' for name, shape in operations.items()]
    lines += ["", "[frames]", *(f'{name} = "{fields}"' for name, fields in frames.items())]
    lines += ["", "[answers]", *_shapes(answers), "", "[bodies]", *_shapes(bodies)]
    return "\n".join(lines) + "\n"


def _shapes(shapes: dict[str, dict[str, str]]) -> list[str]:
    lines: list[str] = []
    for name, fields in shapes.items():
        text = " ".join(f"{field}:{kind}" for field, kind in fields.items())
        lines += [f'"{name}" = """', *_wrapped(text), '"""']
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 116, break_long_words=False, break_on_hyphens=False)


def differences(old: str, new: str) -> list[str]:
    """What a new version of the contract adds, drops and changes, one line each."""
    before, after = _flat(old), _flat(new)
    return [
        *(f"new      {name} {after[name]}" for name in sorted(after.keys() - before.keys())),
        *(f"dropped  {name}" for name in sorted(before.keys() - after.keys())),
        *(
            f"changed  {name}: {before[name]} -> {after[name]}"
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ),
    ]


def _flat(text: str) -> dict[str, str]:
    read = tomllib.loads(text)
    flat = {f"stream error {number}": "" for number in read["stream_errors"]}
    flat |= read["operations"] | {f"frame {name}": shape for name, shape in read["frames"].items()}
    for part in ("answers", "bodies"):
        for shape, fields in read[part].items():
            flat |= {
                f"{shape}.{name}": kind for name, _, kind in (each.partition(":") for each in fields.split())
            }
    return flat


def main() -> int:
    """0 when the table is current or was written, 1 when it differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--dir", type=Path, required=True)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    new = table(given.dir)
    old = (
        TABLE.read_text(encoding="utf-8")
        if TABLE.exists()
        else "stream_errors=[]\n[operations]\n[frames]\n[answers]\n[bodies]\n"
    )
    found = differences(old, new)
    print("\n".join(found) or "the table is current")
    if given.write:
        TABLE.write_text(new, encoding="utf-8")
    return 1 if found and not given.write else 0


if __name__ == "__main__":
    sys.exit(main())
