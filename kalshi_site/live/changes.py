"""The log of changes in the database: what `catchup` reads, how it is cut, and when its numbering begins anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from django.db import transaction
from django.db.models import Max, QuerySet

from kalshi_site import audit
from kalshi_site.live.catchup import (
    WINDOWS,
    Change,
    Delta,
    Head,
    Snapshot,
    catch_up,
    digest_of,
    oldest_kept,
    state_at,
)
from kalshi_site.models import ChangeLog, TopicHead
from kalshi_site.models.records import new_epoch

ROWS_KEPT: Final = (
    10_000  # of each topic; older rows go unless they are the last word on a key that still counts
)


class DatabaseLog:
    """The log as `catchup.Log`. One query a read; rows are only added, so that later reads agree with the head."""

    def head(self, topic: str) -> Head:
        """A topic that nothing has changed yet stands at 0 of an epoch of its own."""
        row, _ = TopicHead.objects.get_or_create(topic=topic)
        return Head(row.epoch, row.version, row.kept_after)

    def between(self, topic: str, after: int, upto: int) -> Sequence[Change]:
        """The changes of a span, in order."""
        return _changes(ChangeLog.objects.filter(topic=topic, version__gt=after, version__lte=upto))

    def last_of_each_key(self, topic: str, after: int, upto: int) -> Sequence[Change]:
        """The last change of every key within a span."""
        span = ChangeLog.objects.filter(topic=topic, version__gt=after, version__lte=upto)
        newest = span.order_by().values("key").annotate(newest=Max("version")).values("newest")
        return _changes(ChangeLog.objects.filter(topic=topic, version__in=newest))


def since(topic: str, number: int, epoch: str) -> Delta | Snapshot:
    """What a client at `number` of `epoch` lacks."""
    return catch_up(DatabaseLog(), topic, since=number, epoch=epoch)


def heads(topics: Iterable[str]) -> dict[str, Head]:
    """Where these topics stand, in one query; one that nothing has changed yet is missing."""
    rows = TopicHead.objects.filter(topic__in=list(topics))
    return {row.topic: Head(row.epoch, row.version, row.kept_after) for row in rows}


def every_head(topics: Sequence[str]) -> dict[str, Head]:
    """The same of all of them: one that nothing has changed yet begins its numbering here, at 0."""
    known = heads(topics)
    return {topic: known.get(topic) or DatabaseLog().head(topic) for topic in topics}


def state_now(topic: str) -> tuple[Change, ...]:
    """The last change of every key that counts."""
    return state_at(DatabaseLog(), topic, DatabaseLog().head(topic).version)


def digest_of_now(topic: str) -> str:
    """The digest of the present state."""
    return digest_of(state_now(topic))


def cut() -> int:
    """Delete rows that no client can still need; returns how many. The limit is noted before they go."""
    return sum(_cut(row) for row in TopicHead.objects.filter(version__gt=ROWS_KEPT))


def begin_anew(*, actor: str, reason: str, actor_kind: audit.ActorKind = "system") -> dict[str, str]:
    """A new epoch for every topic: after a restore, a truncation or a repair by hand, so that every client resyncs.

    Returns the new epochs by topic.
    """
    with transaction.atomic():
        epochs = {row.topic: new_epoch() for row in TopicHead.objects.select_for_update().order_by("topic")}
        for topic, epoch in epochs.items():
            TopicHead.objects.filter(topic=topic).update(epoch=epoch)
        audit.record(
            actor=actor,
            actor_kind=actor_kind,
            verb="state.epoch",
            object_type="topic",
            object_id="*",
            reason=reason,
            epochs=epochs,
        )
    return epochs


def _cut(row: TopicHead) -> int:
    limit = row.version - ROWS_KEPT
    TopicHead.objects.filter(pk=row.pk, kept_after__lt=limit).update(kept_after=limit)
    old = ChangeLog.objects.filter(topic=row.topic, version__lte=limit)
    if row.topic in WINDOWS:
        return old.filter(version__lte=oldest_kept(row.topic, row.version)).delete()[0]
    last = ChangeLog.objects.filter(topic=row.topic).order_by().values("key").annotate(last=Max("version"))
    return old.exclude(version__in=list(last.values_list("last", flat=True))).delete()[0]


def _changes(rows: QuerySet[ChangeLog]) -> list[Change]:
    told = rows.order_by("version").values_list("version", "key", "object_version", "kind")
    return [Change(*each) for each in told]
