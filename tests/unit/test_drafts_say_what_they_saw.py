"""Every proposal names the versions that it rests on: read from the source, so that no proposer can forget them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("kalshi_site", "approvals", "portfolio", "trading")


def drafts() -> Iterator[tuple[str, ast.Call]]:
    """Each place where a draft of a proposal is made."""
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Draft":
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_whoever_makes_a_draft_says_what_it_saw() -> None:
    made = dict(drafts())
    assert len(made) >= 2, "the analyst's and the exit by hand"
    assert [
        place for place, call in made.items() if "seen_versions" not in {each.arg for each in call.keywords}
    ] == []
