"""Kalshi's published contract as a judge: requests and answers against openapi.yaml, frames against asyncapi.yaml.

The two files are found through `KALSHI_CONTRACT_DIR` and never copied; without them a test that asks is skipped.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

# The libyaml loader: the pure one needs half a minute for these files.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
VERBS = ("get", "post", "put", "delete")
BASE = "/trade-api/v2"
Document = dict[str, Any]

_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    """RFC 3339 with a zone."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


# Frame type -> the payload's schema in the AsyncAPI document, where the two are not spelled alike.
_FRAME_SCHEMAS = {
    "market_lifecycle_v2": "marketLifecycleV2Payload",
    "user_order": "userOrderPayload",
    "order_group_updates": "orderGroupUpdatesPayload",
    "cfbenchmarks_value_5hz": "cfbenchmarksValue5HzPayload",
}


def contract_dir() -> Path:
    """The folder of the published contract; skips the test that asks when it is not at hand."""
    if not at_hand():
        pytest.skip("KALSHI_CONTRACT_DIR is not set: the published contract is not at hand")
    return Path(os.environ["KALSHI_CONTRACT_DIR"])


def at_hand() -> bool:
    """Whether the published contract is on this machine."""
    return bool(os.environ.get("KALSHI_CONTRACT_DIR"))


@functools.cache
def document(name: str) -> Document:
    """One of the two files, read once per process."""
    text = (contract_dir() / name).read_text(encoding="utf-8")
    loaded: Document = yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe loader
    return loaded


@dataclass(frozen=True)
class Operation:
    """One operation of the REST contract: `path` with its names in braces, below the base path."""

    method: str
    path: str
    spec: Mapping[str, Any]
    shared: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return str(self.spec["operationId"])

    @property
    def success(self) -> int:
        """The status of a success."""
        return next(int(status) for status in self.spec["responses"] if status.startswith("2"))

    def answer_faults(self, status: int, body: bytes) -> list[str]:
        """Why this answer is not as published; errors come in four shapes, which are judged apart."""
        spec = self.spec["responses"].get(str(status))
        if status >= 400:
            return [] if _is_error_shape(body) else [f"{status}: an error of no known shape: {body[:200]!r}"]
        if spec is None:
            return [f"the contract knows no answer {status}"]
        schema = _schema(_resolved(spec))
        if schema is None:
            return [] if not body else [f"{status} has no body in the contract"]
        return _faults(schema, _decoded(body))

    def request_faults(self, query: Iterable[tuple[str, str]], body: bytes) -> list[str]:
        """Why this request is not as published: unknown or unreadable query parameters, a body off its schema."""
        declared = {each["name"]: each for each in self._parameters("query")}
        given = list(query)
        faults = [
            f"query {name}: {fault}" for name, text in given for fault in _query_faults(declared, name, text)
        ]
        names = {name for name, _ in given}
        faults += [
            f"query {n} is missing" for n, each in declared.items() if each.get("required") and n not in names
        ]
        asked = self.spec.get("requestBody")
        if asked is None:
            return faults + (["a body where the contract has none"] if body else [])
        asked = _resolved(asked)
        if not body:
            return faults + (["no body"] if asked.get("required") else [])
        schema = _schema(asked)
        return faults + ([] if schema is None else _faults(schema, _decoded(body), closed=True))

    def _parameters(self, place: str) -> list[Mapping[str, Any]]:
        listed = [_resolved(each) for each in (*self.shared, *self.spec.get("parameters", ()))]
        return [each for each in listed if each["in"] == place]


@functools.cache
def operations() -> tuple[Operation, ...]:
    """Every operation of openapi.yaml."""
    return tuple(
        Operation(verb.upper(), path, item[verb], tuple(item.get("parameters", ())))
        for path, item in document("openapi.yaml")["paths"].items()
        for verb in VERBS
        if verb in item
    )


def operation(method: str, path: str) -> Operation | None:
    """The operation that a request names: literal paths before those with names in braces. None when there is none."""
    below = path.removeprefix(BASE)
    fits = [
        each
        for each in operations()
        if each.method == method.upper() and _pattern(each.path).fullmatch(below)
    ]
    return min(fits, key=lambda each: each.path.count("{"), default=None)


