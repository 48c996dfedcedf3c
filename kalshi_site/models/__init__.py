"""Rows that belong to no app: people, keys, leases, the change log and the audit trail."""

from kalshi_site.models.access import ApiToken, EntryCode, IdempotencyRecord, User
from kalshi_site.models.records import AuditEntry, ChangeLog, Lease, ProcessBeat, TopicHead

__all__ = [
    "ApiToken",
    "AuditEntry",
    "ChangeLog",
    "EntryCode",
    "IdempotencyRecord",
    "Lease",
    "ProcessBeat",
    "TopicHead",
    "User",
]
