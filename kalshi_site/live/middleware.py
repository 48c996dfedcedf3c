"""Where the topics stood when a page was asked for."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from kalshi_site.live import changes

TOPICS = ("proposals", "orders", "positions", "trading", "reconciliation")


class HeadsBeforeRows:
    """Notes the heads before a page's view reads its rows; read afterwards, they would hide what changed between.

    Only whole pages of people who are signed in carry heads; fragments and the API do not pay for them.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Note, then answer."""
        if _is_page(request):
            request.live_heads = changes.heads(TOPICS)  # type: ignore[attr-defined]
        return self.get_response(request)


def _is_page(request: HttpRequest) -> bool:
    return (
        request.method == "GET"
        and settings.SESSION_COOKIE_NAME in request.COOKIES
        and "text/html" in request.headers.get("Accept", "")
        and "HX-Request" not in request.headers
    )
