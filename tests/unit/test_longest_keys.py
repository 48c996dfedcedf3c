"""A name that is kept fits the column that keeps it. SQLite takes any length, PostgreSQL refuses the whole deed."""

from __future__ import annotations

import pytest
from django.db.models import CharField, Model

from approvals.models import Proposal
from kalshi_site.breakers import BREAKERS
from kalshi_site.models import AuditEntry, ChangeLog, User
from portfolio.domain import scopes
from portfolio.models import Position, RiskLimit, TradingState, Wish
from trading.engine.decision_cycle import LOOP
from trading.models import Market, OrderGroup


def room(model: type[Model], column: str) -> int:
    field = model._meta.get_field(column)
    assert isinstance(field, CharField) and field.max_length is not None
    return field.max_length


SCOPE = room(TradingState, "venue") + len(" ") + scopes.LONGEST
CHANGED = {
    "a stop of the longest scope": SCOPE,
    "a position": room(Position, "ticker"),
    "a limit": len("limit ") + room(RiskLimit, "name"),
    "the level of autonomy": room(TradingState, "venue") + len(" autonomy"),
}
DONE = CHANGED | {
    "somebody came in": room(User, "username"),
    "a second person was asked for": room(Wish, "venue") + len(" ") + room(Wish, "subject"),
    "an order group": room(OrderGroup, "venue_group_id"),
    "a breaker": max(map(len, BREAKERS)),
}


@pytest.mark.parametrize("longest", CHANGED.values(), ids=CHANGED)
def test_what_changed_fits_the_log_of_changes(longest: int) -> None:
    assert longest <= room(ChangeLog, "key")


@pytest.mark.parametrize("longest", DONE.values(), ids=DONE)
def test_what_a_deed_was_done_to_fits_the_audit_trail(longest: int) -> None:
    assert longest <= room(AuditEntry, "object_id")


def test_the_longest_scope_fits_its_row_and_names_every_market() -> None:
    assert room(TradingState, "scope") >= scopes.LONGEST
    assert len("market:") + room(Position, "ticker") <= scopes.LONGEST


def test_the_analysts_idea_of_any_market_fits_its_proposal() -> None:
    slot = 2**63 - 1  # a cycle's column has room for no later one
    assert len(f"{LOOP}:{slot}:") + room(Market, "ticker") <= room(Proposal, "idea_key")
