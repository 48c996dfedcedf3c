"""JSON in and out: strict reading, one form of time and of numbers."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.encoders import JSONEncoder

from kalshi_site.errors import DeskError, FieldError


class DeskEncoder(JSONEncoder):
    """Times as RFC 3339 in UTC with milliseconds (UX.md 4.1)."""

    def default(self, obj: Any) -> Any:
        """One value in its JSON form."""
        if isinstance(obj, datetime):
            return obj.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return super().default(obj)


class DeskRenderer(JSONRenderer):
    """Compact JSON."""

    encoder_class = DeskEncoder


class StrictJSON(JSONParser):
    """One JSON object with the fields that the view `accepts`, each once; anything else is refused."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Raises ParseError (E001) and, on fields that nobody reads, DeskError E013."""
        try:
            text = codecs.decode(stream.read(), "utf-8")
            body = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)
            json.dumps(
                body, ensure_ascii=False
            ).encode()  # half a surrogate pair can be written, but not stored
        except (ValueError, RecursionError) as error:
            raise ParseError(f"the body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise ParseError("the body must be one JSON object")
        accepts: frozenset[str] = getattr((parser_context or {}).get("view"), "accepts", frozenset())
        if unknown := sorted(body.keys() - accepts):
            faults = [FieldError(f"/{name}", "E013", "not known here") for name in unknown]
            raise DeskError(f"not known here: {', '.join(unknown)}", code="E013", errors=faults)
        return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a field stands twice")
    return body
