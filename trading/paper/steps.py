"""One step of the exchange: what it changes is booked at once, journaled as one line and told to the streams
in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trading.paper.events import Event, OrderChanged, PositionChanged
from trading.paper.journal import Journal
from trading.paper.ledger import Ledger
from trading.paper.records import FillRecord, OrderRecord, Record, SettlementRecord
from trading.paper.views import position_message

Publish = Callable[[int, list[Event]], None]


@dataclass(slots=True)
class Step:
    """The records and events gathered so far."""

    at_ms: int
    records: list[Record] = field(default_factory=list)
    orders: dict[str, OrderRecord] = field(default_factory=dict)  # only the last state of each goes out
    positions: dict[tuple[str, int, int, str], None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class Steps:
    """Makes steps. Nested calls join the outer step."""

    def __init__(
        self, ledger: Ledger, journal: Journal, clock_ms: Callable[[], int], publish: Publish
    ) -> None:
        self.ledger = ledger
        self._journal = journal
        self._clock_ms = clock_ms
        self._publish = publish
        self._current: Step | None = None
        self.witness: Callable[[int, list[Record]], None] | None = None  # hears what is journaled

    @property
    def current(self) -> Step:
        """The step in progress. Raises RuntimeError outside of one."""
        if self._current is None:
            raise RuntimeError("accounts and books change within a step only")
        return self._current

    def step(self) -> Running:
        """Run a step. It is committed even when the caller fails half-way: memory has changed, so the journal
        must know."""
        return Running(self)

    def begin(self) -> Step | None:
        """A new step, or None within one. For `Running`."""
        if self._current is not None:
            return None
        self._current = Step(self._clock_ms())
        return self._current

    def end(self, step: Step) -> None:
        """Commit it. For `Running`."""
        self._current = None
        self._commit(step)

    def book(self, record: Record) -> None:
        """Apply a record and have it journaled with the step."""
        step = self.current
        self.ledger.apply(record)
        if isinstance(record, OrderRecord):
            step.orders[record.order_id] = record
            return
        step.records.append(record)
        if isinstance(record, FillRecord | SettlementRecord):
            key = (record.account_id, record.subaccount, record.exchange_index, record.ticker)
            step.positions[key] = None

    def tell(self, event: Event) -> None:
        self.current.events.append(event)

    def _commit(self, step: Step) -> None:
        records = [*step.records, *step.orders.values()]
        events = [*step.events, *(OrderChanged(order) for order in step.orders.values())]
        events += [self._position(*key) for key in step.positions]
        sequence = self._journal.append(step.at_ms, records) if records else self._journal.sequence
        if records and self.witness is not None:
            self.witness(step.at_ms, records)
        if events:
            self._publish(sequence, events)

    def _position(self, account_id: str, subaccount: int, shard: int, ticker: str) -> Event:
        account = self.ledger.accounts[account_id]
        position = account.purse(subaccount, shard).positions.get(ticker)
        if position is None:
            settled = (p for p in reversed(account.settled_positions) if p.subaccount == subaccount)
            position = next(p for p in settled if p.ticker == ticker)
        return PositionChanged(account_id, ticker, position_message(position), subaccount)


class Running:
    """The context of a step. A class, because each order makes one and a generator costs several times as much."""

    __slots__ = ("_began", "_steps")

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._began: Step | None = None

    def __enter__(self) -> Step:
        self._began = self._steps.begin()
        return self._began or self._steps.current

    def __exit__(self, *_: object) -> None:
        if self._began is not None:
            self._steps.end(self._began)
