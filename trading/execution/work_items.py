"""The life of a difference: noticed, confirmed by a second look, told to people, acknowledged, resolved.

One look proves little, for the exchange's reads lag its writes (API.md 8). A difference is confirmed when a later
look sees the same and the exchange says that its reads of that look are newer than the first one, while no order is
under way that would explain it. A confirmed difference of positions or cash pauses trading, from ACTIVE alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.identity import new_id
from kalshi_site.versioning import compare_and_set
from portfolio import ledger, risk
from trading.domain.orders import OrderState
from trading.execution.work_kinds import CRITICAL, KINDS, Rule, rule_of
from trading.models import Order, WorkItem, WorkItemEvent, WorkKind, WorkState

log = logging.getLogger(__name__)

ACTOR: Final = "reconciliation"
CODE: Final = "E613"
TOPIC: Final = "reconciliation"
# A send without an answer may have filled. Longer than that it explains nothing: by then it is searched for in vain.
EXCUSED_FOR: Final = timedelta(minutes=2)


class NotAcceptable(Exception):
    """Only a number can be taken over from the exchange: of a position or of cash."""

    code = "E212"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that one comparison saw. `theirs` and `ours` as text; `is_urgent` raises the kind's severity.

    `is_sure`: no lag explains this one, though it may explain others of its kind.
    """

    kind: WorkKind
    subject: str
    theirs: str = ""
    ours: str = ""
    detail: str = ""
    ticker: str = ""
    order: str = ""
    their_cost: Decimal | None = None
    is_urgent: bool = False
    is_sure: bool = False

    @property
    def severity(self) -> WorkItem.Severity:
        return CRITICAL if self.is_urgent else KINDS[self.kind].severity


def awaits_second_look(venue: str) -> bool:
    """Whether a comparison should ask how old the exchange's reads are before it reads them."""
    return WorkItem.objects.filter(venue=venue, state=WorkState.NOTICED).exists()


def take_in(venue: str, found: Sequence[Difference], *, reads_as_of: datetime | None) -> list[WorkItem]:
    """Bring the items in line with one complete comparison; returns those that people are told of now.

    `reads_as_of` is what the exchange said before the comparison read anything, None where nobody asked.
    """
    if not found and not WorkItem.objects.standing(venue).exists():
        return []
    with transaction.atomic():
        # Before any topic's number: a claim takes them in this order, and a difference may pause trading.
        risk.trading_state(venue, lock=True)
        rows = WorkItem.objects.standing(venue).select_for_update().order_by("pk")
        standing = {(row.kind, row.subject): row for row in rows}
        told = []
        for each in found:
            row = standing.pop((each.kind, each.subject), None)
            told += _seen(venue, row, each, reads_as_of)
        for row in standing.values():
            if rule_of(row).ends_itself:
                _gone(row)
    return told


@transaction.atomic
def report(venue: str, found: Difference) -> WorkItem:
    """Tell people at once of what cannot be lag; the same again changes nothing. Call where it is found out."""
    row = (
        WorkItem.objects.standing(venue)
        .select_for_update()
        .filter(kind=found.kind, subject=found.subject[:160])
        .first()
    )
    return row if row is not None else _tell(_notice(venue, found))


@transaction.atomic
def acknowledge(*, item: WorkItem, actor: str, reason: str, version: int | None = None) -> WorkItem:
    """A person has looked and answers for trading on while it stands. Raises StaleVersion, ValueError.

    `version` is the one that the person saw. An item that is not open is left as it is.
    """
    why = _required(reason)
    if item.state != WorkState.OPEN and version in (None, item.version):
        return item
    fresh = compare_and_set(
        item,
        version=version,
        guard={"state": WorkState.OPEN},
        state=WorkState.ACKNOWLEDGED,
        acknowledged_at=timezone.now(),
        acknowledged_by=actor,
        acknowledged_reason=why,
    )
    _remember(fresh, WorkState.OPEN, actor, why)
    _record("work.acknowledge", fresh, actor, why)
    return fresh


@transaction.atomic
def resolve(
    *, item: WorkItem, actor: str, reason: str, version: int | None = None, accept: bool = False
) -> WorkItem:
    """A person says that it is done; seen again, it is a new item. Raises StaleVersion, ValueError, NotAcceptable.

    With `accept` the exchange's number is booked as an adjustment, so that both sides agree from now on.
    """
    why = _required(reason)
    if item.state == WorkState.RESOLVED and version in (None, item.version):
        return item
    fresh = _resolve(item, actor, why, version=version)
    if accept:
        _accept(item, actor)
    return fresh


def pausing(venue: str) -> QuerySet[WorkItem]:
    """Differences for which nothing new is traded, and that nobody has acknowledged."""
    kinds = [kind for kind, rule in KINDS.items() if rule.pauses]
    return WorkItem.objects.unanswered(venue).filter(kind__in=kinds)


def objection(venue: str) -> str:
    """Why trading may not be resumed: a difference that pauses is not acknowledged. "" when none stands."""
    standing = pausing(venue).order_by("first_at")
    first = standing.first()
    if first is None:
        return ""
    more = standing.count() - 1
    return (
        f"{first} ({first.public_id}){f' and {more} more' if more else ''}: look at /reconciliation and acknowledge"
        " or resolve it first"
    )


