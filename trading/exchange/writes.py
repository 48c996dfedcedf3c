"""One write, sent once, and what it proves: the part that all writes share (RELIABILITY.md 3.1, step 4)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec

from trading.exchange import drift
from trading.exchange.errors import ExchangeError, UnreadableAnswer, Unsent, proves_refusal, read_error
from trading.exchange.findings import departure_in_money
from trading.exchange.messages import Payload
from trading.exchange.outcomes import Done, NotSent, Refused, Unknown
from trading.exchange.transport import Answer, Parameters, WriteLine, counted
from trading.exchange.venue_clock import VenueClock

EMPTY_BODY: Final = b"{}"
_SUCCESS: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT})

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Write:
    """A request that changes something. `items` and `exchange_index` say what it is billed for (API.md 7).

    `adds_risk`: the breaker of order writes counts it, not that of the ways out. `needs_clock`: it is not signed while
    our clock is off, for deadlines and expiries of ours would be wrong.
    """

    method: str
    resource: str
    body: bytes | None = None
    parameters: Parameters | None = None
    items: int = 1
    exchange_index: int | None = None
    adds_risk: bool = False
    needs_clock: bool = False


class _Stamped(Payload):
    ts_ms: int | None = None


def send_once(
    line: WriteLine,
    write: Write,
    read: Callable[[Answer], Outcome],
    *,
    signed_ts_ms: int | None = None,
    send_before: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Outcome | Refused | NotSent | Unknown:
    """Send one write once. Never raises for what the exchange or the network does.

    `read` judges a success and raises UnreadableAnswer when it does not fit what was sent: such a success proves
    nothing. Without `signed_ts_ms` the request is signed with the time at which it goes out.
    """
    clock = line.link.clock
    breaker = line.link.writes if write.adds_risk else line.link.cancels
    try:
        if write.needs_clock:
            clock.require_steady()
        answer = counted(
            breaker,
            lambda: line.send(
                write.method,
                write.resource,
                signed_ts_ms=signed_ts_ms,
                body=write.body,
                parameters=write.parameters,
                send_before=send_before,
                items=write.items,
                exchange_index=write.exchange_index,
                meanwhile=meanwhile,
            ),
        )
    except Unsent as error:
        return NotSent(f"{error.code}: {error}")
    except ExchangeError as error:
        return Unknown(str(error))
    if answer.status not in _SUCCESS:
        return failed(answer)
    if reason := departure_in_money(write.method, write.resource, answer.body):
        return Unknown(f"the success is not as agreed: {reason}", answer.status)
    try:
        outcome = read(answer)
        _learn_time(clock, answer)
        return outcome
    except (msgspec.DecodeError, UnicodeDecodeError, UnreadableAnswer) as error:
        drift.unbelievable(write.method, write.resource, str(error))
        return Unknown(f"the success cannot be believed: {error}", answer.status)


def done(answer: Answer) -> Done:
    """A success that says nothing but that it is one: no body, or an object without an error in it."""
    if not answer.body.strip():
        return Done()
    told = msgspec.json.decode(answer.body, type=dict[str, Any])
    if told.get("error") or told.get("code"):
        raise UnreadableAnswer("there is an error in it")
    return Done()


def _learn_time(clock: VenueClock, answer: Answer) -> None:
    with contextlib.suppress(msgspec.DecodeError):  # no stamp in it: nothing to learn
        stamp = msgspec.json.decode(answer.body, type=_Stamped).ts_ms
        if stamp is not None:
            clock.heard_ms(stamp, sent=answer.sent, received=answer.received)


def failed(answer: Answer) -> Refused | Unknown:
    """An answer that is no success: refused when its code proves that, else unknown."""
    error = read_error(answer.status, answer.body)
    if proves_refusal(error):
        return Refused(error.status, error.exchange_code, error.message or error.details)
    return Unknown(str(error), error.status, error.exchange_code)
