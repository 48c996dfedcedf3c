"""The audit trail: one row for every deed, added in the deed's own transaction."""

from __future__ import annotations

from typing import Any, Literal

from django.utils import timezone

from kalshi_site import prepared
from kalshi_site.models import AuditEntry
from kalshi_site.observability import request_id

ActorKind = Literal["person", "agent", "system"]


def record(
    *,
    actor: str,
    verb: str,
    object_type: str,
    object_id: str,
    reason: str = "",
    actor_kind: ActorKind = "person",
    **detail: Any,
) -> AuditEntry:
    """Add one row. `detail` must be JSON: numbers as strings, times as ISO text."""
    row = AuditEntry(
        at=timezone.now(),
        actor=actor,
        actor_kind=actor_kind,
        verb=verb,
        object_type=object_type,
        object_id=object_id,
        reason=reason,
        detail=detail,
        request_id=request_id.get(),
    )
    return prepared.insert(row)
