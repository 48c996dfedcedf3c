"""Who must say yes: deny, ask a person, or let a person's own exit pass."""

from __future__ import annotations

from enum import StrEnum

from portfolio.domain.limits import RiskReport


class Origin(StrEnum):
    AGENT = "agent"
    PERSON = "person"
    CLOSE = "close"


class Policy(StrEnum):
    AUTO = "auto"
    ASK = "ask"
    DENY = "deny"


def decide(report: RiskReport, origin: Origin) -> Policy:
    """Rules deny first; a person's own exit needs no second voice; everything else asks one person."""
    if not report.allowed:
        return Policy.DENY
    return Policy.AUTO if origin is Origin.CLOSE else Policy.ASK
