"""Creates, amends, decreases and cancels over lines of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from trading.exchange import order_messages as messages
from trading.exchange.auth import Signer
from trading.exchange.link import Link
from trading.exchange.orders import answers, bodies
from trading.exchange.outcomes import (
    AllCanceled,
    AmendOutcome,
    CancelAllOutcome,
    CancelOutcome,
    DecreaseOutcome,
    Done,
    NotOpen,
    Refused,
    SubmitOutcome,
    Unknown,
)
from trading.exchange.reads import given
from trading.exchange.targets import CancelTarget
from trading.exchange.transport import Timeouts, WriteLine
from trading.exchange.writes import Write, done, send_once

ORDERS: Final = "/portfolio/events/orders"
# Our amends only move expiries, and are asked about when they are not answered: nothing waits for them as for a create.
AMEND_TIMEOUTS: Final = Timeouts(connect=1.0, read=1.5, total=2.0, budget=0.2)

Outcome = TypeVar("Outcome")


class Orders:
    """Order writes, ways in and ways out on connections of their own: a cancel never waits behind a slow create.

    Amends have a third one, when it is given: their line may be less patient.
    """

    def __init__(self, creates: WriteLine, cancels: WriteLine, amends: WriteLine | None = None) -> None:
        self._creates = creates
        self._cancels = cancels
        self._amends = amends or creates

    def send_create(
        self,
        body: bytes,
        signed_ts_ms: int,
        *,
        send_before: float | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> SubmitOutcome:
        """Send a body of `create_body` once. Never raises for what the exchange or the network does.

        `signed_ts_ms` was fixed at the claim: the exchange refuses a late one, so a frozen sender can do no harm.
        `send_before` (`time.monotonic()`) is our own limit for the first byte. `meanwhile` is called once when all
        bytes are out, before the answer is awaited, or not at all; it must not raise.
        """
        sent = msgspec.json.decode(body, type=messages.NewOrder)
        return send_once(
            self._creates,
            Write(
                "POST",
                ORDERS,
                body,
                exchange_index=sent.exchange_index,
                adds_risk=True,
                needs_clock=not _is_exit(sent),
            ),
            partial(answers.accepted, sent),
            signed_ts_ms=signed_ts_ms,
            send_before=send_before,
            meanwhile=meanwhile,
        )

    def send_batch(
        self, batch: Sequence[bytes], signed_ts_ms: int, *, send_before: float | None = None
    ) -> tuple[SubmitOutcome, ...]:
        """Send several bodies of `create_body` in one request: an outcome for each, in their order.

        It bills the sum of its items at once (API.md 7). Raises ValueError for a batch that is none.
        """
        sent = [msgspec.json.decode(body, type=messages.NewOrder) for body in batch]
        outcome = send_once(
            self._creates,
            Write(
                "POST",
                f"{ORDERS}/batched",
                bodies.batch_body(batch),
                items=len(batch),
                adds_risk=True,
                needs_clock=True,
            ),
            partial(answers.accepted_items, sent),
            signed_ts_ms=signed_ts_ms,
            send_before=send_before,
        )
        return outcome if isinstance(outcome, tuple) else (outcome,) * len(batch)

    def send_amend(
        self,
        order_id: str,
        body: bytes,
        signed_ts_ms: int,
        *,
        subaccount: int | None = None,
        send_before: float | None = None,
    ) -> AmendOutcome:
        """Give an order the terms of `amend_body`. A new price or a larger size costs its place in the queue."""
        sent = msgspec.json.decode(body, type=messages.AmendedTerms)
        outcome = send_once(
            self._amends,
            Write(
                "POST",
                f"{_order(order_id)}/amend",
                body,
                given(subaccount=subaccount),
                exchange_index=sent.exchange_index,
                adds_risk=True,
                needs_clock=True,
            ),
            partial(answers.amended, order_id, sent),
            signed_ts_ms=signed_ts_ms,
            send_before=send_before,
        )
        return _or_not_open(order_id, outcome)

    def decrease(
        self,
        order_id: str,
        *,
        market_ticker: str,
        reduce_by: Decimal | None = None,
        reduce_to: Decimal | None = None,
        exchange_index: int | None = None,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> DecreaseOutcome:
        """Take contracts off a resting order, which keeps its place. `reduce_to` may be repeated, `reduce_by` not.

        Raises ValueError unless exactly one of the two is given.
        """
        body = bodies.decrease_body(
            reduce_by=reduce_by,
            reduce_to=reduce_to,
            market_ticker=market_ticker,
            exchange_index=exchange_index,
        )
        outcome = send_once(
            self._cancels,
            Write(
                "POST",
                f"{_order(order_id)}/decrease",
                body,
                given(subaccount=subaccount),
                exchange_index=exchange_index,
            ),
            partial(answers.decreased, order_id, reduce_to),
            signed_ts_ms=signed_ts_ms,
        )
        return _or_not_open(order_id, outcome)

    def cancel(
        self,
        order_id: str,
        *,
        market_ticker: str,
        exchange_index: int | None = None,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> CancelOutcome:
        """Cancel one order by the exchange's id; repeating it is safe.

        The ticker routes it to the market's shard; a known shard is billed alone instead of all of them (API.md 7).
        """
        outcome = send_once(
            self._cancels,
            Write(
                "DELETE",
                _order(order_id),
                parameters=given(
                    market_ticker=market_ticker, exchange_index=exchange_index, subaccount=subaccount
                ),
                exchange_index=exchange_index,
            ),
            partial(answers.canceled, order_id),
            signed_ts_ms=signed_ts_ms,
        )
        return _or_not_open(order_id, outcome)

    def cancel_batch(
        self, targets: Sequence[CancelTarget], *, signed_ts_ms: int | None = None
    ) -> tuple[CancelOutcome, ...]:
        """Cancel several orders in one request: an outcome for each, in their order. Repeating it is safe."""
        items = [
            messages.CancelItem(each.order_id, each.market_ticker, each.exchange_index, each.subaccount)
            for each in targets
        ]
        body = msgspec.json.encode(messages.CancelItems(items))
        outcome = send_once(
            self._cancels,
            Write("DELETE", f"{ORDERS}/batched", body, items=len(items)),
            partial(answers.canceled_items, [each.order_id for each in targets]),
            signed_ts_ms=signed_ts_ms,
        )
        return outcome if isinstance(outcome, tuple) else (outcome,) * len(items)

    def cancel_all(
        self, *, subaccount: int | None = None, signed_ts_ms: int | None = None
    ) -> CancelAllOutcome:
        """Cancel everything on all shards, the last resort: orders of the next minute may be canceled too."""
        outcome = send_once(
            self._cancels,
            Write("DELETE", ORDERS, parameters=given(subaccount=subaccount)),
            done,
            signed_ts_ms=signed_ts_ms,
        )
        return AllCanceled() if isinstance(outcome, Done) else outcome

    def warm(self) -> bool:
        """Make all connections beforehand. False when one cannot be made."""
        cold = [line for line in self._lines() if not line.warm()]  # none left out by the first that fails
        return not cold

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines():
            line.close()

    def _lines(self) -> set[WriteLine]:
        return {self._creates, self._cancels, self._amends}


def open_orders(rest_url: str, signer: Signer, *, link: Link | None = None) -> Orders:
    """The order endpoints for a key with scope `write::trade`."""
    link = link or Link()
    return Orders(
        creates=WriteLine(rest_url, signer, link=link),
        cancels=WriteLine(rest_url, signer, link=link),
        amends=WriteLine(rest_url, signer, timeouts=AMEND_TIMEOUTS, link=link),
    )


def _is_exit(sent: messages.NewOrder) -> bool:
    """Nothing in it goes by our clock, and it opens nothing: a way out."""
    return sent.reduce_only and sent.expiration_time is None


def _order(order_id: str) -> str:
    return f"{ORDERS}/{quote(order_id, safe='')}"


def _or_not_open(order_id: str, outcome: Outcome) -> Outcome | NotOpen:
    """A 404 with a code of the exchange: the order is filled, canceled or was never there (API.md 5: bodies are the
    same). One without a code may come from anything on the way, and proves nothing."""
    if (
        isinstance(outcome, Refused | Unknown)
        and outcome.status == HTTPStatus.NOT_FOUND
        and outcome.exchange_code
    ):
        return NotOpen(order_id)
    return outcome
