"""Who may do what: roles, scopes, keys for scripts, one-time sign-in links, public ids.

A role is a Django group; its permissions stand in ROLES. A token belongs to a person: it may do what its scopes *and*
its owner's role allow. Secrets are kept as SHA-256 only: they carry 256 random bits, so no slow hash is needed.

    NotSignedIn      E101  no such token, expired, revoked, owner inactive, or of another profile
    EntryRefused     E110  no such code, spent or expired
    ScopeMissing     E103  the token was not issued for this
    RoleMissing      E104  the person's role does not include this
"""

from __future__ import annotations

import hashlib
import secrets
import string
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet
from django.utils import timezone

from kalshi_site.errors import DeskError, NotSignedIn, RoleMissing, ScopeMissing
from kalshi_site.models import ApiToken, EntryCode, User
from kalshi_site.prepared import prepared

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ALPHABET = string.ascii_letters + string.digits
SECRET_LENGTH = 43  # 62^43 is more than 2^256
SHOWN = 6  # characters of the secret that may be shown again
LONGEST_LIFE = timedelta(days=365)
ENTRY_LIFE = timedelta(minutes=10)
USE_GRAIN = timedelta(minutes=1)  # `last_used_at` is written at most this often: reads must not become writes

SCOPES: Mapping[str, str] = MappingProxyType(
    {
        "read": "Read everything that the owner's role may see",
        "propose": "Hand in and withdraw proposals",
        "trade": "Cancel orders, close positions, pause, stop and resume trading",
        "approve": "Approve and decline proposals",
        "risk": "Pause, stop and resume trading, cancel orders, change limits",
        "admin": "Manage people, keys and settings",
    }
)

_SEEN = (
    "approvals.view_proposal",
    "approvals.view_proposalevent",
    "approvals.view_decision",
    "portfolio.view_position",
    "portfolio.view_positionevent",
    "portfolio.view_cashentry",
    "portfolio.view_equitypoint",
    "portfolio.view_risklimit",
    "portfolio.view_tradingstate",
    "portfolio.view_tradingstateevent",
    "portfolio.view_autonomy",
    "portfolio.view_autonomyevent",
    "trading.view_cycle",
    "trading.view_driftnote",
    "trading.view_fill",
    "trading.view_liquidation",
    "trading.view_liquidationevent",
    "trading.view_market",
    "trading.view_order",
    "trading.view_orderevent",
    "trading.view_quote",
    "trading.view_workitem",
    "trading.view_workitemevent",
)
_AUDIT = ("kalshi_site.view_auditentry", "kalshi_site.view_changelog", "kalshi_site.view_user")
_STOP = (
    *("trading.cancel_order", "portfolio.stop_trading", "portfolio.resume_trading"),
    *("trading.acknowledge_drift", "trading.handle_workitem"),
)


