"""The execution process: takes approved proposals from the database and sends each once.

One process per account holds the lease. It looks at the database every second and at once when nudged; with Redis and
Celery dead it still claims, cancels and halts. Between the claim and the send nothing else happens.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from approvals.domain.lifecycle import WrongState
from approvals.models import Proposal
from kalshi_site.locks import Held
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain.limits import TradingMode
from trading.exchange.auth import Signer
from trading.exchange.gateway import OrderGateway
from trading.exchange.orders import open_orders
from trading.exchange.outcomes import Canceled, NotOpen, SubmitOutcome, Unknown
from trading.execution import cancels, lifecycle
from trading.execution.claims import ClaimRules, claim
from trading.models import Order

log = logging.getLogger(__name__)

SEND_WITHIN = 2.0  # seconds from the signed time; later the order is not sent (RELIABILITY.md 3.1, step 3)
Checkpoint = Callable[[str], None]


def _no_checkpoint(_: str) -> None:
    """Crash tests put a kill here; in the product nothing happens."""


@dataclass(slots=True)
class Router:
    """Claims, sends, cancels for one venue. `orders` is the one door to the order endpoints."""

    venue: str
    orders: OrderGateway
    deployment: uuid.UUID
    rules: ClaimRules = field(default_factory=ClaimRules)
    checkpoint: Checkpoint = _no_checkpoint

    def round(self, held: Held) -> int:
        """One look at the database: halt first, then cancels, then claims. Returns how many orders were sent."""
        self.call_off()
        waiting = Proposal.objects.unclaimed().filter(venue=self.venue)
        return sum(self.send(proposal, held) for proposal in waiting)

    def call_off(self) -> None:
        """Cancel what shall not stand any more. Asks the exchange nothing first: a way out never waits for a read."""
        state = risk.trading_state(self.venue)
        if TradingMode(state.mode) is TradingMode.HALTED:
            cancels.request_cancel_all(venue=self.venue, actor="execution", reason="trading is stopped")
        else:
            cancels.request_cancel_stopped(venue=self.venue, kill_epoch=state.kill_epoch)
        for order in Order.objects.cancel_wanted().filter(venue=self.venue):
            self.cancel(order)

    def send(self, proposal: Proposal, held: Held) -> bool:
        """Claim one proposal and send its order once. False when it was voided or somebody else took it."""
        started = time.monotonic()
        try:
            order = claim(proposal, held=held, deployment=self.deployment, rules=self.rules)
        except (StaleVersion, WrongState):
            return False
        if order is None:
            return False
        self.checkpoint("claimed")
        outcome = self._submit(order, started)
        self.checkpoint("answered")
        lifecycle.record_outcome(order, outcome)
        self.checkpoint("recorded")
        return True

    def _submit(self, order: Order, started: float) -> SubmitOutcome:
        assert order.signed_at is not None
        try:
            return self.orders.send_create(
                order.body.encode(),
                int(order.signed_at.timestamp() * 1000),
                send_before=started + SEND_WITHIN,
            )
        except Exception as error:  # whatever broke, bytes may have left: unproven
            log.exception("order.submit.broke", extra={"order": order.public_id})
            return Unknown(f"the send broke: {error!r}")

    def cancel(self, order: Order) -> None:
        """Cancel one order by its exchange id. Safe to repeat; what is not proven is asked again next round."""
        if not order.venue_order_id:
            return
        outcome = self.orders.cancel(order.venue_order_id, market_ticker=order.ticker)
        match outcome:
            case Canceled():
                log.info("order.cancel.done", extra={"order": order.public_id})
            case NotOpen():
                log.info("order.cancel.not_open", extra={"order": order.public_id})
            case _:
                log.warning(
                    "order.cancel.unproven", extra={"order": order.public_id, "outcome": repr(outcome)}
                )


def open_order_gateway(rest_url: str, signer: Signer) -> OrderGateway:
    """The order endpoints, warm, for a key that may trade. Only this room may open them."""
    gateway = open_orders(rest_url, signer)
    gateway.warm()
    return gateway
