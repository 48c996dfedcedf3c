"""The guides of `docs/how-to`, shown on pages as they stand in the file: one text, so that the two cannot differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

_NAME = re.compile(r"[a-z0-9-]{1,60}")


@dataclass(frozen=True, slots=True)
class Guide:
    """One guide: its name in the address, its heading, the rest as HTML."""

    name: str
    title: str
    body: SafeString


class NoSuchGuide(LookupError):
    """No file of this name."""


def folder() -> Path:
    return settings.BASE_DIR / "docs" / "how-to"


def names() -> list[str]:
    """All guides, by name."""
    return sorted(path.stem for path in folder().glob("*.md"))


@cache
def guide(name: str) -> Guide:
    """One guide. Raises NoSuchGuide."""
    if not _NAME.fullmatch(name) or name not in names():
        raise NoSuchGuide(name)
    text = (folder() / f"{name}.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    # Raw HTML stays text (`html` off): the files are ours, and still no door for a tag.
    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(rest)
    return Guide(name, first.removeprefix("# ").strip(), mark_safe(made))  # noqa: S308  # rendered with `html` off
