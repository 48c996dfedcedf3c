"""The exchange's nets under our orders: one order group per shard, which the exchange trips when we fill too fast.

Orders that open something go into their shard's group; exits go into none, for a tripped net must not keep us in. A
net that has tripped, by its limit, by the watchdog or by hand, pauses trading; only a person resets it (ADR 0010).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.models import AuditEntry
from kalshi_site.prepared import prepared
from portfolio import risk
from trading.exchange.auth import Signer
from trading.exchange.errors import ExchangeError
from trading.exchange.gateway import AccountGateway, GroupGateway
from trading.exchange.link import Link
from trading.exchange.orders import open_order_groups
from trading.exchange.outcomes import Done, GroupCreated, Refused, SubmitOutcome
from trading.models import Order, OrderGroup

log = logging.getLogger(__name__)

TRIPPED_CODE: Final = "E315"
LOOK_EVERY: Final = 5.0  # seconds
AGAIN: Final = 10.0  # seconds between two tries to make a group
OVER_LIMIT: Final = "exceeded_order_group_risk_limit"
NOT_FOUND: Final = "order_group_not_found"


@dataclass(slots=True)
class Nets:
    """Makes, watches and resets one venue's groups. `contracts` is their limit within 15 seconds."""

    venue: str
    groups: GroupGateway
    account: AccountGateway
    contracts: Decimal
    monotonic: Callable[[], float] = time.monotonic
    _tried_at: dict[int, float] = field(default_factory=dict)
    _looked_at: float = float("-inf")

    def ensure(self, exchange_index: int) -> bool:
        """Make the shard's group if it lacks one. False while there is none: nothing opens without its net.

        After an unknown outcome another one is made: a group too many does no harm (API.md 11).
        """
        if OrderGroup.of_shard(self.venue, exchange_index) is not None:
            return True
        now = self.monotonic()
        if now - self._tried_at.get(exchange_index, float("-inf")) < AGAIN:
            return False
        self._tried_at[exchange_index] = now
        outcome = self.groups.create(contracts_in_15s=self.contracts, exchange_index=exchange_index)
        if not isinstance(outcome, GroupCreated):
            log.error("order_group.create.failed", extra={"shard": exchange_index, "why": repr(outcome)})
            return False
        del self._tried_at[exchange_index]
        self._keep(outcome)
        return True

    @transaction.atomic
    def _keep(self, made: GroupCreated) -> None:
        group = OrderGroup.objects.create(
            venue=self.venue,
            exchange_index=made.exchange_index,
            venue_group_id=made.order_group_id,
            contracts_limit=self.contracts,
        )
        created = _record(group, "created", "execution", actor_kind="system", contracts=str(self.contracts))
        _tell(group, created)

    def look(self) -> None:
        """Every few seconds: resets that a person asked for, the limit of the settings, and what the exchange says."""
        if self.monotonic() - self._looked_at < LOOK_EVERY and not self._is_reset_asked():
            return
        self._looked_at = self.monotonic()
        groups = list(OrderGroup.objects.standing(self.venue))
        asked = [group for group in groups if group.reset_asked_at is not None]
        for group in asked:
            self._reset(group)
        for group in groups:
            if group.contracts_limit != self.contracts:
                self._limit(group)
        if groups and not asked:  # reads lag writes: what was just reset may still be listed as tripped
            self._compare(groups)

    def _compare(self, groups: list[OrderGroup]) -> None:
        """Our rows against the exchange's list."""
        try:
            listed = {report.order_group_id: report for report in self.account.order_groups()}
        except (
            ExchangeError
        ) as error:  # cancels and claims go on; a trip shows in the next order's refusal too
            log.warning("order_group.look.failed", extra={"error": str(error)})
            return
        for group in groups:
            report = listed.get(group.venue_group_id)
            if report is None:
                log.warning("order_group.not_listed", extra={"group": group.venue_group_id})
            elif report.is_auto_cancel_enabled:
                limit = f"{group.contracts_limit:f}".removesuffix(".00")
                trip(group, actor="exchange", reason=f"more than {limit} contracts matched in 15 seconds")

    def heed(self, order: Order, outcome: SubmitOutcome) -> None:
        """What a refused create says of its group."""
        if not isinstance(outcome, Refused):
            return
        group = OrderGroup.of_shard(self.venue, order.exchange_index)
        if group is not None and outcome.exchange_code == OVER_LIMIT:
            trip(group, actor="exchange", reason=f"the exchange refused {order.public_id}: {outcome.message}")
        elif group is not None and outcome.exchange_code == NOT_FOUND:
            _close(group, actor="execution", actor_kind="system")

    def _is_reset_asked(self) -> bool:
        return bool(_reset_asked(self.venue))

    def _limit(self, group: OrderGroup) -> None:
        outcome = self.groups.limit(
            group.venue_group_id, contracts_in_15s=self.contracts, exchange_index=group.exchange_index
        )
        if isinstance(outcome, Done):
            OrderGroup.objects.filter(pk=group.pk).update(contracts_limit=self.contracts)

    def _reset(self, group: OrderGroup) -> None:
        """Repeating it is safe, so it is repeated until the exchange says that it is done."""
        outcome = self.groups.reset(group.venue_group_id, exchange_index=group.exchange_index)
        if isinstance(outcome, Refused) and (outcome.status == 404 or outcome.exchange_code == NOT_FOUND):
            _close(group, actor=group.reset_asked_by)  # else it could never be reset, nor trading be resumed
            return
        if not isinstance(outcome, Done):
            log.warning("order_group.reset.unproven", extra={"why": repr(outcome)})
            return
        with transaction.atomic():
            OrderGroup.objects.filter(pk=group.pk).update(
                tripped_at=None, tripped_by="", reason="", reset_asked_at=None, reset_asked_by=""
            )
            _tell(group, _record(group, "reset", group.reset_asked_by))