@dataclass(frozen=True, slots=True)
class Role:
    """What a group of people is for: permissions of the role, and the scopes that its tokens usually get."""

    label: str
    permissions: tuple[str, ...]
    scopes: tuple[str, ...]


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "viewer": Role("Sees everything, changes nothing", _SEEN, ("read",)),
        "proposer": Role("Hands in proposals", (*_SEEN, "approvals.add_proposal"), ("read", "propose")),
        "approver": Role(
            "Decides proposals and trades by hand",
            (*_SEEN, *_STOP, "approvals.decide_proposal", "portfolio.close_position"),
            ("read", "approve", "trade"),
        ),
        "risk": Role(
            "Stops and resumes trading, sets limits",
            (
                *(*_SEEN, *_STOP, *_AUDIT[:2], "trading.accept_workitem"),
                *("portfolio.add_risklimit", "portfolio.change_risklimit"),
            ),
            ("read", "risk"),
        ),
        "auditor": Role("Sees everything and the audit trail", (*_SEEN, *_AUDIT), ("read",)),
        "admin": Role(
            "Manages people, keys and limits; does not decide proposals",
            (
                *_SEEN,
                *_STOP,
                *_AUDIT,
                "auth.view_group",
                "trading.accept_workitem",
                "kalshi_site.add_user",
                "kalshi_site.change_user",
                "kalshi_site.view_apitoken",
                "kalshi_site.change_apitoken",
                "kalshi_site.delete_apitoken",
                "portfolio.add_risklimit",
                "portfolio.change_risklimit",
            ),
            ("read", "risk", "admin"),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Right:
    """What a door asks of its caller: one of `scopes` on a token, and `permission` of the person's role."""

    permission: str
    scopes: frozenset[str]

    @classmethod
    def of(cls, permission: str, *scopes: str) -> Right:
        """Raises ValueError on a scope that does not exist: a typo would lock the door for ever."""
        if not scopes or not SCOPES.keys() >= set(scopes):
            raise ValueError(f"unknown scopes in {scopes}")
        return cls(permission, frozenset(scopes))


class EntryRefused(DeskError):
    """The one-time code is not known, spent or expired."""

    code = "E110"


def new_id(prefix: str) -> str:
    """A public id such as `prop_01J9…`: a ULID, so that ids sort by time (48 bits ms, 80 bits random)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def ensure_roles() -> dict[str, Group]:
    """Make every role's group and give it exactly the permissions of ROLES. Run after `migrate`; safe to repeat.

    Raises LookupError when a permission does not exist: a role must not silently lack a right.
    """
    return {name: ensure_role(name) for name in ROLES}


def ensure_role(name: str) -> Group:
    """The group of one role, with exactly its permissions. Raises LookupError when one of them does not exist."""
    group, _ = Group.objects.get_or_create(name=name)
    group.permissions.set(_permissions(set(ROLES[name].permissions)).values())
    return group


def _permissions(names: Collection[str]) -> dict[str, Permission]:
    wanted = Q()
    for name in names:
        app, codename = name.split(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    found = {
        f"{row.content_type.app_label}.{row.codename}": row
        for row in Permission.objects.filter(wanted).select_related("content_type")
    }
    if missing := set(names) - found.keys():
        raise LookupError(f"no such permissions: {', '.join(sorted(missing))}")
    return found


def require(user: User, right: Right, *, scopes: Iterable[str] | None = None) -> None:
    """Let the caller pass or raise. `scopes` are those of a token, None for a person's own session.

    Raises ScopeMissing before RoleMissing, so that a script's owner learns first what to mend in the token.
    """
    if scopes is not None and right.scopes.isdisjoint(scopes):
        wanted = " or ".join(sorted(right.scopes))
        raise ScopeMissing(f"this needs the scope {wanted}", scopes=sorted(scopes))
    if not user.has_perm(right.permission):
        fit = [name for name, role in ROLES.items() if right.permission in role.permissions]
        raise RoleMissing(f"this needs the role {' or '.join(fit)}", permission=right.permission)


def token_mark() -> str:
    """How tokens of this profile begin: a paper token cannot even be looked up elsewhere."""
    return f"kops_{settings.KALSHI_PROFILE}_"


def issue_token(*, user: User, name: str, scopes: Iterable[str], expires_at: datetime) -> str:
    """Make a token and return it in clear, once. Raises ValueError on unknown scopes or a life beyond one year."""
    wanted, now = sorted(set(scopes)), timezone.now()
    if not wanted or not SCOPES.keys() >= set(wanted):
        raise ValueError(f"scopes are {', '.join(SCOPES)}; not {', '.join(wanted) or 'none'}")
    if not now < expires_at <= now + LONGEST_LIFE:
        raise ValueError("a token lives at most one year, and ends in the future")
    clear = token_mark() + _secret()
    ApiToken.objects.create(
        owner=user,
        name=name,
        prefix=clear[: len(token_mark()) + SHOWN],
        token_hash=_hash(clear),
        scopes=wanted,
        created_at=now,
        expires_at=expires_at,
    )
    return clear


def authenticate_token(clear: str) -> ApiToken:
    """The token's row with its owner. Raises NotSignedIn, in the same words whatever is wrong with an unknown token."""
    now = timezone.now()
    token = _token.first(_hash(clear))
    if token is None or not clear.startswith(token_mark()) or not token.owner.is_active:
        raise NotSignedIn("the token is not known here")
    if token.revoked_at is not None:
        raise NotSignedIn("the token was revoked")
    if token.expires_at <= now:
        raise NotSignedIn(f"the token expired on {token.expires_at:%Y-%m-%d}")
    if token.last_used_at is None or now - token.last_used_at > USE_GRAIN:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


@prepared
def _token(token_hash: str) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(token_hash=token_hash).select_related("owner")


def revoke_token(token: ApiToken) -> None:
    """End a token now; its next request is refused. The first time is kept."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())


def issue_entry_code(user: User, *, life: timedelta = ENTRY_LIFE) -> str:
    """A one-time sign-in code in clear, good for `life`."""
    clear, now = _secret(), timezone.now()
    EntryCode.objects.create(user=user, code_hash=_hash(clear), created_at=now, expires_at=now + life)
    return clear


def peek_entry_code(clear: str) -> User:
    """Whose code this is, without spending it: previews of links must not use them up. Raises EntryRefused."""
    return _entry(clear).user


def spend_entry_code(clear: str) -> User:
    """Spend the code; of two clicks at once one wins. Raises EntryRefused."""
    entry, now = _entry(clear), timezone.now()
    if EntryCode.objects.filter(pk=entry.pk, spent_at=None, expires_at__gt=now).update(spent_at=now) != 1:
        raise EntryRefused("the link was used already")
    return entry.user


def _entry(clear: str) -> EntryCode:
    entry = EntryCode.objects.filter(code_hash=_hash(clear)).select_related("user").first()
    if entry is None or not entry.user.is_active:
        raise EntryRefused("the link is not known here")
    if entry.spent_at is not None:
        raise EntryRefused("the link was used already")
    if entry.expires_at <= timezone.now():
        raise EntryRefused("the link has expired")
    return entry


def _secret() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))


def _hash(clear: str) -> str:
    return hashlib.sha256(clear.encode()).hexdigest()
