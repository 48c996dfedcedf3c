"""What a write proves (RELIABILITY.md 3.1, step 4). Every write ends in exactly one of these, and none raises.

submit       Accepted, Refused, NotSent, Unknown
amend        Amended, NotOpen, Refused, NotSent, Unknown
decrease     Decreased, NotOpen, Refused, NotSent, Unknown
cancel       Canceled, NotOpen, Refused, NotSent, Unknown
cancel all   AllCanceled, Refused, NotSent, Unknown
batches      one of the above for each item, in the order in which they were sent
groups       GroupCreated or Done, Refused, NotSent, Unknown
cash, keys   their own success or Done, Refused, NotSent, Unknown
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
class Amended:
    """The order has its new terms. `filled_quantity` is what the amend itself filled by crossing.

    Both quantities are None where the exchange left them out, which it does when the amend filled nothing and changed
    no size (openapi.yaml): then the order rests with what it had.
    """

    order_id: str
    client_order_id: str
    filled_quantity: Decimal | None
    remaining_quantity: Decimal | None
    average_fill_price: Decimal | None
    average_fee: Decimal | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Decreased:
    """The order rests with `remaining_quantity` contracts."""

    order_id: str
    remaining_quantity: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Canceled:
    """The rest of the order is off the book; `reduced_by` contracts were. A batch may leave the time out."""

    order_id: str
    reduced_by: Decimal
    at: datetime | None


@dataclass(frozen=True, slots=True)
class AllCanceled:
    """Everything is canceled. Orders placed within the next minute may be canceled too (API.md 11)."""


@dataclass(frozen=True, slots=True)
class NotOpen:
    """There is no such open order: it is filled, canceled or unknown there. Ask before believing either."""

    order_id: str


@dataclass(frozen=True, slots=True)
class GroupCreated:
    """The order group exists, on the shard `exchange_index`, for the subaccount."""

    order_group_id: str
    subaccount: int
    exchange_index: int


@dataclass(frozen=True, slots=True)
class Done:
    """The exchange did what was asked; its answer says nothing more."""


@dataclass(frozen=True, slots=True)
class SubaccountCreated:
    """The new subaccount's number, 1 to 63."""

    number: int


@dataclass(frozen=True, slots=True)
class TransferTaken:
    """The exchange took the transfer between shards on; it carries it out later (API.md 12). Ask by its id."""

    transfer_id: str


@dataclass(frozen=True, slots=True)
class KeyCreated:
    """A new API key. `private_key` (PEM) comes once and only from a generated pair; it is not shown in a repr."""

    key_id: str
    private_key: str = field(default="", repr=False)


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


Unaccomplished = Refused | NotSent | Unknown
SubmitOutcome = Accepted | Unaccomplished
AmendOutcome = Amended | NotOpen | Unaccomplished
DecreaseOutcome = Decreased | NotOpen | Unaccomplished
CancelOutcome = Canceled | NotOpen | Unaccomplished
CancelAllOutcome = AllCanceled | Unaccomplished
GroupOutcome = GroupCreated | Unaccomplished
DoneOutcome = Done | Unaccomplished
SubaccountOutcome = SubaccountCreated | Unaccomplished
TransferOutcome = TransferTaken | Unaccomplished
KeyOutcome = KeyCreated | Unaccomplished
