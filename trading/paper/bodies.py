"""JSON bodies of writes, read strictly, with the refusals of the real exchange (API.md 5)."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from trading.paper.refusals import bad_request, flat

T = TypeVar("T")


async def read_body(request: web.Request, kind: type[T]) -> T:
    """The body as a struct; an empty one counts as `{}`. Raises Refused: flat for what is no JSON or declares to be
    something else, `bad_request` for wrong types and missing fields."""
    content = await request.read()
    if content and request.content_type != "application/json":
        raise flat(400, "invalid_content_type", "the content type must be application/json")
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise bad_request(str(error)) from error
    except msgspec.DecodeError as error:
        raise flat(400, "invalid_json", "the body is not valid JSON", str(error)) from error
