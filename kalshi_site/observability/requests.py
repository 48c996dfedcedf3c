"""The request id: taken from the caller when it is fit, else made; on the answer, the logs and the audit trail."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from kalshi_site.observability import request_id

_FIT = re.compile(r"[A-Za-z0-9_.:-]{8,64}")


class RequestIdMiddleware:
    """Binds `Request-Id` for the time of one request and returns it in the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request under its id."""
        asked = request.headers.get("Request-Id", "")
        current = asked if _FIT.fullmatch(asked) else secrets.token_hex(13)
        token = request_id.set(current)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response["Request-Id"] = current
        return response
