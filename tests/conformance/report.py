"""What the conformance runs saw, and the table that is made of it: docs/reference/exchange-operations.md.

`python -m tests.conformance.report` compares the committed table with the last run, `--write` renews it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tests.conformance.surface import SURFACE
from tests.contract import at_hand, operation_named

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "exchange-operations.md"
_HEAD = """# Operations of the exchange that are covered

Made by `make conformance WRITE=1` from a run against the paper exchange; the run fails when this page differs.

- **Answers**: every status that was answered, each answer valid against Kalshi's published OpenAPI document (3.34.0).
- **SDK**: Kalshi's official Python SDK (`kalshi-python-sync` 3.34.0) made the call and read the answer without a
  validation error, with an RSA key and with an Ed25519 key.
- **Client**: our own client made the call and the request was valid against the published document.
"""


def record(part: str, seen: dict[str, Any]) -> None:
    """Keep one part of the run in the folder `CONFORMANCE_SEEN`, when the run was given one."""
    folder = os.environ.get("CONFORMANCE_SEEN")
    if folder:
        kept = Path(folder, f"{part}.json")
        before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        kept.write_text(json.dumps(before | seen, indent=1, sort_keys=True), encoding="utf-8")


def table(seen: Path) -> str:
    """The page for what the run in this folder saw."""
    answers, client = _part(seen, "answers"), _part(seen, "client")
    sdk = {kind: _part(seen, f"sdk_{kind}") for kind in ("rsa", "ed25519")}
    lines = [_HEAD]
    for room, names in SURFACE.items():
        lines += [
            f"\n## {room}\n",
            "| Operation | Request | Answers | SDK | Client |",
            "|---|---|---|---|---|",
        ]
        for name in names:
            known = operation_named(name)
            statuses = sorted(key.split()[1] for key in answers if key.split()[0] == name)
            kinds = [kind for kind, steps in sdk.items() if steps.get(_snake(name))]
            both = "RSA, Ed25519" if len(kinds) == 2 else ", ".join(kinds) or "–"
            ours = f"`{client[name]}`" if name in client else "–"
            request = f"`{known.method} {known.path}`"
            lines.append(f"| {name} | {request} | {' '.join(statuses) or '–'} | {both} | {ours} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare or write; 1 when the committed page is not what the run saw."""
    if not at_hand():
        print("The published contract is not at hand (KALSHI_CONTRACT_DIR): the table stays as it is.")
        return 0
    made = table(Path(os.environ["CONFORMANCE_SEEN"]))
    if "--write" in sys.argv:
        TABLE.write_text(made, encoding="utf-8")
    elif not TABLE.exists() or TABLE.read_text(encoding="utf-8") != made:
        print(f"{TABLE.name} is not what this run saw; run make conformance WRITE=1", file=sys.stderr)
        return 1
    return 0


def _part(seen: Path, name: str) -> dict[str, Any]:
    path = seen / f"{name}.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return kept


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name).lower()


if __name__ == "__main__":
    sys.exit(main())
