"""Versioned rows: a change names the version it saw, and leaves a history row.

Redis locks save work; these versions prevent harm. The code must be right without any lock.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, TypeVar

from django.db import models
from django.utils import timezone

from kalshi_site import guards, prepared
from kalshi_site.models.fields import ScaledField

Row = TypeVar("Row", bound="VersionedModel")


class StaleVersion(Exception):
    """Somebody else changed the row first. Carries the version that the caller saw and the fresh row."""

    code = "E204"

    def __init__(self, row: models.Model, seen: int, current: models.Model | None) -> None:
        self.row, self.seen, self.current = row, seen, current
        now = f"version {current.version}" if isinstance(current, VersionedModel) else "gone"
        super().__init__(f"you saw version {seen}; it is now {now}")


class VersionedModel(models.Model):
    """A row with state. Only `compare_and_set` changes it after the insert."""

    version = models.PositiveBigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True


class HistoryRow(models.Model):
    """One change of one row: from, to, who, why, when. Written in the same transaction as the change."""

    version = models.PositiveBigIntegerField()
    from_state = models.CharField(max_length=20, blank=True)
    to_state = models.CharField(max_length=20)
    actor = models.CharField(max_length=150)
    reason = models.TextField(blank=True)
    detail = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now)

    guards: ClassVar[tuple[guards.Guard, ...]] = guards.kept()

    class Meta:
        abstract = True


def compare_and_set(
    row: Row,
    *,
    version: int | None = None,
    guard: dict[str, Any] | None = None,
    reread: bool = True,
    **changes: Any,
) -> Row:
    """Write `changes` where primary key, version and `guard` still match, and raise the version by one.

    Returns the fresh row. Without `reread` it is the given one as it was written, which costs no query: for rows of
    which nothing that matters changes without their version. Raises StaleVersion when no row matched; nothing is
    written then.
    """
    seen = row.version if version is None else version
    written = {**changes, "version": seen + 1, "updated_at": timezone.now()}
    where = {"pk": row.pk, "version": seen, **(guard or {})}
    changed = prepared.update(type(row), where=where, changes=written)
    if changed == 1 and not reread and row.version == seen:
        return _as_written(row, written)
    fresh = type(row)._default_manager.filter(pk=row.pk).first()
    if changed != 1 or fresh is None:
        raise StaleVersion(row, seen, fresh)
    return fresh


def _as_written(row: Row, written: dict[str, Any]) -> Row:
    fresh = copy.copy(row)
    for name, value in written.items():
        field = row._meta.get_field(name)
        setattr(fresh, name, field.as_read(value) if isinstance(field, ScaledField) else value)
    return fresh
