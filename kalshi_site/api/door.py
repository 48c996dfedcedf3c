"""What every answer of the API carries, whichever room it comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseNotModified
from django.http.response import HttpResponseBase
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site.api.throttling import Quota
from kalshi_site.idempotency import etag

View = Callable[..., HttpResponseBase]


def door(view_class: type[APIView]) -> View:
    """The view as it stands in the addresses: with rate and cache headers, entity tag, 304 where it says so."""
    view = view_class.as_view()

    @functools.wraps(view)
    def enter(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        quota = getattr(request, "quota", None)
        if isinstance(quota, Quota):
            for name, value in quota.headers().items():
                response[name] = value
        response.setdefault("Cache-Control", "private, no-store")
        return _tagged(request, response)

    return enter


def _tagged(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Add the version of a single object as its entity tag; answer 304 when the caller has it and the view lets us.

    The tag is first of all what `If-Match` names. Many an answer holds more than moves with it, a mark or a stop of
    another scope: only a view whose `moves_with_tag` is true says that nothing changed.
    """
    if (
        not isinstance(response, Response)
        or response.status_code != 200
        or not isinstance(response.data, dict)
    ):
        return response
    version = response.data.get("version")
    if not isinstance(version, int):
        return response
    tag = response.get("ETag") or etag(version)
    response["ETag"] = tag
    known = {given.strip() for given in request.headers.get("If-None-Match", "").split(",")}
    if request.method in ("GET", "HEAD") and tag in known and _moves_with_tag(response):
        return HttpResponseNotModified(headers={"ETag": tag, "Cache-Control": "private, no-store"})
    return response


def _moves_with_tag(response: Response) -> bool:
    """What the view that answered says of itself; by default not, for a 304 too many hides a stop."""
    view = getattr(response, "renderer_context", {}).get("view")
    return bool(getattr(view, "moves_with_tag", False))
