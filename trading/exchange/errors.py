"""What can go wrong between us and the exchange, and what each of it proves.

    ExchangeError
    ├── KeyFileRefused       E952  the private key file is missing, unreadable, open to others or not a usable key
    ├── AuthorityRefused     E952  the file of further certificate authorities cannot be used
    ├── Unsent                     no byte of the request left this process
    │   ├── Unreachable      E601  the connection could not be made, or it was too late to send
    │   │   └── Untrusted    E612  who answered did not prove to be the exchange
    │   ├── OverBudget       E602  our own account's budget of requests is used up for now
    │   ├── SwitchedOff      E605  it has failed in a row, and is left alone until a probe succeeds
    │   └── ClockOff         E611  our clock is too far from the exchange's to sign an order with
    ├── NoAnswer             E601  the request may have arrived; no complete answer came back in time
    ├── UnreadableAnswer     E606  an answer that is not as agreed: wrong type, missing money field, unknown word
    │   └── IncompleteList   E606  a list whose pages do not come to an end
    └── ExchangeRefusal      E603  a readable error answer, with the exchange's own code
        ├── AccessDenied     E604  401, 403
        │   └── TimestampExpired   the signature's time was too far from the exchange's: a clock fault
        ├── UnknownThere     E608  404
        ├── Retired          E606  410, an endpoint that is switched off for good
        ├── RateLimited      E602  429
        └── Unavailable      E601  500, 502, 503, 504

Reads raise these. Order writes never do: their outcome is a value (`outcomes.SubmitOutcome`), because what matters
there is only what is proven. `proves_refusal` knows the codes that prove an order was not accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

import msgspec


class ExchangeError(Exception):
    """Anything that keeps us from an answer. `code` is ours (UX.md 4.2)."""

    code = "E601"


class KeyFileRefused(ExchangeError):
    """The private key file cannot be used; the message names the file and the remedy, never its content."""

    code = "E952"


class AuthorityRefused(ExchangeError):
    """The file of further certificate authorities (KALSHI_CA_FILE) cannot be used."""

    code = "E952"


class Unsent(ExchangeError):
    """No byte of the request left this process: it cannot have had any effect."""


class TooLate(Unsent):
    """The signed time was too old by our own clock when the request was to go out: no fault of the exchange."""

    code = "E601"


class Unreachable(Unsent):
    """There is no connection."""

    code = "E601"


class Untrusted(Unreachable):
    """The TLS handshake failed: whoever answers there did not prove to be the exchange, and was told nothing."""

    code = "E612"


class OverBudget(Unsent):
    """The account's own budget of requests (API.md 7) allows no further one within the caller's patience."""

    code = "E602"


class SwitchedOff(Unsent):
    """The breaker of these requests is open."""

    code = "E605"


class ClockOff(Unsent):
    """Our clock is too far from the exchange's: what we sign could be refused, and expiries would be wrong."""

    code = "E611"


class NoAnswer(ExchangeError):
    """Bytes were written and no complete answer was read: the exchange may have acted on the request."""

    code = "E601"


class UnreadableAnswer(ExchangeError):
    """The answer breaks the agreed contract; nothing of it may be used."""

    code = "E606"


