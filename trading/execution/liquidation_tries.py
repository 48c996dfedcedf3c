"""How the exits of a liquidation fared. Only one that the exchange took is a try; after the others the next one waits.

Read from the rows of the exits themselves, so that a restart forgets nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from approvals.domain.lifecycle import ProposalState
from approvals.models import Proposal, ProposalEvent
from kalshi_site.identity import new_id
from trading.domain.orders import ON_EXCHANGE, OrderState
from trading.models import Liquidation

PAUSES: Final = (1, 2, 4, 8)  # seconds after the first, second … exit in a row that the exchange did not take
FATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        OrderState.NOT_SENT: "could not be sent",
        OrderState.REJECTED: "was refused",
        OrderState.ABSENT: "never arrived at the exchange",
    }
)


@dataclass(frozen=True, slots=True)
class Tries:
    """The exits from one market: how many the exchange took, and how many in a row it has not taken since.

    `fate` and `because` say what became of the last of these, `at` when.
    """

    taken: int = 0
    failed: int = 0
    fate: str = ""
    because: str = ""
    at: datetime | None = None

    @property
    def is_pausing(self) -> bool:
        """Whether it is too early for the next one. A clock that was set back holds nobody up."""
        if self.at is None:
            return False
        pause = timedelta(seconds=PAUSES[min(self.failed, len(PAUSES)) - 1])
        return timedelta(0) <= timezone.now() - self.at < pause

    def and_failed(self, fate: str, because: str, at: datetime) -> Tries:
        return Tries(self.taken, self.failed + 1, fate, because, at)


def tries_of(row: Liquidation) -> defaultdict[str, Tries]:
    """Each market's so far; one without an exit has none taken and none failed. What has no outcome yet is neither."""
    tries: defaultdict[str, Tries] = defaultdict(Tries)
    for each in _exits(row):
        tries[each.ticker] = _after(tries[each.ticker], each)
    return tries


def key_of_exit(row: Liquidation) -> str:
    """What the next exit is named by: neither a clock nor its actor tells it from what people close meanwhile."""
    return f"{row.public_id}:{new_id('exit')}"


def _exits(row: Liquidation) -> QuerySet[Proposal]:
    said = ProposalEvent.objects.filter(proposal=OuterRef("pk")).order_by("-id").values("reason")[:1]
    exits = Proposal.objects.terms_alone().filter(idea_key__startswith=f"{row.public_id}:")
    return exits.select_related("order").annotate(said=Subquery(said)).order_by("id")


def _after(tries: Tries, exit_: Proposal) -> Tries:
    order = getattr(exit_, "order", None)
    if order is None:
        if exit_.state != ProposalState.VOIDED:
            return tries
        return tries.and_failed("was not sent", exit_.said, exit_.updated_at)  # type: ignore[attr-defined]
    if order.state in ON_EXCHANGE:
        return Tries(tries.taken + 1)
    if fate := FATES.get(order.state):
        return tries.and_failed(fate, order.evidence, order.updated_at)
    return tries
