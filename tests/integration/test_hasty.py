"""A commit that does not wait for the disk is seen at once, and the next one waits again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.db import connection, transaction
from django.utils import timezone

from kalshi_site.hasty import hasty
from kalshi_site.models import Lease
from tests.integration.test_prepared import in_another_thread

FULL, NORMAL = "2", "1"

pytestmark = pytest.mark.django_db(transaction=True)


def durability() -> str:
    """What a commit of this connection waits for now."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous" if connection.vendor == "sqlite" else "SHOW synchronous_commit")
        said = str(cursor.fetchone()[0])
    return {"on": FULL, "off": NORMAL}.get(said, said)


def note(name: str, how: Callable[[], AbstractContextManager[None]]) -> str:
    with how():
        Lease.objects.create(name=name, expires_at=timezone.now())
        return durability()


def break_off(name: str) -> None:
    with hasty():
        Lease.objects.create(name=name, expires_at=timezone.now())
        _ = 1 / 0


def test_the_disk_is_not_waited_for_and_everybody_sees_it() -> None:
    assert durability() == FULL
    assert note("a", hasty) == NORMAL
    assert durability() == FULL
    assert in_another_thread(lambda: Lease.objects.filter(name="a").exists())
    assert note("b", transaction.atomic) == FULL


def test_what_fails_is_undone_and_the_next_commit_waits_again() -> None:
    with pytest.raises(ZeroDivisionError):
        break_off("a")
    assert not Lease.objects.exists()
    assert durability() == FULL


def test_inside_a_transaction_that_one_counts() -> None:
    with transaction.atomic():
        assert note("a", hasty) == FULL
        with pytest.raises(ZeroDivisionError):
            break_off("b")
        assert not transaction.get_rollback()
    assert list(Lease.objects.values_list("name", flat=True)) == ["a"]
