"""People, their keys for scripts, their one-time sign-in codes, and what they asked for once."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person or a machine that signs in. Rights come from groups, whose names are the roles (identity.ROLES)."""

    class Theme(models.TextChoices):
        SYSTEM = "system"
        DARK = "dark"
        LIGHT = "light"

    theme = models.CharField(max_length=8, choices=Theme, default=Theme.SYSTEM)
    is_demo = models.BooleanField(
        default=False, help_text="Made by the demo; refused outside the paper profile."
    )


class ApiToken(models.Model):
    """A script's key. Only the hash is kept; a token can do what its owner could, within its scopes."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=24)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.owner}"


class EntryCode(models.Model):
    """A one-time sign-in link. Spent by compare-and-set, so that one click wins."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="entry_codes")
    code_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"entry code of {self.user}"


class IdempotencyRecord(models.Model):
    """The first answer to a request that carried an Idempotency-Key, kept for 24 h per owner."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=128)
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Empty while the first attempt runs."
    )
    # Text, because PostgreSQL sorts the names in its JSON and a replay must be the same to the byte.
    body = models.TextField(default="", blank=True, help_text="JSON, in the order in which it was sent.")
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["owner", "key"], name="one_answer_per_key")
        ]

    def __str__(self) -> str:
        return f"{self.owner_id}:{self.key}"