class IncompleteList(UnreadableAnswer):
    """A list of pages that repeats a cursor or does not end: a part must not pass for the whole."""

    code = "E606"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error answer in one form. `exchange_code` is empty where the exchange gave none."""

    status: int
    exchange_code: str = ""
    message: str = ""
    details: str = ""

    def __str__(self) -> str:
        words = [self.exchange_code, self.message, self.details]
        return f"HTTP {self.status}: {' - '.join(word for word in words if word) or 'no reason given'}"


class ExchangeRefusal(ExchangeError):
    """The exchange answered with an error that we could read; `answer` has its status, code and words."""

    code = "E603"

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(str(answer))
        self.answer = answer


class AccessDenied(ExchangeRefusal):
    """The key is unknown, its signature or timestamp is wrong, or it lacks the scope."""

    code = "E604"


class TimestampExpired(AccessDenied):
    """`header_timestamp_expired`: measure the clock again and sign anew (API.md 3)."""


class Retired(ExchangeRefusal):
    """The endpoint is gone for good (410): the contract has changed under us."""

    code = "E606"


class UnknownThere(ExchangeRefusal):
    """The exchange does not know the market, event or order."""

    code = "E608"


class RateLimited(ExchangeRefusal):
    """The token bucket is empty (API.md 7). There is no Retry-After; wait with growing pauses."""

    code = "E602"


class Unavailable(ExchangeRefusal):
    """The exchange failed by itself; a read may be repeated."""

    code = "E601"


TIMESTAMP_EXPIRED: Final = "header_timestamp_expired"

_BY_STATUS: Final[Mapping[int, type[ExchangeRefusal]]] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: AccessDenied,
        HTTPStatus.FORBIDDEN: AccessDenied,
        HTTPStatus.NOT_FOUND: UnknownThere,
        HTTPStatus.GONE: Retired,
        HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
    }
)

_BUSINESS: Final = frozenset({400, 409})

# Code prefixes (some codes carry dynamic suffixes, API.md 5) and the statuses with which they prove that the write
# was never accepted (RELIABILITY.md 3.1, step 4). What is not here is unknown: above all 409 order_already_exists,
# which says that an order with our id does exist, and 429, until it is proven on the demo system. The lower half are
# the engine's reasons as FIX names them; over REST they were not seen, and if they come they say the same.
PROVEN_REFUSALS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        "bad_request": frozenset({400}),
        "invalid_content_type": frozenset({400, 415}),
        "invalid_order": frozenset({400}),  # also invalid_order_size; post-only that would cross
        "invalid_price": frozenset({400}),
        "insufficient_balance": frozenset({400}),
        "available_balance_too_low": frozenset({400}),
        "order_id_and_client_order_id_mismatch": frozenset({400}),
        "order_side_mismatch": frozenset({400}),
        "order_ticker_mismatch": frozenset({400}),
        "market_inactive": _BUSINESS,
        "market_not_active": _BUSINESS,
        "market_already_closed": _BUSINESS,
        "trading_is_paused": _BUSINESS,
        "fill_or_kill_insufficient_resting_volume": frozenset({409}),
        "header_timestamp_expired": frozenset({401}),
        "authentication_error": frozenset({401, 403}),
        "signature_is_missing_from_headers": frozenset({401}),
        # On a create the only thing looked up is the market: an order in a market that does not exist cannot stand.
        "not_found": frozenset({404}),
        "market_not_found": frozenset({400, 404}),
        "deprecated_v1_order_endpoint": frozenset({410}),
        "exchange_paused": _BUSINESS,
        "exchange_is_paused": _BUSINESS,
        "trading_paused": _BUSINESS,
        "self_cross_attempt": _BUSINESS,
        "exceeded_order_group_risk_limit": _BUSINESS,
        "order_group_not_found": frozenset({400, 404}),
        "exceeded_per_market_risk_limit": _BUSINESS,
        "exceeded_sell_position_floor": _BUSINESS,
        "invalid_amend_qty_for_order": _BUSINESS,
        "cannot_update_filled_order": _BUSINESS,
        "fok_insufficient_volume": _BUSINESS,
        "post_only_cross": _BUSINESS,
    }
)


def proves_refusal(answer: ErrorAnswer) -> bool:
    """True when this error answer proves that the order was not accepted; otherwise its outcome is unknown."""
    code = answer.exchange_code.lower()
    return bool(code) and any(
        code.startswith(prefix) and answer.status in statuses for prefix, statuses in PROVEN_REFUSALS.items()
    )


def item_proves_refusal(answer: ErrorAnswer) -> bool:
    """The same for one item of a batch, whose error has a code but no status of its own."""
    code = answer.exchange_code.lower()
    return bool(code) and code.startswith(tuple(PROVEN_REFUSALS))


def read_error(status: int, body: bytes) -> ErrorAnswer:
    """Put any of the four error shapes (API.md 5) into one form; a body of another shape gives no code.

    Nested `{"error": {...}}`, flat `{"code": ...}`, bare `{"msg": ...}`, and a plain string under `error`.
    """
    try:
        payload: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ErrorAnswer(status, message="the answer is not JSON")
    if not isinstance(payload, dict):
        return ErrorAnswer(status, message="the answer is not an object")
    inner = payload.get("error", payload)
    if isinstance(inner, str):
        return ErrorAnswer(status, message=inner)
    if not isinstance(inner, dict):
        return ErrorAnswer(status)
    message = _word(inner, "message") or _word(inner, "msg")
    return ErrorAnswer(status, _word(inner, "code"), message, _word(inner, "details"))


def refusal(answer: ErrorAnswer) -> ExchangeRefusal:
    """The exception that stands for an error answer."""
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(answer)
    if answer.exchange_code == TIMESTAMP_EXPIRED:
        return TimestampExpired(answer)
    return _BY_STATUS.get(answer.status, ExchangeRefusal)(answer)


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""
