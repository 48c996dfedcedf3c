"""How people come in, by invitation only, and what they may."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.models import Permission
from django.db.models import QuerySet
from django.http import HttpRequest

from kalshi_site.models import User
from kalshi_site.prepared import prepared


class ClosedSignup(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """Nobody makes an account for himself; `manage.py createsuperuser` and the admin do."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Never."""
        return False


class Backend(AuthenticationBackend):  # type: ignore[misc]  # allauth ships no types
    """Rights are those that Django reads, asked with SQL that is written once: every request asks for them."""

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """All of a person's rights, his own and his groups', read once for each row of him."""
        if (
            not isinstance(user_obj, User)
            or not user_obj.is_active
            or user_obj.is_superuser
            or obj is not None
        ):
            rights: set[str] = super().get_all_permissions(user_obj, obj)
            return rights
        kept = vars(user_obj)  # where Django keeps them too
        if "_perm_cache" not in kept:
            kept["_perm_cache"] = {f"{app}.{codename}" for app, codename in _granted(user_obj.pk)}
        known: set[str] = kept["_perm_cache"]
        return known


@prepared
def _granted(user: int) -> QuerySet[Permission, tuple[str, str]]:
    rows = Permission.objects.order_by().values_list("content_type__app_label", "codename")
    return rows.filter(user=user).union(rows.filter(group__user=user))
