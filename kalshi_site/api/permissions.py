"""What the caller may: the view's right for this method, by the token's scopes and the person's role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rest_framework.exceptions import MethodNotAllowed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from kalshi_site.errors import RoleMissing
from kalshi_site.identity import Right, require
from kalshi_site.models import ApiToken, User

if TYPE_CHECKING:  # DRF loads this module while it loads its own views
    from rest_framework.views import APIView


class MayCall(BasePermission):
    """Passes callers whom the view's `rights` allow. A view that states none is closed."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """True, or an exception that says what is missing: E101, E103, E104, E003."""
        if not isinstance(request.user, User):
            raise NotAuthenticated
        method = request.method or ""
        if method == "OPTIONS" or not hasattr(view, method.lower()):
            raise MethodNotAllowed(method)
        rights: Mapping[str, Right] = getattr(view, "rights", {})
        right = rights.get("GET" if method == "HEAD" else method)
        if right is None:
            raise RoleMissing("nobody may call this")
        scopes = request.auth.scopes if isinstance(request.auth, ApiToken) else None
        require(request.user, right, scopes=scopes)
        return True