def operation_named(name: str) -> Operation:
    """An operation by its `operationId`. Raises StopIteration."""
    return next(each for each in operations() if each.name == name)


def frame_faults(frame: Mapping[str, Any]) -> list[str]:
    """Why a frame of the server is not as published."""
    name = _frame_schema(frame)
    whole = _components("asyncapi.yaml")
    if name not in whole["schemas"]:
        return [f"the contract knows no frame of type {frame.get('type')!r}"]
    return _told(_checker({"$ref": f"#/components/schemas/{name}"}, "asyncapi.yaml").iter_errors(frame))


def _frame_schema(frame: Mapping[str, Any]) -> str:
    kind = str(frame.get("type"))
    body = frame.get("msg")
    if kind == "ok" and isinstance(body, list):
        return "listSubscriptionsResponsePayload"
    if (
        kind == "market_lifecycle_v2"
        and isinstance(body, dict)
        and body.get("event_type") == "metadata_updated"
    ):
        return "marketMetadataUpdatedPayload"
    if kind in {"subscribed", "ok", "error", "unsubscribed"}:
        return f"{kind}ResponsePayload"
    head, *rest = kind.split("_")
    return _FRAME_SCHEMAS.get(kind, head + "".join(word.title() for word in rest) + "Payload")


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path)))


def _resolved(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in spec:
        return spec
    found: Any = document("openapi.yaml")
    for part in spec["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _schema(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    content = spec.get("content", {}).get("application/json")
    return None if content is None else content.get("schema")


def _faults(schema: Mapping[str, Any], body: Any, *, closed: bool = False) -> list[str]:
    return _told(_checker(schema, "openapi.yaml").iter_errors(body)) + (
        _unknown(schema, body) if closed else []
    )


def _unknown(schema: Mapping[str, Any], body: Any) -> list[str]:
    """Fields of a request that the contract does not have: the exchange would ignore them in silence."""
    known = _resolved(schema).get("properties")
    if known is None or not isinstance(body, dict):
        return []
    return [f"unknown field {name}" for name in body.keys() - known.keys()]


def _told(errors: Iterable[Any]) -> list[str]:
    return [f"{'/'.join(map(str, error.path)) or 'body'}: {error.message[:300]}" for error in errors][:10]


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not JSON: {error}"


def _is_error_shape(body: bytes) -> bool:
    """One of the four shapes of API.md 5."""
    told = _decoded(body)
    if not isinstance(told, dict):
        return False
    inner = told.get("error", told)
    return isinstance(inner, str) or (isinstance(inner, dict) and ("code" in inner or "msg" in inner))


def _query_faults(declared: Mapping[str, Mapping[str, Any]], name: str, text: str) -> list[str]:
    spec = declared.get(name)
    if spec is None:
        return ["the contract has no such parameter"]
    schema = _resolved(spec.get("schema", {}))
    if schema.get("type") == "array":
        schema = _resolved(schema.get("items", {}))
    return _faults(schema, _typed(schema.get("type"), text))


def _typed(kind: str | None, text: str) -> Any:
    """A parameter's text as the type that the contract gives it; text that does not fit stays text, and is a fault."""
    if kind == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind == "boolean" and text in {"true", "false"}:
        return text == "true"
    return text


@functools.cache
def _components(name: str) -> Document:
    rewritten: Document = _rewritten(document(name)["components"])
    return rewritten


def _checker(schema: Mapping[str, Any], name: str) -> jsonschema.Draft202012Validator:
    whole = {**_rewritten(schema), "components": _components(name)}
    return jsonschema.Draft202012Validator(whole, format_checker=_FORMATS)


def _rewritten(schema: Any) -> Any:
    """`nullable` in the words of JSON Schema. It stands beside a `$ref` too, where strict tools pass it over."""
    if isinstance(schema, list):
        return [_rewritten(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {key: _rewritten(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [inside, {"type": "null"}]} if schema.get("nullable") is True else inside
