"""Fee changes that are scheduled: kept in the journal, applied at their time, told to the streams (API.md 13).

A change of a series replaces its fee type and multiplier; a change of an event sets or clears the override that
stands over its series' fees. Worlds list their definitions anew after a restart: what had been applied before is laid
over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

import msgspec

from trading.domain.fees import FeeType
from trading.paper.catalog import Catalog
from trading.paper.definitions import Definition, Payload
from trading.paper.events import Lifecycle
from trading.paper.lifecycle import Lives
from trading.paper.listing import Listing
from trading.paper.records import FeeChange
from trading.paper.steps import Steps
from trading.paper.wire import json_number, to_ms


class FeeChanges:
    """Schedules and applies fee changes. Call within a step."""

    def __init__(self, catalog: Catalog, steps: Steps, lives: Lives) -> None:
        self._catalog = catalog
        self._steps = steps
        self._ledger = steps.ledger
        self._lives = lives

    def of_series(self, ticker: str, fee_type: str, multiplier: Decimal, at: datetime) -> FeeChange:
        """Schedule a series' new fees. Raises KeyError for an unknown series, ValueError for fees that cannot be."""
        self._catalog.series[ticker]
        return self._schedule(FeeChange(str(uuid4()), ticker, "", fee_type, multiplier, to_ms(at)))

    def of_event(
        self, ticker: str, fee_type: str | None, multiplier: Decimal | None, at: datetime
    ) -> FeeChange:
        """Schedule an event's override; None for both clears it. Raises KeyError, ValueError."""
        series = str(self._catalog.events[ticker]["series_ticker"])
        return self._schedule(FeeChange(str(uuid4()), series, ticker, fee_type, multiplier, to_ms(at)))

    def pass_time(self, now: datetime) -> None:
        """Apply what is due."""
        now_ms = to_ms(now)
        due = [c for c in self._ledger.fee_changes.values() if not c.applied and c.scheduled_ms <= now_ms]
        for change in sorted(due, key=lambda change: change.scheduled_ms):
            self._apply(change)

    def over_series(self, definition: Definition) -> Definition:
        """A series' definition with the last change that was applied to it."""
        change = self._last(str(definition.get("ticker")), "")
        return definition if change is None else {**definition, **_series_fees(change)}

    def over_event(self, definition: Definition) -> Definition:
        """An event's definition with the last override that was applied to it."""
        change = self._last(str(definition.get("series_ticker")), str(definition.get("event_ticker")))
        return definition if change is None else {**definition, **_event_fees(change)}

    def _schedule(self, change: FeeChange) -> FeeChange:
        kinds = {change.fee_type} - ({None} if change.event_ticker else set())
        if not kinds <= set(FeeType) or (change.multiplier or 0) < 0:
            raise ValueError(f"no fees: {change.fee_type!r} times {change.multiplier!r}")
        self._steps.book(change)
        return change

    def _last(self, series: str, event: str) -> FeeChange | None:
        applied = [
            change
            for change in self._ledger.fee_changes.values()
            if change.applied and (change.series_ticker, change.event_ticker) == (series, event)
        ]
        return max(applied, key=lambda change: change.scheduled_ms, default=None)

    def _apply(self, change: FeeChange) -> None:
        self._steps.book(msgspec.structs.replace(change, applied=True))
        if change.event_ticker:
            self._override(change)
        elif change.series_ticker in self._catalog.series:
            self._catalog.add_series(
                {**self._catalog.series[change.series_ticker], **_series_fees(change)},
                self._steps.current.at_ms,
            )
            self._redefine(self._catalog.of_series(change.series_ticker))

    def _override(self, change: FeeChange) -> None:
        if change.event_ticker in self._catalog.events:
            self._catalog.add_event(
                {**self._catalog.events[change.event_ticker], **_event_fees(change)},
                self._steps.current.at_ms,
            )
            self._redefine(iter(self._catalog.markets_of(change.event_ticker)))
        body = {"event_ticker": change.event_ticker, **_event_fees(change)}
        self._steps.tell(Lifecycle("event_fee_update", body))

    def _redefine(self, listings: Iterator[Listing]) -> None:
        """Let markets take their parents' new fees; resting orders that can no longer be funded are canceled."""
        for listing in list(listings):
            listing.event = self._catalog.events[listing.event_ticker]
            listing.series = self._catalog.series[listing.series_ticker]
            listing.define(listing.definition)
            self._lives.changed(listing)
            self._lives.enforce_margin(listing)


def _series_fees(change: FeeChange) -> Payload:
    return {"fee_type": change.fee_type, "fee_multiplier": json_number(change.multiplier)}


def _event_fees(change: FeeChange) -> Payload:
    return {
        "fee_type_override": change.fee_type,
        "fee_multiplier_override": json_number(change.multiplier),
    }
