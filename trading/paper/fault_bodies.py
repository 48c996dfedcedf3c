"""Answers and frames that say something else than what happened: pure editing of decoded JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from trading.paper.faults import Fault

IDS = frozenset({"order_id", "order_group_id"})
ECHOES = frozenset({"client_order_id"})
COUNTS = frozenset(
    {"fill_count", "remaining_count", "reduced_by", "count_fp", "fill_count_fp", "remaining_count_fp"}
)
ENUMS = frozenset({"status", "side", "book_side", "outcome_side", "taker_book_side", "market_type", "result"})
_GARBAGE = b"<html><body>Bad Gateway</body></html>"

Tree = Any


def edited(fault: Fault, body: bytes) -> bytes:
    """The body as this fault lets it arrive; a body that it does not touch stays as it is."""
    if fault.kind in _WHOLE:
        return _WHOLE[fault.kind](body)
    if not body:
        return body
    tree = msgspec.json.decode(body)
    _EDITS[fault.kind](tree, fault)
    return msgspec.json.encode(tree)


def _spots(tree: Tree, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects that hold the dotted path's last name (which they need not have)."""
    *inner, last = path.split(".")
    level = [tree]
    for name in inner:
        level = [child for node in level for child in _children(node, name)]
    for node in level:
        for holder in node if last == "*" and isinstance(node, list) else [node]:
            if isinstance(holder, dict):
                yield holder, last


def _children(node: Tree, name: str) -> list[Tree]:
    if isinstance(node, list):
        return list(node) if name == "*" else []
    if not isinstance(node, dict):
        return []
    return list(node.values()) if name == "*" else [node[name]] if name in node else []


def _everywhere(tree: Tree, names: frozenset[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object that has one of these names, at any depth."""
    if isinstance(tree, dict):
        yield from ((tree, name) for name in names & tree.keys())
        for child in list(tree.values()):
            yield from _everywhere(child, names)
    elif isinstance(tree, list):
        for child in tree:
            yield from _everywhere(child, names)


def _remove_ids(tree: Tree, _fault: Fault) -> None:
    for holder, name in list(_everywhere(tree, IDS)):
        del holder[name]


def _put_everywhere(names: frozenset[str], usual: str) -> Callable[[Tree, Fault], None]:
    def put(tree: Tree, fault: Fault) -> None:
        for holder, name in list(_everywhere(tree, names)):
            holder[name] = usual if fault.value is None else fault.value

    return put


def _remove(tree: Tree, fault: Fault) -> None:
    for holder, name in list(_spots(tree, fault.field)):
        holder.pop(name, None)


def _put(tree: Tree, fault: Fault) -> None:
    for holder, name in _spots(tree, fault.field):
        holder[name] = fault.value


def _add(tree: Tree, fault: Fault) -> None:
    """A name that nobody knows, beside the others (of a frame: in its `msg`)."""
    usual = "msg.surprise" if fault.kind.startswith("frame_") else "surprise"
    for holder, name in _spots(tree, fault.field or usual):
        holder[name] = "new" if fault.value is None else fault.value


_WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "truncated_body": lambda body: body[: len(body) // 2],
    "garbage_body": lambda _body: _GARBAGE,
    "empty_body": lambda _body: b"",
    "garbage_frame": lambda _body: _GARBAGE,
}
_EDITS: dict[str, Callable[[Tree, Fault], None]] = {
    "no_id": _remove_ids,
    "wrong_echo": _put_everywhere(ECHOES, "somebody-else"),
    "wrong_count": _put_everywhere(COUNTS, "999.00"),
    "unknown_enum": _put_everywhere(ENUMS, "surprising"),
    "missing_field": _remove,
    "wrong_value": _put,
    "extra_field": _add,
    "frame_missing_field": _remove,
    "frame_wrong_value": _put,
    "frame_extra_field": _add,
}
EDITS = frozenset(_WHOLE) | frozenset(_EDITS)
