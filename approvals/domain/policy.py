"""Who must say yes: deny, ask a person, or let pass: a person's own exit, and what the autonomy level covers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from portfolio.domain.autonomy import AutonomyLevel, Mandate
from portfolio.domain.limits import RiskLevel, RiskReport


class Origin(StrEnum):
    AGENT = "agent"
    PERSON = "person"
    CLOSE = "close"


class Policy(StrEnum):
    AUTO = "auto"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer, and in words why the analyst's wish got no further; empty where nothing held it back."""

    policy: Policy
    reason: str = ""


def decide(
    report: RiskReport, origin: Origin, notional: Decimal, mandate: Mandate, *, is_repeat: bool = False
) -> Ruling:
    """Rules deny first; a person's own exit needs no second voice; the analyst's idea goes as far as its mandate.

    A repeat asks a person at every level: the yes to what it repeats was used up.
    """
    if not report.allowed:
        return Ruling(Policy.DENY)
    if origin is Origin.CLOSE and not is_repeat:
        return Ruling(Policy.AUTO)
    if origin is not Origin.AGENT or is_repeat:
        return Ruling(Policy.ASK)
    if mandate.level is AutonomyLevel.OFF:
        return Ruling(Policy.DENY, "E314: the autonomy level is off")
    if mandate.level is AutonomyLevel.PROPOSE:
        return Ruling(Policy.ASK)
    against = _against(report, notional, mandate)
    return Ruling(Policy.ASK if against else Policy.AUTO, against)


def _against(report: RiskReport, notional: Decimal, mandate: Mandate) -> str:
    """Why a person must be asked although the level is auto."""
    if report.level is not RiskLevel.LOW:
        return f"asks a person: the risk is {report.level.value}"
    if mandate.against:
        return f"asks a person: {mandate.against}"
    if notional > mandate.left:
        return f"asks a person: ${mandate.left:.2f} of today's budget are left"
    return ""
