"""What an order write proves (RELIABILITY.md 3.1, step 4). Every write ends in exactly one of these, and none raises.

submit       Accepted, Refused, NotSent, Unknown
cancel       Canceled, NotOpen, Refused, NotSent, Unknown
cancel all   AllCanceled, Refused, NotSent, Unknown
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Accepted:
    """The exchange has the order: its id, our id echoed, and counts that fit what was sent."""

    order_id: str
    client_order_id: str
    filled_quantity: Decimal
    remaining_quantity: Decimal
    average_fill_price: Decimal | None
    average_fee: Decimal | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Canceled:
    """The rest of the order is off the book; `reduced_by` contracts were."""

    order_id: str
    reduced_by: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class AllCanceled:
    """Everything is canceled. Orders placed within the next minute may be canceled too (API.md 11)."""


@dataclass(frozen=True, slots=True)
class NotOpen:
    """There is no such open order: it is filled, canceled or unknown there. Ask before believing either."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Proven: the exchange did not do it. `exchange_code` and `message` are its own words."""

    status: int
    exchange_code: str
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proven: no byte of the request left this process."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is proven. Ask the exchange; never send again (E610)."""

    reason: str
    status: int | None = None
    exchange_code: str = ""


SubmitOutcome = Accepted | Refused | NotSent | Unknown
CancelOutcome = Canceled | NotOpen | Refused | NotSent | Unknown
CancelAllOutcome = AllCanceled | Refused | NotSent | Unknown