def _seen(
    venue: str, row: WorkItem | None, found: Difference, reads_as_of: datetime | None
) -> list[WorkItem]:
    """One difference of a comparison, against the item that stands for it. Returns it if people are told now."""
    rule, now = KINDS[found.kind], timezone.now()
    if row is not None and not _is_same(row, found):
        if row.state == WorkState.ACKNOWLEDGED:
            _resolve(row, ACTOR, f"it is another difference now: exchange {found.theirs}, ours {found.ours}")
            row = None
        elif row.state == WorkState.NOTICED:
            row.delete()
            row = None
        else:
            row = _changed(row, found)
    if row is None:
        fresh = _notice(venue, found)
        return [_tell(fresh)] if rule.is_sure or found.is_sure else []
    WorkItem.objects.filter(pk=row.pk).update(looks=row.looks + 1, last_at=now)
    row.looks, row.last_at = row.looks + 1, now
    if row.state != WorkState.NOTICED or not _is_confirmed(row, rule, reads_as_of):
        return []
    return [_tell(row)]


def _is_same(row: WorkItem, found: Difference) -> bool:
    """Whether the difference is still of the same size. A size is compared where both sides are numbers."""
    if row.severity != found.severity:
        return False
    if KINDS[found.kind].is_acceptable:
        return Decimal(row.theirs) - Decimal(row.ours) == Decimal(found.theirs) - Decimal(found.ours)
    return (row.theirs, row.ours) == (found.theirs[:160], found.ours[:160])


def _is_confirmed(row: WorkItem, rule: Rule, reads_as_of: datetime | None) -> bool:
    if reads_as_of is None or reads_as_of <= row.first_at:
        return False
    return rule.area not in ("positions", "cash") or not _is_excused(row)


def _is_excused(row: WorkItem) -> bool:
    """Whether an order without an answer may be the reason: what it filled is not booked before it is found."""
    under_way = Order.objects.filter(
        venue=row.venue,
        state__in=(OrderState.SENDING, OrderState.UNKNOWN),
        signed_at__gt=timezone.now() - EXCUSED_FOR,
    )
    return (under_way.filter(ticker=row.ticker) if row.ticker else under_way).exists()


def _notice(venue: str, found: Difference) -> WorkItem:
    now = timezone.now()
    return WorkItem.objects.create(
        public_id=new_id("wi"),
        venue=venue,
        kind=found.kind,
        subject=found.subject[:160],
        severity=found.severity,
        ticker=found.ticker,
        order=found.order,
        theirs=found.theirs[:160],
        ours=found.ours[:160],
        their_cost=found.their_cost,
        detail=found.detail[:300],
        first_at=now,
        last_at=now,
    )


def _tell(row: WorkItem) -> WorkItem:
    """Open the item for people; pause trading where its kind asks for that."""
    rule = rule_of(row)
    fresh = compare_and_set(row, state=WorkState.OPEN, has_paused=rule.pauses)
    log.error("reconcile.work_item", extra={"item": fresh.public_id, "difference": str(fresh)})
    _remember(fresh, "", ACTOR, rule.title)
    _record("work.open", fresh, ACTOR, rule.title)
    if rule.pauses:
        reason = f"{CODE} {fresh.public_id} {rule.title}: {fresh}"
        risk.reduce(venue=fresh.venue, actor=ACTOR, reason=reason[:300])
    return fresh


def _changed(row: WorkItem, found: Difference) -> WorkItem:
    """An open item goes on with new numbers; a form that shows the old ones is stale."""
    fresh = compare_and_set(
        row,
        theirs=found.theirs[:160],
        ours=found.ours[:160],
        their_cost=found.their_cost,
        detail=found.detail[:300],
        severity=found.severity,
    )
    _remember(fresh, row.state, ACTOR, f"exchange {found.theirs or '–'}, ours {found.ours or '–'}")
    return fresh


def _gone(row: WorkItem) -> None:
    """A comparison has not seen it: what only one look saw was lag and leaves no trace."""
    if row.state == WorkState.NOTICED:
        row.delete()
    else:
        _resolve(row, ACTOR, "a complete comparison does not see it any more")


def _resolve(row: WorkItem, actor: str, reason: str, *, version: int | None = None) -> WorkItem:
    fresh = compare_and_set(
        row,
        version=version,
        guard={"state": row.state},
        state=WorkState.RESOLVED,
        resolved_at=timezone.now(),
        resolved_by=actor,
        resolved_reason=reason[:300],
    )
    _remember(fresh, row.state, actor, reason)
    _record("work.resolve", fresh, actor, reason)
    return fresh


def _accept(item: WorkItem, actor: str) -> None:
    """Book what makes our number the exchange's, as it was last seen. Raises NotAcceptable, StaleVersion."""
    if not rule_of(item).is_acceptable:
        raise NotAcceptable("only a position or cash can be taken over from the exchange")
    theirs, ours = Decimal(item.theirs), Decimal(item.ours)
    if item.kind == WorkKind.CASH_DRIFT:
        ledger.adjust_cash(venue=item.venue, amount=theirs - ours, reference=item.public_id)
        return
    most = abs(theirs)  # dollars: a contract can lose no more than one
    ledger.take_over_position(
        venue=item.venue,
        ticker=item.ticker,
        quantity=theirs,
        seen=ours,
        cost=most if item.their_cost is None else item.their_cost,
        actor=actor,
        reference=item.public_id,
    )


def _required(reason: str) -> str:
    if not reason.strip():
        raise ValueError("say why; it stands in the record")
    return reason.strip()[:300]


def _remember(row: WorkItem, before: str, actor: str, reason: str) -> None:
    WorkItemEvent.objects.create(
        item=row,
        version=row.version,
        from_state=before,
        to_state=row.state,
        actor=actor,
        reason=reason,
        detail={"theirs": row.theirs, "ours": row.ours},
    )
    live.changed(TOPIC, key=row.public_id, version=row.version, kind=row.state)


def _record(verb: str, row: WorkItem, actor: str, reason: str) -> None:
    audit.record(
        actor=actor,
        actor_kind="system" if actor == ACTOR else "person",
        verb=verb,
        object_type="work_item",
        object_id=row.public_id,
        reason=reason,
        difference=str(row),
    )
