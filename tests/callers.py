"""Scripts that call the API as a person of the cast, with a token of chosen scopes."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site.api import throttling
from kalshi_site.api.throttling import WINDOW
from kalshi_site.identity import ROLES, issue_token, new_id
from kalshi_site.models import ApiToken, User
from tests.factories import member

BASE = "/api/v1"
# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


class Caller:
    """One script. `scopes` default to those that the role's tokens usually get."""

    def __init__(self, user: User, *scopes: str) -> None:
        self.user = user
        self.token = issue_token(
            user=user,
            name="test",
            scopes=scopes or ("read",),
            expires_at=timezone.now() + timedelta(days=1),
        )
        _forget_requests(ApiToken.objects.latest("pk").pk)
        self.client = Client(headers={"Authorization": f"Bearer {self.token}"}, raise_request_exception=False)

    @classmethod
    def of(cls, role: str, *scopes: str, username: str = "") -> Caller:
        return cls(member(username or f"{role}1", role), *(scopes or ROLES[role].scopes))

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self.client.get(BASE + path, headers=_named(headers))

    def put(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        """Header names are written with underscores."""
        data = json.dumps({} if body is None else body)
        return self.client.put(
            BASE + path, data=data, content_type="application/json", headers=_named(headers)
        )

    def post(self, path: str, body: Any = None, *, key: str | None = "", **headers: str) -> HttpResponse:
        """`key`: "" takes a fresh one, None sends none. Header names are written with underscores."""
        sent = _named(headers)
        if key is not None:
            sent["Idempotency-Key"] = key or new_id("key")
        data = body if isinstance(body, str | bytes) else json.dumps({} if body is None else body)
        return self.client.post(BASE + path, data=data, content_type="application/json", headers=sent)

    def approve(
        self, proposal: Proposal, *, key: str | None = "", seen: str = '"v1"', **body: Any
    ) -> HttpResponse:
        """Say yes to the terms of the row as the test holds it."""
        said = {"terms_hash": proposal.terms_hash, **body}
        return self.post(f"/proposals/{proposal.public_id}/approve", said, key=key, If_Match=seen)


def _forget_requests(token: int) -> None:
    """Rows are numbered anew in each test: what a token of that number asked a moment ago was another's doing."""
    now = time.time()
    keys = [
        throttling.key_of(kind, f"token-{token}", at)
        for kind in ("read", "write")
        for at in (now, now + WINDOW)
    ]
    with contextlib.suppress(redis.RedisError):  # a test without the server counts nothing
        throttling.client(settings.REDIS_CACHE_URL).delete(*keys)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def code_of(response: HttpResponse) -> str:
    """The problem's code, after checking that it is a complete problem document of the same status."""
    assert response["Content-Type"] == "application/problem+json", response.content
    problem = json.loads(response.content)
    assert problem["status"] == response.status_code
    assert problem.keys() >= {"type", "title", "detail", "instance", "request_id", "retryable", "hint"}
    assert problem["request_id"] == response["Request-Id"]
    return str(problem["code"])
