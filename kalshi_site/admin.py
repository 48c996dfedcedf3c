"""People, keys and records in the Django admin. Records are read-only; a token's secret is never shown again."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from kalshi_site.models import ApiToken, AuditEntry, User
from kalshi_site.readonly import ReadOnly


@admin.register(User)
class DeskUserAdmin(UserAdmin):  # type: ignore[type-arg]
    """People; their role is their group. Nobody raises a person to superuser here but a superuser."""

    list_display = ("username", "is_active", "is_staff", "is_demo", "last_login")
    list_filter = ("groups", "is_active", "is_demo")
    fieldsets = (
        (None, {"fields": ("username", "password", "is_active", "is_staff")}),
        ("Role", {"fields": ("groups",), "description": "A role's rights are fixed by the desk."}),
        ("Look", {"fields": ("theme",)}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Keys of scripts: who, what for, until when. Made by `manage.py`, revoked here."""

    list_display = ("prefix", "owner", "name", "scopes", "expires_at", "last_used_at", "revoked_at")
    list_filter = ("owner",)
    exclude = ("token_hash",)
    readonly_fields = ("owner", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A key made here could not show its secret."""
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    """Who did what, to what, why."""

    list_display = ("at", "actor", "actor_kind", "verb", "object_type", "object_id", "reason", "request_id")
    list_filter = ("verb", "actor_kind", "object_type")
    search_fields = ("object_id", "actor", "request_id", "reason")
    date_hierarchy = "at"
    ordering = ("-id",)
