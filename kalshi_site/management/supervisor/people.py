"""The first users of a paper desk: one for each role, with random password and token, written to one private file."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

from django.contrib.auth.models import Group
from django.utils import timezone

from kalshi_site.identity import LONGEST_LIFE, ROLES, ensure_roles, issue_token
from kalshi_site.management.supervisor.layout import write_private
from kalshi_site.models import ApiToken, User

TOKEN_NAME = "demo"  # noqa: S105  # the name of a key, not a key
_WORDS = (
    "amber anvil apple arrow aspen badge basil beach birch bloom brick brisk bronze cabin candle canyon cedar chalk "
    "cherry clover cobalt copper coral cotton crane creek crisp daisy delta ember fable falcon fern flint forest frost "
    "garnet ginger glade granite grove harbor hazel heron honey indigo island ivory jasper juniper kettle lagoon "
    "lamp lark laurel lemon lilac linen lotus magnet maple marble meadow mellow mint mosaic nectar nimble nutmeg oasis "
    "olive onyx orbit orchid otter pearl pebble pepper petal pine plum polar poplar prairie quartz quill raven reef "
    "ripple river robin rocket saffron sage sandal satin shadow silver slate spruce summit sunny teal thicket thistle "
    "timber topaz tulip tundra valley velvet violet walnut willow winter zephyr"
).split()


class Login(TypedDict):
    """One entry of the file."""

    role: str
    username: str
    password: str
    api_token: str


def first_users(path: Path, base_url: str) -> list[Login]:
    """Make roles and one user for each, or take up those of an earlier run; write their logins with `base_url`."""
    groups = ensure_roles()
    logins = _known(path) or [_make(role, groups[role]) for role in ROLES]
    write_private(path, json.dumps({"base_url": base_url, "users": logins}, indent=2) + "\n")
    return logins


def retire_demo_users() -> int:
    """Outside the paper profile nobody comes in with a password that was printed on a screen; returns how many went.

    Every door asks for an active account. The next start on paper makes the logins anew.
    """
    return User.objects.filter(is_demo=True, is_active=True).update(is_active=False)


def _known(path: Path) -> list[Login]:
    """The logins of an earlier run, when all of them still work; else none, and they are made anew."""
    try:
        logins: list[Login] = json.loads(path.read_text(encoding="utf-8"))["users"]
    except (OSError, ValueError, KeyError):
        return []
    live = set(
        ApiToken.objects.filter(
            name=TOKEN_NAME,
            owner__is_demo=True,
            owner__is_active=True,
            revoked_at=None,
            expires_at__gt=timezone.now(),
        ).values_list("owner__username", flat=True)
    )
    return logins if {login["username"] for login in logins} == live == set(ROLES) else []


def _make(role: str, group: Group) -> Login:
    user, _ = User.objects.get_or_create(username=role, defaults={"is_demo": True})
    password = new_password()
    user.set_password(password)
    user.is_demo, user.is_active = True, True
    user.is_staff = role in {"approver", "risk", "auditor", "admin"}
    user.save()
    user.groups.set([group])
    ApiToken.objects.filter(owner=user, name=TOKEN_NAME).delete()
    life = LONGEST_LIFE - timedelta(minutes=1)
    token = issue_token(
        user=user, name=TOKEN_NAME, scopes=ROLES[role].scopes, expires_at=timezone.now() + life
    )
    return {"role": role, "username": role, "password": password, "api_token": token}


def new_password() -> str:
    """Four words and two digits, as one can type them from the screen: 34 bits, for loopback only."""
    words = "-".join(secrets.choice(_WORDS) for _ in range(4))
    return f"{words}-{secrets.randbelow(90) + 10}"
