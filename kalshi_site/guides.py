"""The files of `docs/how-to` and `docs/reference`, shown as they stand: one text, for page and file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

HOW_TO, REFERENCE = "how-to", "reference"
_NAME = re.compile(r"[a-z0-9-]{1,60}")
_LINK = re.compile(r'href="(?:\.\./(?:how-to|reference)/)?([a-z0-9-]+\.(?:md|json))"')
# Files that are pages of another kind here.
_ELSEWHERE = {"errors.md": "/help/errors", "openapi.json": "/api/v1/openapi.json"}


@dataclass(frozen=True, slots=True)
class Guide:
    """One of them: its folder, its name in the address, its heading, the rest as HTML."""

    kind: str
    name: str
    title: str
    body: SafeString


class NoSuchGuide(LookupError):
    """No file of this name."""


def folder(kind: str) -> Path:
    return settings.BASE_DIR / "docs" / kind


def names(kind: str) -> list[str]:
    """All of a kind, by name."""
    return sorted(path.stem for path in folder(kind).glob("*.md") if path.name not in _ELSEWHERE)


@cache
def guide(name: str) -> Guide:
    """One of them. Raises NoSuchGuide."""
    kind = next((each for each in (HOW_TO, REFERENCE) if name in names(each)), None)
    if kind is None or not _NAME.fullmatch(name):
        raise NoSuchGuide(name)
    text = (folder(kind) / f"{name}.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    # Raw HTML stays text (`html` off): the files are ours, and still no door for a tag.
    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(rest)
    made = _LINK.sub(lambda found: f'href="{_address(found[1])}"', made)
    return Guide(kind, name, first.removeprefix("# ").strip(), mark_safe(made))  # noqa: S308  # rendered with `html` off


def _address(file: str) -> str:
    return _ELSEWHERE.get(file) or f"/help/guides/{file.removesuffix('.md')}"
