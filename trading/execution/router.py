"""The execution process: takes approved proposals from the database and sends each once.

One process per account holds the lease. It looks at the database every second and at once when nudged; with Redis and
Celery dead it still claims, cancels and halts. Between the claim and the send nothing happens but the end of the
order before, and cancels.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import QuerySet
from django.utils import timezone

from approvals import proposals
from approvals.domain.lifecycle import WrongState
from approvals.models import Proposal
from kalshi_site.build import build_id
from kalshi_site.locks import Held, Outrun
from kalshi_site.prepared import prepared
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.models import TradingState
from trading.domain.breaker import Breaker, NoBreaker
from trading.exchange.auth import Signer
from trading.exchange.errors import ClockOff
from trading.exchange.gateway import ClockGateway, OrderGateway
from trading.exchange.link import Link
from trading.exchange.orders import open_orders
from trading.exchange.outcomes import NotSent, SubmitOutcome, Unknown
from trading.exchange.targets import CancelTarget
from trading.exchange.venue_clock import VenueClock
from trading.execution import calling_off, cancels, last_look, lifecycle
from trading.execution.checkpoints import Checkpoint, reached
from trading.execution.claims import ORDER_KNOWN, ClaimRules, NetMissing, claim
from trading.execution.nets import Nets
from trading.models import Market, Order

log = logging.getLogger(__name__)

CALL_OFF_EVERY = 0.05  # seconds between two looks at the cancels while orders go out
ROUND_WITHIN = (
    0.5  # seconds; what is left waits for the next round, for which the lease and stops do not wait
)
STOPPING_WITHIN = 0.05  # the same while a stop is not proven: what it voids can wait, its proof cannot
QUICK_ANSWER = 0.5  # seconds for one order; after a slower one the next is not claimed ahead
# The lease has gone, the net is to be made, or the database does not answer: these say nothing about the approval.
UNDECIDED: Final = (Outrun, NetMissing, OperationalError, InterfaceError)
SEND_WITHIN = 2.0  # seconds from the signed time; later the order is not sent (RELIABILITY.md 3.1, step 3)


@dataclass(frozen=True, slots=True)
class Claimed:
    """An order that is to be sent at once, and when (`time.monotonic()`) its claim began."""

    order: Order
    since: float


@dataclass(slots=True)
class Ahead:
    """The claim that is made while the exchange answers for the order before it: what came of it, or its fault."""

    claimed: Claimed | None = None
    fault: Exception | None = None

    def over(self) -> Claimed | None:
        """The claim, once the order before it is written down. Raises what broke in it."""
        if self.fault is not None:
            raise self.fault
        return self.claimed


@dataclass(slots=True)
class Router:
    """Claims, sends, cancels for one venue. `orders` is the one door to the order endpoints, `clock` its time."""

    venue: str
    orders: OrderGateway
    deployment: uuid.UUID
    rules: ClaimRules = field(default_factory=ClaimRules)
    checkpoint: Checkpoint = reached
    clock: ClockGateway = field(default_factory=VenueClock)
    breaker: Breaker = field(default_factory=NoBreaker)
    nets: Nets | None = None
    build: str = field(default_factory=build_id)
    _netless: set[int] = field(default_factory=set)  # shards without an order group, in this round
    _was_quick: bool = (
        True  # the last answer; after a slow one nothing is claimed ahead, in later rounds neither
    )

    def round(self, held: Held) -> int:
        """One look at the database: halt first, then cancels, then claims. Returns how many orders were sent."""
        began = looked_at = time.monotonic()
        is_stopping = self.call_off()
        self._netless.clear()
        sent, outbox = 0, self._outbox()
        claimed, ahead = None, Ahead()
        try:
            while claimed or outbox:
                until = began + (STOPPING_WITHIN if is_stopping else ROUND_WITHIN)
                claimed = claimed or self._take_next(outbox, held)
                if claimed is not None:
                    ahead, sent_at = Ahead(), time.monotonic()
                    self._deliver(claimed, partial(self._take_ahead, ahead, claimed, outbox, held, until))
                    self._was_quick = time.monotonic() - sent_at < QUICK_ANSWER
                    sent, claimed = sent + 1, ahead.over()
                if time.monotonic() - looked_at >= CALL_OFF_EVERY:
                    # A send waits for tokens and for its answer: a way out does not wait for the others.
                    is_stopping, looked_at = self.call_off(), time.monotonic()
                if claimed is None and time.monotonic() > until:
                    break
        except Exception as error:
            self._let_go(ahead, error)
            raise
        return sent

    def _outbox(self) -> deque[Proposal]:
        """What waits to be sent. While our clock is off only exits: no expiry of ours is in them."""
        waiting = _outbox(self.venue)
        try:
            self.clock.require_steady()
        except ClockOff as error:  # the others are not lost: they are claimed in time, or voided as too old
            log.error("execution.clock.off", extra={"code": error.code, "error": str(error)})
            waiting = [each for each in waiting if each.reduce_only]
        return deque(waiting)

    def _if_it_may(self, proposal: Proposal, take: Callable[..., Claimed | None]) -> Claimed | None:
        """Let `take` claim it; not while the breaker of order writes is open, nor without a net. An exit always may.

        What waits so is voided once it is too old: it keeps nobody's money. What is allowed and comes to nothing is
        no probe of the exchange: the next may be that.
        """
        if proposal.reduce_only:
            return take(proposal)
        is_late = self._is_late(proposal)
        if self._netless and Market.objects.shard_of(proposal.ticker) in self._netless and not is_late:
            return None
        if not self.breaker.allows():
            log.info("execution.breaker.open", extra={"proposal": proposal.public_id})
            return take(proposal, only_void=True) if is_late else None
        claimed = None
        try:
            claimed = take(proposal)
        finally:
            if claimed is None:
                self.breaker.unused()
        return claimed

    def _is_late(self, proposal: Proposal) -> bool:
        decided_at = proposal.decided_at
        return decided_at is None or timezone.now() - decided_at > self.rules.approval_life

    def call_off(self) -> bool:
        """Cancel what shall not stand any more; True while a stop is not proven to be at rest.

        Asks the exchange nothing first: a way out never waits for a read.
        Nor for a write: what a stop covers is canceled before it is written down that it shall be. That takes a moment
        for each order, and a crash between leaves it to the next look.
        """
        called, is_stopping = set[int](), False
        for state in _once_stopped(self.venue):
            is_stopping |= state.is_stopping
            if covered := list(cancels.stopped(state)):
                self._cancel(covered)
                called |= {order.pk for order in covered}
                cancels.request_cancel_stopped(state)
        self._cancel(order for order in _cancel_wanted(self.venue) if order.pk not in called)
        return is_stopping

    def send(self, proposal: Proposal, held: Held) -> bool:
        """Claim one proposal and send its order once. False when it was voided or somebody else took it."""
        claimed = self._take(proposal, held)
        if claimed is not None:
            self._deliver(claimed)
        return claimed is not None

    def _take_next(self, outbox: deque[Proposal], held: Held) -> Claimed | None:
        return self._if_it_may(outbox.popleft(), partial(self._take, held=held))

    def _take(self, proposal: Proposal, held: Held, *, only_void: bool = False) -> Claimed | None:
        """Claim one proposal; where its net is missing, make that first. None when it was voided, or must wait."""
        try:
            return self._claim(proposal, held, only_void=only_void)
        except NetMissing as missing:
            # Nothing was written. Once the net stands there is a group, so this ends.
            return self._take(proposal, held) if self._make_net(missing.exchange_index) else None

    def _take_ahead(
        self, ahead: Ahead, under_way: Claimed, outbox: deque[Proposal], held: Held, until: float
    ) -> None:
        """Claim the next while the exchange answers for one, which must hear of no fault in it (decision 17).

        Not in the same market: what is sent there has no known outcome yet, and would void it. Not an exit: where the
        answer comes late, the next is too old to be sent.
        """
        if not self._was_quick or not outbox or time.monotonic() > until:
            return
        following = outbox[0]
        if following.reduce_only or following.ticker == under_way.order.ticker:
            return
        try:
            ahead.claimed = self._if_it_may(following, partial(self._claim, held=held))
            outbox.popleft()
        except NetMissing:
            pass  # to make one is a word with the exchange
        except Exception as error:
            ahead.fault = error

    def _let_go(self, ahead: Ahead, error: Exception) -> None:
        """What was claimed ahead of an order that broke is not sent: said at once, for else it blocks its market."""
        if ahead.fault not in (None, error):
            log.error("execution.ahead.broke", extra={"error": repr(ahead.fault)})
        if ahead.claimed is not None:
            try:
                unsent = NotSent("not sent: the work on the order before it broke")
                lifecycle.record_outcome(ahead.claimed.order, unsent)
            except Exception:  # without a word since its claim, it is looked for like any other
                log.exception("execution.ahead.unsaid", extra={"order": ahead.claimed.order.public_id})

    def _claim(self, proposal: Proposal, held: Held, *, only_void: bool = False) -> Claimed | None:
        started = time.monotonic()
        try:
            order = claim(
                proposal,
                held=held,
                deployment=self.deployment,
                rules=self.rules,
                clock=self.clock.now,
                build=self.build,
                only_void=only_void,
            )
        except (StaleVersion, WrongState):
            return None
        except risk.OtherBuild as error:  # what waits is taken by the accepted build, or voided as too old
            log.error("execution.build.refused", extra={"code": error.code, "error": str(error)})
            return None
        except UNDECIDED:
            raise
        except Exception as error:
            self._void(proposal, error)
            return None
        if order is None:
            return None
        self.checkpoint("claimed")
        return Claimed(order, started)

    def _void(self, proposal: Proposal, error: Exception) -> None:
        """What cannot be claimed is never sent, and said to be so: left standing it would break every round after.

        Nothing of its claim was committed. The others, and what follows the claims in a round, go on.
        """
        log.error("execution.claim.broke", exc_info=error, extra={"proposal": proposal.public_id})
        reason = ORDER_KNOWN if isinstance(error, IntegrityError) else f"could not be claimed: {error!r}"
        with suppress(StaleVersion, WrongState):  # somebody else has decided over it meanwhile
            proposals.void(proposal=proposal, reason=reason)

    def _deliver(self, claimed: Claimed, meanwhile: Callable[[], None] | None = None) -> None:
        """Send the order once and write down what that proved."""
        order = claimed.order
        outcome = self._submit(claimed, meanwhile)
        self.checkpoint("answered")
        lifecycle.record_outcome(order, outcome)
        self.checkpoint("recorded")
        if isinstance(outcome, NotSent):
            self.breaker.unused()
        if self.nets is not None:
            self.nets.heed(order, outcome)

    def _make_net(self, exchange_index: int) -> bool:
        if self.nets is not None and self.nets.ensure(exchange_index):
            return True
        self._netless.add(exchange_index)
        return False

    def _submit(self, claimed: Claimed, meanwhile: Callable[[], None] | None) -> SubmitOutcome:
        order = claimed.order
        assert order.signed_at is not None
        try:
            if refused := last_look.refusal(order):
                log.error(
                    "order.last_look.refused", extra={"order": order.public_id, "reason": refused.reason}
                )
                return refused
        except Exception as error:  # not looked at, so not sent; whether it was before, nobody knows
            log.exception("order.last_look.broke", extra={"order": order.public_id})
            return Unknown(f"the last look before the send broke: {error!r}")
        self.checkpoint("sending")
        try:
            return self.orders.send_create(
                order.body.encode(),
                int(order.signed_at.timestamp() * 1000),
                send_before=claimed.since + SEND_WITHIN,
                meanwhile=meanwhile,
            )
        except Exception as error:  # whatever broke, bytes may have left: unproven
            log.exception("order.submit.broke", extra={"order": order.public_id})
            return Unknown(f"the send broke: {error!r}")

    def cancel(self, order: Order) -> None:
        """Cancel one order by its exchange id. Safe to repeat; what is not proven is asked again next round."""
        self._cancel([order])

    def _cancel(self, wanted: Iterable[Order]) -> None:
        targets = [
            CancelTarget(each.venue_order_id, each.ticker, subaccount=each.subaccount or None)
            for each in wanted
            if each.venue_order_id
        ]
        if targets:
            self.checkpoint("canceling")
            calling_off.call_off(self.orders, targets)
            self.checkpoint("canceled")


@prepared
def _outbox(venue: str) -> QuerySet[Proposal]:
    """Exits first: behind a queue of openings one would be voided as too old."""
    waiting = Proposal.objects.terms_alone().unclaimed().filter(venue=venue)
    return waiting.order_by("-reduce_only", "decided_at", "id")


@prepared
def _once_stopped(venue: str) -> QuerySet[TradingState]:
    return TradingState.objects.filter(venue=venue, halted_epoch__gt=0)


@prepared
def _cancel_wanted(venue: str) -> QuerySet[Order]:
    return Order.objects.cancel_wanted().filter(venue=venue)


def open_order_gateway(rest_url: str, signer: Signer, *, link: Link | None = None) -> OrderGateway:
    """The order endpoints, warm, for a key that may trade. Only this room may open them."""
    gateway = open_orders(rest_url, signer, link=link)
    gateway.warm()
    return gateway
