"""Who is at the other end of a socket, and what that person may see, by the database as it is now."""

from __future__ import annotations

import time
from typing import Any, Final

from channels.db import database_sync_to_async
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.utils.crypto import constant_time_compare

from kalshi_site.errors import NotSignedIn
from kalshi_site.identity import authenticate_token
from kalshi_site.models import User

RIGHTS_LAST: Final = 5.0  # a right that was taken away, or a sign-out, ends the stream within this time


class Visitor:
    """A person by session or by token; nobody until one of them has let somebody in."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.person: User | None = None
        self._session = scope.get("session")
        self._token = ""
        self._rights: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    @property
    def is_known(self) -> bool:
        return self.person is not None

    async def enter_by_session(self, user: object) -> None:
        """The page's own session, when it has one."""
        if isinstance(user, User):
            self.person = user
            await self._read()

    async def enter_by_token(self, clear: str) -> None:
        """A script's token, which needs the scope `read`. Raises NotSignedIn."""
        token = await database_sync_to_async(authenticate_token)(clear)
        if "read" not in token.scopes:
            raise NotSignedIn("the token lacks the scope read", code="E103")
        self.person, self._token = token.owner, clear
        await self._read()

    async def may(self, right: str) -> bool:
        """Whether the person has the right, by what was read at most RIGHTS_LAST ago."""
        if time.monotonic() - self._read_at > RIGHTS_LAST:
            await self._read()
        return right in self._rights

    async def has_left(self) -> bool:
        """Whether the session has ended, the token was revoked or the account switched off."""
        await self._read()
        return not self._rights and not await database_sync_to_async(self._is_welcome)()

    async def _read(self) -> None:
        self._rights = await database_sync_to_async(self._rights_now)()
        self._read_at = time.monotonic()

    def _rights_now(self) -> frozenset[str]:
        if self.person is None or not self._is_welcome():
            return frozenset()
        fresh = User.objects.filter(pk=self.person.pk, is_active=True).first()
        return frozenset() if fresh is None else frozenset(fresh.get_all_permissions())

    def _is_welcome(self) -> bool:
        if self._token:
            try:
                return authenticate_token(self._token) is not None
            except NotSignedIn:
                return False
        fresh = (
            None if self.person is None else User.objects.filter(pk=self.person.pk, is_active=True).first()
        )
        return fresh is not None and self._is_signed_in(fresh)

    def _is_signed_in(self, fresh: User) -> bool:
        """Whether the session still lets this person in: time ends it, and so does a new password."""
        if not (self._session and self._session.session_key):
            return False
        kept = self._session.__class__(self._session.session_key).load()
        proof = kept.get(HASH_SESSION_KEY) or ""
        good = (fresh.get_session_auth_hash(), *fresh.get_session_auth_fallback_hash())
        return kept.get(SESSION_KEY) == str(fresh.pk) and any(
            constant_time_compare(proof, each) for each in good
        )
