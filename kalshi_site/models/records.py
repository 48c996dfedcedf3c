"""Leases of the loops, numbered changes for live pages, and who did what."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Lease(models.Model):
    """Who may run a loop now. The fence only grows, even when Redis is emptied (RELIABILITY.md 3.2)."""

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=64, blank=True)
    fence = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} #{self.fence}"


class TopicHead(models.Model):
    """The last number given out in a topic; raised inside the changing transaction, so no number is lost."""

    topic = models.CharField(max_length=64, primary_key=True)
    version = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.topic} v{self.version}"


class ChangeLog(models.Model):
    """One numbered change of a topic."""

    topic = models.CharField(max_length=64)
    version = models.BigIntegerField()
    key = models.CharField(max_length=80)
    object_version = models.BigIntegerField()
    kind = models.CharField(max_length=40)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["topic", "version"], name="one_change_per_number")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["at"])]

    def __str__(self) -> str:
        return f"{self.topic} v{self.version} {self.kind} {self.key}"


class AuditEntry(models.Model):
    """Who did what, to what, why. Rows are only ever added."""

    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=150)
    actor_kind = models.CharField(max_length=10, help_text="person, agent or system")
    verb = models.CharField(max_length=60)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=80)
    reason = models.TextField(blank=True)
    detail = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["object_type", "object_id"])]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.verb} {self.object_id}"
