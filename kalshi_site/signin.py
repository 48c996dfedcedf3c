"""How people come in: by invitation only."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class ClosedSignup(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """Nobody makes an account for himself; `manage.py createsuperuser` and the admin do."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Never."""
        return False
