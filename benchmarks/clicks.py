"""Clicks on one desk: approve proposals over REST as a person's script does, and see when the exchange has the order.

    VAR_DIR=... python -m benchmarks.clicks COUNT        one JSON document on standard output

All times are of this machine's one clock. The exchange tells whole milliseconds: an order counts as accepted at the end
of the millisecond that its own record names.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import django

if TYPE_CHECKING:
    from approvals.models import Proposal
    from trading.models import Order

EVERY: Final = 0.21  # seconds and up to a fifth more: a token may write five times a second
ANSWERED_WITHIN: Final = 10.0
STEPS: Final = ("approved", "claimed", "handed", "accepted", "answered")
PRICE: Final = Decimal("0.0100")  # rests far from the touch


@dataclass(frozen=True)
class Click:
    """One approval and its order. `sent` and `answered` are Unix seconds around the request."""

    sent: float
    answered: float
    order: Order


class Approver:
    """A person's script: one kept-alive connection, one token."""

    def __init__(self, credentials: dict[str, Any]) -> None:
        users = {user["role"]: user for user in credentials["users"]}
        self._connection = http.client.HTTPConnection(credentials["base_url"].removeprefix("http://"))
        self._token = users["approver"]["api_token"]

    def approve(self, proposal: Proposal) -> tuple[float, float]:
        """When the request went out, and when its whole answer was in. Raises RuntimeError on a refusal."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "If-Match": f'"v{proposal.version}"',
            "Idempotency-Key": str(uuid.uuid4()),
            "Content-Type": "application/json",
        }
        path, said = f"/api/v1/proposals/{proposal.public_id}/approve", {"terms_hash": proposal.terms_hash}
        body = json.dumps(said).encode()
        sent = time.time()
        self._connection.request("POST", path, body=body, headers=headers)
        answer = self._connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {told[:300]!r}")
        return sent, time.time()


def proposals() -> Iterator[Proposal]:
    """Proposals of one contract at one cent, each in the next market where somebody sells and time is left."""
    from django.utils import timezone

    from approvals.domain.policy import Origin
    from approvals.proposals import Draft, submit
    from portfolio import risk
    from trading.domain.orders import Action, Side, Terms
    from trading.models import Market

    while True:
        found = False
        for ticker in Market.objects.open(timezone.now() + timedelta(minutes=4)).values_list(
            "ticker", flat=True
        ):
            ask = risk.facts_of(ticker).book.yes_ask
            if ask is None or not Decimal("0.03") < ask <= Decimal("0.11"):
                continue
            terms = Terms(ticker, Action.BUY, Side.YES, Decimal(1), PRICE)
            made = submit(
                Draft(
                    venue="paper",
                    terms=terms,
                    origin=Origin.AGENT,
                    proposer="benchmark",
                    time_to_decide=timedelta(minutes=1),
                )
            )
            if made.state == "pending":
                found = True
                yield made
        if not found:
            time.sleep(1.0)


def order_of(proposal: Proposal) -> Order | None:
    """The order once its answer is written down; None when there is none within ten seconds."""
    from trading.models import Order

    deadline = time.monotonic() + ANSWERED_WITHIN
    while time.monotonic() < deadline:
        order = Order.objects.filter(proposal=proposal).exclude(state="sending").first()
        if order is not None:
            return order
        time.sleep(0.02)
    return None


def measure(count: int) -> dict[str, Any]:
    """Click so often; milliseconds from the click to each step, in the order of the clicks."""
    from django.conf import settings

    from kalshi_site import wiring
    from trading.execution.cancels import NotCancelable, request_cancel
    from trading.execution.wake import wake

    approver = Approver(json.loads((settings.VAR_DIR / "demo-credentials.json").read_text()))
    account = wiring.stand_in()[1]
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    lost = 0
    for proposal, _ in zip(proposals(), range(count + 3), strict=False):
        time.sleep(EVERY * random.uniform(1.0, 1.2))
        sent, answered = approver.approve(proposal)
        order = order_of(proposal)
        if order is None or not order.venue_order_id:
            lost += 1
            continue
        accepted_at = account.order(order.venue_order_id).created_at
        proposal.refresh_from_db()
        assert accepted_at is not None and proposal.decided_at is not None and order.sent_at is not None
        steps["approved"].append(1000 * (proposal.decided_at.timestamp() - sent))
        steps["claimed"].append(1000 * (order.created_at.timestamp() - sent))
        steps["handed"].append(1000 * (order.sent_at.timestamp() - sent))
        steps["accepted"].append(1000 * (accepted_at.timestamp() - sent) + 1)
        steps["answered"].append(1000 * (answered - sent))
        try:
            request_cancel(order=order, actor="benchmark")
            wake()  # as the page does: the way out is not left to the next order
        except NotCancelable:
            continue
    return {"lost": lost, "steps": {name: each[3:] for name, each in steps.items()}}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    django.setup()
    json.dump(measure(int(sys.argv[1])), sys.stdout)
