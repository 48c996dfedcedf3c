"""Roles, tokens, one-time codes and ids."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from threading import Barrier

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from kalshi_site import identity
from kalshi_site.errors import NotSignedIn, RoleMissing, ScopeMissing
from kalshi_site.identity import (
    ROLES,
    EntryRefused,
    Right,
    authenticate_token,
    ensure_roles,
    issue_entry_code,
    issue_token,
    new_id,
    peek_entry_code,
    require,
    spend_entry_code,
)
from kalshi_site.models import ApiToken, AuditEntry, EntryCode, User
from kalshi_site.signin import Backend
from tests.factories import member, stranger


def test_ids_are_unique_and_sort_by_time() -> None:
    first = new_id("prop")
    time.sleep(0.002)
    second = new_id("prop")
    assert first < second
    assert len(first) == len("prop_") + 26
    assert not set(first[5:]) - set(identity.CROCKFORD)
    assert len({new_id("x") for _ in range(10_000)}) == 10_000


def test_a_right_with_a_scope_that_does_not_exist_cannot_be_written() -> None:
    for scopes in ((), ("tarde",), ("read", "all")):
        with pytest.raises(ValueError, match="unknown scopes"):
            Right.of("trading.view_order", *scopes)


def test_nobody_who_sets_limits_decides_proposals() -> None:
    for name, role in ROLES.items():
        both = {"portfolio.change_risklimit", "approvals.decide_proposal"} <= set(role.permissions)
        assert not both, name
        assert set(role.scopes) <= identity.SCOPES.keys()


@pytest.mark.django_db
def test_roles_get_exactly_their_permissions_again_after_somebody_changed_them() -> None:
    groups = ensure_roles()
    groups["viewer"].permissions.set(groups["admin"].permissions.all())
    ensure_roles()
    found = {
        f"{p.content_type.app_label}.{p.codename}"
        for p in Group.objects.get(name="viewer").permissions.select_related("content_type")
    }
    assert found == set(ROLES["viewer"].permissions)


@pytest.mark.django_db
def test_a_role_without_its_permission_is_not_made_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"viewer": identity.Role("", ("trading.view_nothing",), ("read",))}
    monkeypatch.setattr(identity, "ROLES", wrong)
    with pytest.raises(LookupError, match=r"trading\.view_nothing"):
        ensure_roles()


@pytest.mark.django_db
def test_the_scope_is_asked_before_the_role_and_a_session_has_no_scopes() -> None:
    right = Right.of("approvals.decide_proposal", "approve")
    viewer = member("viewer1", "viewer")
    with pytest.raises(ScopeMissing):
        require(viewer, right, scopes=["read"])
    with pytest.raises(RoleMissing):
        require(viewer, right, scopes=["approve"])
    with pytest.raises(RoleMissing):
        require(viewer, right)
    require(member("approver1", "approver"), right)


@pytest.mark.django_db
@pytest.mark.parametrize("role", list(ROLES))
def test_rights_are_those_that_django_reads(role: str) -> None:
    person = member("one", role)
    person.user_permissions.add(Permission.objects.get(codename="add_logentry"))

    def fresh() -> User:
        return User.objects.get(pk=person.pk)

    assert Backend().get_all_permissions(fresh()) == ModelBackend().get_all_permissions(fresh())
    assert fresh().has_perm("admin.add_logentry")
    assert not fresh().has_perm("admin.add_logentry", obj=person)
    User.objects.update(is_active=False)
    assert not Backend().get_all_permissions(fresh())
    User.objects.update(is_active=True, is_superuser=True)
    assert Backend().get_all_permissions(fresh()) == ModelBackend().get_all_permissions(fresh())


@pytest.mark.django_db
def test_only_the_hash_of_a_token_is_stored() -> None:
    clear = issue_token(
        user=stranger(), name="t", scopes=["read"], expires_at=timezone.now() + timedelta(days=1)
    )
    row = ApiToken.objects.get()
    assert row.token_hash == hashlib.sha256(clear.encode()).hexdigest()
    assert clear.startswith(row.prefix)
    assert len(clear) - len(row.prefix) >= 32
    assert authenticate_token(clear) == row


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scopes", "days"), [(["read"], 366), (["read"], 0), ([], 1), (["everything"], 1), (["read", "x"], 1)]
)
def test_a_token_without_a_sane_life_and_scopes_is_not_issued(scopes: list[str], days: int) -> None:
    with pytest.raises(ValueError, match=r"scopes are|one year"):
        issue_token(
            user=stranger(), name="t", scopes=scopes, expires_at=timezone.now() + timedelta(days=days)
        )
    assert not ApiToken.objects.exists()


@pytest.mark.django_db
def test_the_last_use_is_written_at_most_once_a_minute(django_assert_num_queries: object) -> None:
    clear = issue_token(
        user=stranger(), name="t", scopes=["read"], expires_at=timezone.now() + timedelta(days=1)
    )
    authenticate_token(clear)
    assert ApiToken.objects.get().last_used_at is not None
    with django_assert_num_queries(1):  # type: ignore[operator]
        authenticate_token(clear)


@pytest.mark.django_db
def test_a_one_time_code_is_looked_at_freely_and_spent_once() -> None:
    user = stranger()
    code = issue_entry_code(user)
    assert EntryCode.objects.filter(code_hash__contains=code).count() == 0
    assert peek_entry_code(code) == peek_entry_code(code) == user
    assert spend_entry_code(code) == user
    for again in (peek_entry_code, spend_entry_code):
        with pytest.raises(EntryRefused, match="used already"):
            again(code)


@pytest.mark.django_db
def test_a_code_ends_with_its_time_and_with_its_owner() -> None:
    user = stranger()
    late, code = issue_entry_code(user, life=timedelta(0)), issue_entry_code(user)
    with pytest.raises(EntryRefused, match="expired"):
        spend_entry_code(late)
    user.is_active = False
    user.save()
    with pytest.raises(EntryRefused, match="not known"):
        spend_entry_code(code)
    with pytest.raises(EntryRefused, match="not known"):
        peek_entry_code("guess")


@pytest.mark.two_writers
@pytest.mark.django_db(transaction=True)
def test_of_eight_clicks_at_once_one_wins() -> None:
    code, together = issue_entry_code(stranger()), Barrier(8)

    def click() -> bool:
        together.wait(timeout=30)
        try:
            spend_entry_code(code)
        except EntryRefused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(max_workers=8) as pool:
        won = [future.result() for future in [pool.submit(click) for _ in range(8)]]
    assert sum(won) == 1


def _token(*words: str) -> str:
    out = StringIO()
    call_command("token", *words, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


@pytest.mark.django_db
def test_the_command_makes_lists_and_ends_tokens() -> None:
    member("ann", "approver")
    clear = _token("create", "ann", "--scope", "read", "--scope", "approve", "--days", "7")
    row = authenticate_token(clear)
    assert (row.owner.username, row.scopes) == ("ann", ["approve", "read"])
    listed = json.loads(_token("list", "--json"))
    assert listed[0]["prefix"] == row.prefix
    assert clear not in _token("list")
    _token("revoke", row.prefix)
    with pytest.raises(NotSignedIn):
        authenticate_token(clear)
    assert list(AuditEntry.objects.order_by("pk").values_list("verb", flat=True)) == [
        "token.create",
        "token.revoke",
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "words", [("create", "nobody"), ("create", "ann", "--days", "400"), ("revoke", "kops_paper_none")]
)
def test_the_command_says_why_it_cannot(words: tuple[str, ...]) -> None:
    member("ann", "viewer")
    with pytest.raises(CommandError):
        _token(*words)
