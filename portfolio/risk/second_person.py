"""Two persons for what gives a live desk more room: the first one's wish is noted, another one's same wish does it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from kalshi_site import audit
from portfolio.models import Wish

LIVE: Final = "live"
SECOND_WITHIN: Final = timedelta(minutes=15)  # between the two persons


AT_TERMINAL: Final = " at the terminal"


def is_another(first: str, second: str) -> bool:
    """Whether two actors go by two names: ann, Ann and ann at the terminal are one.

    A terminal knows accounts of the machine, not persons of the desk: who has both under two names passes for two.
    """
    return first != "" and _name(first) != _name(second)


def _name(actor: str) -> str:
    return actor.removesuffix(AT_TERMINAL).casefold()


class SecondPersonNeeded(Exception):
    """On a live desk one person asks and another one confirms. The asking is noted: it must be committed."""

    code = "E309"

    def __init__(self, asked_by: str, deed: str = "resume") -> None:
        super().__init__(f"{asked_by} asks to {deed}; within 15 minutes somebody else must {deed} too")


@transaction.atomic
def _is_confirmed(venue: str, subject: str, wanted: str, actor: str, reason: str) -> bool:
    Wish.objects.get_or_create(venue=venue, subject=subject)
    row = Wish.objects.select_for_update().get(venue=venue, subject=subject)
    fresh = row.asked_at is not None and timezone.now() - row.asked_at <= SECOND_WITHIN
    if fresh and row.wanted == wanted and is_another(row.asked_by, actor):
        Wish.objects.filter(pk=row.pk).update(asked_by="", asked_at=None)
        return True
    Wish.objects.filter(pk=row.pk).update(wanted=wanted, asked_by=actor, asked_at=timezone.now())
    audit.record(
        actor=actor,
        verb=f"{subject.partition(':')[0]}.asked",
        object_type="wish",
        object_id=f"{venue} {subject}",
        reason=reason,
        wanted=wanted,
    )
    return False


def require_second_person(
    *, venue: str, subject: str, wanted: str, actor: str, reason: str, deed: str
) -> None:
    """Pass when another person has wished the same within 15 minutes; else note this wish and raise.

    Not inside the transaction of the deed: the note must outlive the refusal. Raises SecondPersonNeeded.
    """
    if not _is_confirmed(venue, subject, wanted, actor, reason):
        raise SecondPersonNeeded(actor, deed)
