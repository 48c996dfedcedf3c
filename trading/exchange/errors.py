"""What can go wrong between us and the exchange, and what each of it proves.

    ExchangeError
    ├── KeyFileRefused       E952  the private key file is missing, unreadable, open to others or not a usable key
    ├── Unreachable          E601  no byte of the request left this process
    ├── NoAnswer             E601  the request may have arrived; no complete answer came back in time
    ├── UnreadableAnswer     E606  an answer that is not as agreed: wrong type, missing money field, unknown word
    │   └── IncompleteList   E606  a list whose pages do not come to an end
    └── ExchangeRefusal      E603  a readable error answer, with the exchange's own code
        ├── AccessDenied     E604  401, 403
        ├── UnknownThere     E608  404
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


class Unreachable(ExchangeError):
    """No byte of the request left this process: it cannot have had any effect."""

    code = "E601"


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


class UnknownThere(ExchangeRefusal):
    """The exchange does not know the market, event or order."""

    code = "E608"


class RateLimited(ExchangeRefusal):
    """The token bucket is empty (API.md 7). There is no Retry-After; wait with growing pauses."""

    code = "E602"


class Unavailable(ExchangeRefusal):
    """The exchange failed by itself; a read may be repeated."""

    code = "E601"


_BY_STATUS: Final[Mapping[int, type[ExchangeRefusal]]] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: AccessDenied,
        HTTPStatus.FORBIDDEN: AccessDenied,
        HTTPStatus.NOT_FOUND: UnknownThere,
        HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
    }
)

# Code prefixes (some codes carry dynamic suffixes, API.md 5) and the statuses with which they prove that the order
# was never accepted (RELIABILITY.md 3.1, step 4). What is not here is unknown: above all 409 order_already_exists,
# which says that an order with our id does exist, and 429, until it is proven on the demo system.
PROVEN_REFUSALS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        "bad_request": frozenset({400}),
        "invalid_content_type": frozenset({400, 415}),
        "invalid_order": frozenset({400}),  # also invalid_order_size; post-only that would cross
        "invalid_price": frozenset({400}),
        "insufficient_balance": frozenset({400}),
        "available_balance_too_low": frozenset({400}),
        "market_inactive": frozenset({400, 409}),
        "market_not_active": frozenset({400, 409}),
        "market_already_closed": frozenset({400, 409}),
        "trading_is_paused": frozenset({400, 409}),
        "fill_or_kill_insufficient_resting_volume": frozenset({409}),
        "header_timestamp_expired": frozenset({401}),
        "authentication_error": frozenset({401}),
        "signature_is_missing_from_headers": frozenset({401}),
        # On a create the only thing looked up is the market: an order in a market that does not exist cannot stand.
        "not_found": frozenset({404}),
        "market_not_found": frozenset({404}),
        "deprecated_v1_order_endpoint": frozenset({410}),
    }
)


def proves_refusal(answer: ErrorAnswer) -> bool:
    """True when this error answer proves that the order was not accepted; otherwise its outcome is unknown."""
    code = answer.exchange_code.lower()
    return bool(code) and any(
        code.startswith(prefix) and answer.status in statuses for prefix, statuses in PROVEN_REFUSALS.items()
    )


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
    return _BY_STATUS.get(answer.status, ExchangeRefusal)(answer)


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""
