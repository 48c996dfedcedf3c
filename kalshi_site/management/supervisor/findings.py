"""What a look of the doctor finds, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failure"]
Look = Callable[[], Iterator["Finding"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result: what was looked at, how it stands, what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(name, "ok", detail)


def when(good: bool, name: str, detail: str, fix: str, verdict: Verdict = "failure") -> Finding:
    """`verdict` with what to do, unless it is good."""
    return ok(name, detail) if good else Finding(name, verdict, detail, fix)


def all_of(looks: Iterable[Look]) -> list[Finding]:
    """Look at everything. A look that breaks is a failure of its own and does not hide the others."""
    return [finding for look in looks for finding in _safely(look)]


def _safely(look: Look) -> list[Finding]:
    name = look.__name__.replace("_", " ").strip()
    try:
        return list(look())
    except Exception as error:  # whatever is wrong with this machine is the doctor's to report, not to die of
        return [Finding(name, "failure", f"{type(error).__name__}: {error}", "Report this line.")]
