"""Hearing that a proposal was approved, or trading stopped: wake execution. The scan would find the row anyway."""

from __future__ import annotations

from typing import Any

from approvals.signals import proposal_approved
from portfolio import risk
from trading.execution.wake import wake


def connect() -> None:
    """Attach the receiver, once."""
    risk.wake_at_changes(_wake_execution)
    proposal_approved.connect(_wake_execution, dispatch_uid="trading.wake_execution")


def _wake_execution(**_: Any) -> None:
    wake()
