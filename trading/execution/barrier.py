"""What stands against the first claim after a start: what one comparison found that must not be traded on."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from trading.domain.orders import OrderState
from trading.execution.comparison import Reconciled
from trading.execution.work_items import Difference
from trading.execution.work_kinds import KINDS
from trading.models import Order, WorkItem, WorkKind, WorkState

Sight = tuple[str, str, Decimal | str]
# A desk that runs goes on beside a record that it cannot take in; one that starts does not know yet what it lacks.
AGAINST_A_START: Final = {WorkKind.ODD_RECORD} | {kind for kind, rule in KINDS.items() if rule.pauses}


def objections(venue: str, found: Reconciled) -> dict[Sight, str]:
    """Each difference of this look that stands against a start, by what makes it the same at the next look, in words.

    Left out is what a person has acknowledged, and what an order without a known outcome may explain: a position in its
    market, which is blocked anyway, and cash.
    """
    unproven = Order.objects.filter(venue=venue, state__in=(OrderState.SENDING, OrderState.UNKNOWN))
    doubtful = set(unproven.values_list("ticker", flat=True))
    answered = {
        _sight(item) for item in WorkItem.objects.standing(venue).filter(state=WorkState.ACKNOWLEDGED)
    }
    against = [each for each in found.differences if each.kind in AGAINST_A_START]
    told = {_sight(each): _in_words(each) for each in against if not _is_explained(each, doubtful)}
    return {sight: words for sight, words in told.items() if sight not in answered}


def lasting(seen: Mapping[Sight, str], before: Mapping[Sight, str] | None) -> dict[Sight, str]:
    """Those that the look before saw too, of the same size: what only one saw is lag. `before` None: there was none."""
    return {sight: words for sight, words in seen.items() if before is None or sight in before}


def _is_explained(found: Difference, doubtful: set[str]) -> bool:
    if found.kind == WorkKind.CASH_DRIFT:
        return bool(doubtful)
    return found.kind == WorkKind.POSITION_DRIFT and found.ticker in doubtful


def _sight(each: Difference | WorkItem) -> Sight:
    """Of numbers their distance: a fill between two looks moves both."""
    if KINDS[WorkKind(each.kind)].is_acceptable:
        return (each.kind, each.subject, Decimal(each.theirs) - Decimal(each.ours))
    return (each.kind, each.subject[:160], f"{each.theirs[:160]} {each.ours[:160]}")


def _in_words(found: Difference) -> str:
    sides = f"exchange {found.theirs}, ours {found.ours}" if found.theirs or found.ours else found.detail
    return f"{found.subject}: {sides}"
