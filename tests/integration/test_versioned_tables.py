"""Every table of state that is shared is versioned, and what changes in it is announced (SCOPE.md, "State sync").

A new table fails here until it has taken its place: versioned with a change that is announced, or named with a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import pytest
from django.apps import apps
from django.db import models, transaction
from django.utils import timezone

from approvals import decisions
from approvals.models import Proposal
from kalshi_site.guards import never_deleted
from kalshi_site.models import ChangeLog
from kalshi_site.versioning import HistoryRow, VersionedModel
from portfolio import ledger, risk
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.models import Autonomy, Position, RiskLimit, TradingState
from tests import factories
from trading.consumers import LOGGED
from trading.domain.orders import BookSide
from trading.exchange.reports import ExchangeState as Told
from trading.execution import lifecycle, liquidation, work_items
from trading.execution.comparison import Difference
from trading.market_data import drift
from trading.market_data.exchange_watch import write_state
from trading.models import DriftNote, ExchangeState, Liquidation, Order, WorkItem, WorkKind

D = Decimal
VENUE = factories.VENUE
OURS = ("kalshi_site", "approvals", "portfolio", "trading")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def proposal() -> VersionedModel:
    factories.funded()
    row = factories.ProposalFactory()
    return decisions.approve(
        proposal=row, version=1, terms_hash=row.terms_hash, actor=factories.approver(), method="page"
    )


def order() -> VersionedModel:
    return lifecycle.mark_unknown(factories.OrderFactory(state="sending"), "no answer")


@transaction.atomic
def position() -> VersionedModel:
    return ledger.book_fill(
        venue=VENUE,
        ticker="SIMX",
        event_ticker="SIMX",
        title="",
        book_side=BookSide.BID,
        count=D(10),
        yes_price=D("0.50"),
        fee=D("0.01"),
        reference="trade-1",
        at=timezone.now(),
    )


def trading_state() -> VersionedModel:
    return risk.pause(venue=VENUE, actor="operator", reason="lunch")


def risk_limit() -> VersionedModel:
    name, now = next(iter(risk.limits().items()))
    return risk.set_limit(name=name, value=now / 2, actor="operator", reason="less")


def autonomy() -> VersionedModel:
    return risk.set_autonomy(venue=VENUE, level=AutonomyLevel.OFF, actor="operator")


def liquidated() -> VersionedModel:
    return liquidation.request(venue=VENUE, actor="operator", reason="fire", slippage=D("0.05"))


def work_item() -> VersionedModel:
    found = Difference(WorkKind.CASH_DRIFT, "cash", theirs="1", ours="2")
    item = work_items.report(VENUE, found)
    return work_items.acknowledge(item=item, actor="operator", reason="a rebate")


def drift_note() -> VersionedModel:
    note = DriftNote.objects.create(
        venue=VENUE,
        kind="missing_field",
        place="GET /markets",
        is_money=True,
        first_at=NOON,
        last_at=NOON,
        first_process="feed",
    )
    return drift.acknowledge(note=note, actor="operator", reason="seen")


def exchange_state() -> VersionedModel:
    for is_trading in (True, False):
        row = write_state(
            venue=VENUE, told=Told(is_active=True, is_trading=is_trading, resumes_at=None), weekly=False
        )
    return row


# The topic of each table, and a deed that changes a row of it as the desk does. No versioned table stands without one.
ANNOUNCED: Final[dict[type[VersionedModel], tuple[str, Callable[[], VersionedModel]]]] = {
    Proposal: ("proposals", proposal),
    Order: ("orders", order),
    Position: ("positions", position),
    TradingState: ("trading", trading_state),
    RiskLimit: ("trading", risk_limit),
    Autonomy: ("trading", autonomy),
    Liquidation: ("trading", liquidated),
    ExchangeState: ("trading", exchange_state),
    DriftNote: ("trading", drift_note),
    WorkItem: ("reconciliation", work_item),
}
# Tables whose rows change and have no version: by reason.
UNVERSIONED: Final[dict[str, set[str]]] = {
    "people and their keys: read anew at each request": {
        *("kalshi_site.User", "kalshi_site.User_groups", "kalshi_site.User_user_permissions"),
        *("kalshi_site.ApiToken", "kalshi_site.EntryCode"),
    },
    "what the numbers are made of": {"kalshi_site.TopicHead", "kalshi_site.Lease"},
    "one request's, one process's or one round's own": {
        *("kalshi_site.IdempotencyRecord", "kalshi_site.ProcessBeat", "trading.Listener", "trading.Cycle"),
    },
    "written by the feed alone under its lease, dated by the exchange; prices go by time": {
        *("trading.Market", "trading.Quote", "trading.Series", "trading.Event"),
        *("trading.FeeChange", "trading.Candle"),
    },
    "written once; nothing changes it": {"portfolio.EquityPoint", "portfolio.HistoricalRiskLimit"},
    "moves with its proposal or order, in the same transaction": {"portfolio.Reservation"},
    "a first person's word, shown nowhere; read and written under its row's lock": {"portfolio.Wish"},
    "numbered by its deeds in the audit trail (trading.execution.nets)": {"trading.OrderGroup"},
}


def tables() -> list[type[models.Model]]:
    return [model for model in apps.get_models(include_auto_created=True) if model._meta.app_label in OURS]


def is_fact(model: type[models.Model]) -> bool:
    """Whether the database itself refuses every change, or each that matters."""
    kinds = {guard.name for guard in getattr(model, "guards", ())}
    return issubclass(model, HistoryRow) or "unchanged" in kinds or {"frozen", never_deleted().name} <= kinds


def versioned() -> list[type[VersionedModel]]:
    return [model for model in tables() if issubclass(model, VersionedModel)]


def test_every_table_that_changes_is_versioned_or_says_why_not() -> None:
    named = [label for labels in UNVERSIONED.values() for label in labels]
    assert len(named) == len(set(named))
    left = {model._meta.label for model in tables() if not is_fact(model)}
    assert left - {model._meta.label for model in versioned()} == set(named)


@pytest.mark.parametrize("model", versioned(), ids=lambda model: model.__name__)
def test_a_change_of_a_versioned_row_is_announced_with_its_version(model: type[VersionedModel]) -> None:
    assert model in ANNOUNCED, f"{model.__name__} is new here: announce its changes, and show one that is"
    topic, deed = ANNOUNCED[model]
    assert topic in LOGGED, "nobody can follow it"
    row = deed()
    assert isinstance(row, model)
    row.refresh_from_db()
    told = ChangeLog.objects.filter(topic=topic).order_by("version").last()
    assert told is not None, f"nobody learns of a change of {model.__name__}"
    assert told.object_version == row.version


def test_no_two_tables_share_a_key() -> None:
    """Versions of two rows say nothing beside each other: under one key an older one would hide a newer one."""
    keys = []
    for topic, deed in ANNOUNCED.values():
        deed()
        keys.append((topic, ChangeLog.objects.filter(topic=topic).order_by("version").last().key))  # type: ignore[union-attr]
    assert len(set(keys)) == len(keys)
