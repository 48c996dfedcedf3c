"""Leases of the loops, numbered changes for live pages, and who did what."""

from __future__ import annotations

import secrets
from typing import ClassVar, Final

from django.db import models

from kalshi_site.guards import Guard, kept, unchanged

# Of what a change or a deed was about: a venue and a scope, a ticker, a person's name. PostgreSQL writes none that is
# longer, and with it refuses the deed itself (tests/unit/test_longest_keys.py).
LONGEST_KEY: Final = 160


class Lease(models.Model):
    """Who may run a loop now. The fence only grows, even when Redis is emptied (RELIABILITY.md 3.2)."""

    guards: ClassVar[tuple[Guard, ...]] = (
        Guard("fence_grows", "UPDATE", "NEW.fence < OLD.fence", "a fence never falls"),
    )

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=64, blank=True)
    fence = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} #{self.fence}"


class ProcessBeat(models.Model):
    """That a process lives: which code it runs, since when, and when it last said so (`kalshi_site.heartbeat`)."""

    name = models.CharField(max_length=20)
    host = models.CharField(max_length=80)
    pid = models.PositiveIntegerField()
    build = models.CharField(max_length=12)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["name", "host", "pid"], name="one_row_per_process")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.host}:{self.pid}"


def new_epoch() -> str:
    """The name of a new numbering."""
    return secrets.token_hex(6)


class TopicHead(models.Model):
    """The last number given out in a topic; raised inside the changing transaction, so no number is lost.

    `epoch` names the numbering: it is new after a restore or a repair. All changes after `kept_after` are in the log.
    """

    topic = models.CharField(max_length=64, primary_key=True)
    version = models.BigIntegerField(default=0)
    epoch = models.CharField(max_length=16, default=new_epoch)
    kept_after = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.topic} v{self.version}"


class ChangeLog(models.Model):
    """One numbered change of a topic."""

    topic = models.CharField(max_length=64)
    version = models.BigIntegerField()
    key = models.CharField(max_length=LONGEST_KEY)
    object_version = models.BigIntegerField()
    kind = models.CharField(max_length=40)
    at = models.DateTimeField()

    # Old ones are deleted, by housekeeping; a log that lost its newest is found by its head and the epoch's witness.
    guards: ClassVar[tuple[Guard, ...]] = (unchanged(),)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["topic", "version"], name="one_change_per_number")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["topic", "key", "-version"])]

    def __str__(self) -> str:
        return f"{self.topic} v{self.version} {self.kind} {self.key}"


class AuditEntry(models.Model):
    """Who did what, to what, why. Rows are only ever added."""

    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=150)
    actor_kind = models.CharField(max_length=10, help_text="person, agent or system")
    verb = models.CharField(max_length=60)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=LONGEST_KEY)
    reason = models.TextField(blank=True)
    detail = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True)

    guards: ClassVar[tuple[Guard, ...]] = kept()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["object_type", "object_id"])]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.verb} {self.object_id}"
