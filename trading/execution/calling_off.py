"""Sending cancels: by the exchange's ids, several in one request, each judged by itself. Repeating them is safe."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from trading.exchange.gateway import OrderGateway
from trading.exchange.outcomes import Canceled, CancelOutcome, NotOpen, Refused, Unknown
from trading.exchange.targets import CancelTarget

log = logging.getLogger(__name__)

# A batch is billed at once and refused whole when the tokens do not suffice (API.md 7): 40 of a Basic account's 100.
MOST_IN_A_BATCH: Final = 20


def call_off(orders: OrderGateway, targets: Sequence[CancelTarget]) -> list[CancelOutcome]:
    """Cancel all of them: one alone by itself, more in batches. An outcome for each; never raises.

    Where a whole batch is refused, or breaks, its orders are canceled one by one: an odd one keeps no other standing.
    """
    outcomes: list[CancelOutcome] = []
    for batch in _batches(targets):
        outcomes += [_cancel(orders, batch[0])] if len(batch) == 1 else _cancel_batch(orders, batch)
    for target, outcome in zip(targets, outcomes, strict=True):
        _tell(target, outcome)
    return outcomes


def _cancel_batch(orders: OrderGateway, batch: list[CancelTarget]) -> list[CancelOutcome]:
    try:
        outcomes = list(orders.cancel_batch(batch))
    except Exception:
        log.exception("order.cancel.batch.broke", extra={"orders": len(batch)})
        outcomes = []
    if len(outcomes) == len(batch) and not all(isinstance(each, Refused) for each in outcomes):
        return outcomes
    return [_cancel(orders, target) for target in batch]


def _cancel(orders: OrderGateway, target: CancelTarget) -> CancelOutcome:
    try:
        return orders.cancel(
            target.order_id, market_ticker=target.market_ticker, subaccount=target.subaccount
        )
    except Exception as error:  # it is tried again at the next look
        log.exception("order.cancel.broke", extra={"order": target.order_id})
        return Unknown(f"the cancel broke: {error!r}")


def _batches(targets: Sequence[CancelTarget]) -> Iterator[list[CancelTarget]]:
    left = iter(targets)
    while batch := list(islice(left, MOST_IN_A_BATCH)):
        yield batch


def _tell(target: CancelTarget, outcome: CancelOutcome) -> None:
    match outcome:
        case Canceled():
            log.info("order.cancel.done", extra={"order": target.order_id})
        case NotOpen():  # filled, canceled or unknown there: whoever asks the exchange finds out which
            log.info("order.cancel.not_open", extra={"order": target.order_id})
        case _:
            log.warning("order.cancel.unproven", extra={"order": target.order_id, "outcome": repr(outcome)})
