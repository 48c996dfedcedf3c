"""What the sentinel heard, written down for all processes; and what follows when money depends on it.

`write_down` is called about once a second by each process that talks to the exchange (`scribe`). A departure that
money depends on puts trading into REDUCING in the same transaction: without Redis, without Celery, and from ACTIVE
alone, so that a Stop stays a Stop. People end it: they acknowledge the departure (`acknowledge`), then resume.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.versioning import compare_and_set
from portfolio import risk
from trading.exchange.drift import CODE, Heard, Sighting
from trading.models import DriftNote, Listener

ACTOR: Final = "drift sentinel"
# An acknowledgement covers a departure while it goes on. After a day of silence its return is news again.
SILENCE: Final = timedelta(hours=24)
MOST_ALIKE: Final = 100  # rows of one kind at one place; further ones share a row


@transaction.atomic
def write_down(*, venue: str, process: str, heard: Heard) -> list[DriftNote]:
    """Keep what was heard; returns the notes that are new, or new again, and were not acknowledged."""
    news = [note for note in (_keep(venue, process, each) for each in heard.sightings) if note is not None]
    _count(venue, process, heard)
    if alarming := [note for note in news if note.is_money]:
        first = alarming[0]
        more = f" and {len(alarming) - 1} more" if len(alarming) > 1 else ""
        risk.reduce(venue=venue, actor=ACTOR, reason=f"{CODE} {first}{more}"[:300])
        for note in alarming:
            _tell(note)
    return news


@transaction.atomic
def acknowledge(*, note: DriftNote, actor: str, reason: str, version: int | None = None) -> DriftNote:
    """A person has looked at this departure and answers for trading on with it. Raises StaleVersion, ValueError.

    `version` is the one that the person saw. Repeating it changes nothing.
    """
    if not reason.strip():
        raise ValueError("an acknowledgement says why")
    if note.acknowledged_at is not None:
        return note
    fresh = compare_and_set(
        note,
        version=version,
        acknowledged_at=timezone.now(),
        acknowledged_by=actor,
        acknowledged_reason=reason.strip()[:300],
    )
    audit.record(
        actor=actor,
        verb="drift.acknowledge",
        object_type="drift",
        object_id=str(note.pk),
        reason=reason.strip()[:300],
        drift=str(note),
        money=note.is_money,
        seen=note.count,
    )
    _tell(fresh)
    return fresh


def objection(venue: str) -> str:
    """Why trading may not be resumed: a departure that money depends on is not acknowledged. "" when none stands."""
    standing = DriftNote.objects.alarming(venue)
    first = standing.first()
    if first is None:
        return ""
    more = standing.count() - 1
    return (
        f"{first}{f' and {more} more' if more else ''}: acknowledge it at /health or by manage.py drift first"
    )


def _keep(venue: str, process: str, sighting: Sighting) -> DriftNote | None:
    """Count a sighting; the note when it is news."""
    drift = sighting.drift
    first, last = _at(sighting.first_ms), _at(sighting.last_ms)
    named = {
        "venue": venue,
        "kind": drift.kind.value,
        "place": drift.where[:120],
        "field": drift.field[:200],
        "found": drift.found[:80],
    }
    if _is_crowded(named):
        named |= {"field": "", "found": "further ones"}
    news = {"sample": drift.sample[:80], "is_money": drift.is_money, "first_at": first, "last_at": last}
    note, is_new = DriftNote.objects.get_or_create(
        **named, defaults={**news, "count": sighting.count, "first_process": process[:20]}
    )
    if is_new:
        _record(note, process)
        return note
    silent_since = note.last_at
    DriftNote.objects.filter(pk=note.pk).update(
        count=F("count") + sighting.count, last_at=max(last, silent_since), sample=drift.sample[:80]
    )
    if note.acknowledged_at is not None and last - silent_since > SILENCE:
        note = compare_and_set(note, acknowledged_at=None, acknowledged_by="", acknowledged_reason="")
        _record(note, process)
        return note
    return None


def _is_crowded(named: dict[str, str]) -> bool:
    """Whether a new row would be one too many: names and words come from outside, and rows stay."""
    alike = DriftNote.objects.filter(venue=named["venue"], place=named["place"], kind=named["kind"])
    return alike.count() >= MOST_ALIKE and not DriftNote.objects.filter(**named).exists()


def _record(note: DriftNote, process: str) -> None:
    audit.record(
        actor=ACTOR,
        actor_kind="system",
        verb="drift.note",
        object_type="drift",
        object_id=str(note.pk),
        reason=f"{CODE} {note}",
        process=process,
        money=note.is_money,
        sample=note.sample,
    )


def _tell(note: DriftNote) -> None:
    """Under a key of its own: a version says nothing beside that of another row, such as the trading state."""
    live.changed("trading", key=f"drift {note.pk}", version=note.version, kind="drift")


def _count(venue: str, process: str, heard: Heard) -> None:
    if heard.last_ms is None:
        return
    row, _ = Listener.objects.get_or_create(venue=venue, process=process[:20])
    Listener.objects.filter(pk=row.pk).update(
        answers=F("answers") + heard.answers,
        frames=F("frames") + heard.frames,
        beyond=F("beyond") + heard.beyond,
        last_at=_at(heard.last_ms),
    )


def _at(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