@prepared
def _reset_asked(venue: str) -> QuerySet[OrderGroup, int]:
    return OrderGroup.objects.standing(venue).exclude(reset_asked_at=None).values_list("pk", flat=True)


def trip(group: OrderGroup, *, actor: str, reason: str) -> bool:
    """Note that a net has tripped: trading is paused, and stays so until a person resets it. True the first time."""
    with transaction.atomic():
        rows = OrderGroup.objects.filter(pk=group.pk, tripped_at=None)
        if not rows.update(tripped_at=timezone.now(), tripped_by=actor, reason=reason[:300]):
            return False
        tripped = _record(group, "tripped", actor, actor_kind="system", reason=reason)
        risk.reduce(
            venue=group.venue, actor=actor, reason=f"{TRIPPED_CODE} order group tripped: {reason}"[:300]
        )
        # After the pause, which locks the trading state before the topic, as every change of it does.
        _tell(group, tripped)
    log.error("order_group.tripped", extra={"group": group.venue_group_id, "by": actor, "reason": reason})
    return True


@transaction.atomic
def ask_to_reset(*, venue: str, actor: str, reason: str) -> int:
    """Ask execution to let tripped nets take orders again. How many there are. Raises ReasonMissing.

    Trading stays paused: that it may go on is a decision of its own.
    """
    if not reason.strip():
        raise risk.ReasonMissing
    asked = list(OrderGroup.objects.tripped(venue).select_for_update())
    for group in asked:
        OrderGroup.objects.filter(pk=group.pk).update(reset_asked_at=timezone.now(), reset_asked_by=actor)
        _tell(group, _record(group, "reset_asked", actor, reason=reason))
    return len(asked)


def objection(venue: str) -> str:
    """Why trading may not be resumed: a net has tripped. "" when none has."""
    group = OrderGroup.objects.tripped(venue).first()
    if group is None:
        return ""
    return (
        f"{TRIPPED_CODE} an order group was tripped by {group.tripped_by} at {group.tripped_at:%H:%M:%S}"
        f" ({group.reason}): reset it first, by manage.py trade reset"
    )


def open_group_gateway(rest_url: str, signer: Signer, *, link: Link | None = None) -> GroupGateway:
    """The order groups, for a key that may trade. Only this room may open them."""
    return open_order_groups(rest_url, signer, link=link)


@transaction.atomic
def _close(group: OrderGroup, *, actor: str, actor_kind: audit.ActorKind = "person") -> None:
    """The exchange has it no more: the next order makes a new one."""
    log.error("order_group.gone", extra={"group": group.venue_group_id})
    OrderGroup.objects.filter(pk=group.pk).update(closed_at=timezone.now())
    closed = _record(group, "closed", actor, actor_kind=actor_kind, reason="the exchange has it no more")
    _tell(group, closed)


def _record(
    group: OrderGroup,
    deed: str,
    actor: str,
    *,
    actor_kind: audit.ActorKind = "person",
    reason: str = "",
    **detail: str,
) -> AuditEntry:
    return audit.record(
        actor=actor,
        actor_kind=actor_kind,
        verb=f"order_group.{deed}",
        object_type="order_group",
        object_id=group.venue_group_id,
        reason=reason,
        **detail,
    )


def _tell(group: OrderGroup, deed: AuditEntry) -> None:
    """Under the key of the shard, which keeps it when its group is made anew.

    Groups have no version of their own. The deed's number in the audit trail stands for it: a shard's deeds come one
    after the other, so that it only grows.
    """
    key = f"{group.venue} group {group.exchange_index}"
    live.changed("trading", key=key, version=deed.pk, kind=deed.verb.removeprefix("order_group."))
