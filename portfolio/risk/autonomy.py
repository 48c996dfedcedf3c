"""The autonomy level of a venue: off, propose or auto; who changed it, and why.

Less room is one call, never refused, and works at once: whoever stores or approves a proposal reads the level under
the trading state's lock, which a change takes too. More room needs a reason, and auto on a live desk a second person.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio.domain.autonomy import AutonomyLevel, Mandate, is_raise
from portfolio.models import Autonomy, AutonomyEvent
from portfolio.risk.gateway import limits
from portfolio.risk.second_person import LIVE, require_second_person
from portfolio.risk.trading import ReasonMissing, trading_state

ATTENDED_FOR: Final = timedelta(seconds=30)  # RELIABILITY.md, B7


def autonomy(venue: str, *, lock: bool = False) -> Autonomy:
    """The row of this venue, made where there is none: propose."""
    rows = Autonomy.objects.select_for_update() if lock else Autonomy.objects.all()
    found = rows.filter(venue=venue).first()
    if found is None:
        Autonomy.objects.get_or_create(venue=venue)
        found = rows.get(venue=venue)
    return found


def level_of(venue: str) -> AutonomyLevel:
    """The level in force. A missing row means propose."""
    stored = Autonomy.objects.filter(venue=venue).values_list("level", flat=True).first()
    return AutonomyLevel.PROPOSE if stored is None else AutonomyLevel(stored)


def set_autonomy(
    *, venue: str, level: AutonomyLevel, actor: str, reason: str = "", version: int | None = None
) -> Autonomy:
    """Change the level, with history and audit row.

    Raises ReasonMissing, StaleVersion or SecondPersonNeeded (after noting the first person's wish) when it would give
    the analyst more room; a change to less room is never refused, whatever version was seen.
    """
    if venue == LIVE and level is AutonomyLevel.AUTO:
        current = autonomy(venue)
        if current.level != level:
            _require_seen(current, reason, version)
            require_second_person(
                venue=venue,
                subject="autonomy",
                wanted=level.value,
                actor=actor,
                reason=reason,
                deed="approve without a person",
            )
    return _write(venue, level, actor, reason, version)


@transaction.atomic
def _write(venue: str, level: AutonomyLevel, actor: str, reason: str, version: int | None) -> Autonomy:
    trading_state(venue, lock=True)  # orders this change against submissions, decisions and claims
    row = autonomy(venue, lock=True)
    before = AutonomyLevel(row.level)
    if is_raise(before, level):
        _require_seen(row, reason, version)
    if before is level:
        return row
    fresh = compare_and_set(
        row,
        level=level.value,
        reason=reason,
        changed_by=actor,
        changed_at=timezone.now(),
    )
    AutonomyEvent.objects.create(
        autonomy=fresh,
        version=fresh.version,
        from_state=before.value,
        to_state=level.value,
        actor=actor,
        reason=reason,
    )
    audit.record(
        actor=actor,
        verb="autonomy.raise" if is_raise(before, level) else "autonomy.lower",
        object_type="autonomy",
        object_id=venue,
        reason=reason,
        before=before.value,
        after=level.value,
    )
    live.changed("trading", key=f"{venue} autonomy", version=fresh.version, kind=level.value)
    return fresh


def attend(*, venue: str, actor: str) -> None:
    """A person who may decide sits before the queue at this moment."""
    autonomy(venue)
    Autonomy.objects.filter(venue=venue).update(attended_by=actor, attended_at=timezone.now())


def is_attended(venue: str, now: datetime) -> bool:
    """Whether somebody who may decide was before the queue within the last 30 seconds."""
    seen = Autonomy.objects.filter(venue=venue).values_list("attended_at", flat=True).first()
    return seen is not None and now - seen <= ATTENDED_FOR


def mandate(venue: str, *, spent: Decimal, now: datetime) -> Mandate:
    """What the analyst may do at this moment; `spent` dollars of today's budget went without a person already.

    On a live desk a person must be watching: nobody before the queue means that nobody would object.
    """
    unattended = venue == LIVE and not is_attended(venue, now)
    return Mandate(
        level=level_of(venue),
        left=max(limits()["auto_daily"] - spent, Decimal(0)),
        against="nobody who may decide sits before the queue" if unattended else "",
    )


def _require_seen(row: Autonomy, reason: str, version: int | None) -> None:
    if not reason.strip():
        raise ReasonMissing("give the analyst more room")
    if version is not None and version != row.version:
        raise StaleVersion(row, version, row)
