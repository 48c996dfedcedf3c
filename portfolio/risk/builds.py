"""The build that may claim: old code on one machine of several has cost a firm its life (SEC release 70694, C3)."""

from __future__ import annotations

from django.db import transaction

from kalshi_site import audit
from portfolio.models import TradingState
from portfolio.risk.trading import trading_state


class OtherBuild(Exception):
    """This process runs other code than the one that was accepted: it sends nothing."""

    code = "E807"

    def __init__(self, build: str, expected: str) -> None:
        super().__init__(f"this execution runs build {build or 'unknown'}; accepted is {expected}")
        self.build, self.expected = build, expected


def require_build(state: TradingState, build: str) -> None:
    """Raise OtherBuild unless `build` is the accepted one; `state` is the row of everything, locked by the caller.

    Before anything was accepted, every build may.
    """
    if state.expected_build not in ("", build):
        raise OtherBuild(build, state.expected_build)


@transaction.atomic
def accept_build(*, venue: str, build: str, actor: str, reason: str = "", is_first: bool = False) -> bool:
    """Let this build claim from now on, and no other; with its audit row. False when nothing changed.

    `is_first`: only where none was accepted yet. The version stays: what a person saw of the state is the same.
    """
    state = trading_state(venue, lock=True)
    before = state.expected_build
    if before == build or (is_first and before):
        return False
    TradingState.objects.filter(pk=state.pk).update(expected_build=build)
    audit.record(
        actor=actor,
        actor_kind="system" if is_first else "person",
        verb="build.accepted",
        object_type="trading_state",
        object_id=venue,
        reason=reason,
        before=before,
        after=build,
    )
    return True
