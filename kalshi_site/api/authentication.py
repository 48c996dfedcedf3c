"""Who calls: a script by its bearer token, a page by its session (with CSRF)."""

from __future__ import annotations

import re
from typing import Final

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from kalshi_site.errors import NotSignedIn
from kalshi_site.identity import authenticate_token
from kalshi_site.models import ApiToken, User

_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]+) *", re.IGNORECASE)


class BearerToken(BaseAuthentication):
    """`Authorization: Bearer kops_…`. A header that is there but unusable is refused, never passed over."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """The token's owner and the token; None without the header. Raises AuthenticationFailed (E101)."""
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        match = _BEARER.fullmatch(header)
        if match is None:
            raise AuthenticationFailed("send Authorization: Bearer <token>")
        try:
            token = authenticate_token(match[1])
        except NotSignedIn as error:
            raise AuthenticationFailed(error.detail) from error
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        """Makes a refusal a 401."""
        return 'Bearer realm="kalshi-ops"'


class PageSession(SessionAuthentication):
    """The session of a signed-in person."""
