"""The fee history as rows: what the exchange announces, and what it is seen to charge."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.utils import timezone

from trading.domain.fee_history import FeeStep, step_at
from trading.domain.fees import FeeType
from trading.exchange.errors import ExchangeError
from trading.exchange.gateway import MarketDataGateway
from trading.exchange.reports import EventDefinition, SeriesDefinition
from trading.exchange.reports import FeeChange as Told
from trading.models import FeeChange, Market
from trading.models.fee_change import FeeBook

log = logging.getLogger(__name__)

# Reads lag (API.md 8): what held before an announced step may still be told for a while after it.
LAG: Final = timedelta(minutes=2)
SCOPE: Final = FeeChange.Scope


@dataclass(slots=True)
class FeeWatch:
    """One look asks for the announced changes; `apply` puts those whose time has come into the markets' rows."""

    exchange: MarketDataGateway
    _applied_until: datetime = field(default_factory=timezone.now)

    def apply(self) -> None:
        """Put into force what has begun since the last call."""
        now = timezone.now()
        put_into_force(self._applied_until, now)
        self._applied_until = now

    def look(self) -> None:
        """Ask and write. What cannot be read stays as it was."""
        try:
            told = [
                *self.exchange.series_fee_changes(with_past=True),
                *self.exchange.event_fee_changes(),
            ]
        except ExchangeError as error:
            log.warning("fees.changes.unread", extra={"error": repr(error)})
            return
        write_announced(told)


@transaction.atomic
def write_announced(told: Iterable[Told]) -> None:
    """Keep every announced step; forget those that were taken back before their time."""
    now = timezone.now()
    announced_now = [
        FeeChange(
            scope=SCOPE.EVENT if each.event_ticker else SCOPE.SERIES,
            ticker=each.event_ticker or each.series_ticker,
            at=each.at,
            fee_type=each.fee_type or "",
            multiplier="" if each.multiplier is None else f"{each.multiplier}",
            source=FeeChange.Source.ANNOUNCED,
            seen_at=now,
        )
        for each in told
    ]
    # Of two for the same moment the later one counts; PostgreSQL refuses a row that comes twice in one statement.
    rows = {(row.scope, row.ticker, row.at): row for row in announced_now}
    FeeChange.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["scope", "ticker", "at"],
        update_fields=["fee_type", "multiplier", "source"],
    )
    announced = FeeChange.objects.filter(at__gt=now, source=FeeChange.Source.ANNOUNCED)
    for row in announced:
        if (row.scope, row.ticker, row.at) not in rows:
            log.info("fees.change.withdrawn", extra={"change": str(row)})
            row.delete()


def observe(series: Iterable[SeriesDefinition], events: Iterable[EventDefinition], now: datetime) -> None:
    """Note fees that hold and were not announced. Call inside the transaction that writes their rows."""
    seen = [
        *(
            (SCOPE.SERIES, each.ticker, FeeStep(now, each.fees.fee_type, each.fees.multiplier))
            for each in series
        ),
        *(
            (SCOPE.EVENT, each.ticker, FeeStep(now, each.fee_type_override, each.fee_multiplier_override))
            for each in events
        ),
    ]
    book = FeeBook.of(
        (ticker for scope, ticker, _ in seen if scope == SCOPE.SERIES),
        (ticker for scope, ticker, _ in seen if scope == SCOPE.EVENT),
    )
    rows = [
        _observed(scope, ticker, step)
        for scope, ticker, step in seen
        if _is_news(book.steps.get((scope, ticker), []), step, is_event=scope == SCOPE.EVENT)
    ]
    FeeChange.objects.bulk_create(rows, ignore_conflicts=True)


def _is_news(steps: list[FeeStep], seen: FeeStep, *, is_event: bool) -> bool:
    held = step_at(steps, seen.at)
    if held is None:
        # An event without an override needs no step: its series' fees hold.
        return not is_event or _fees(seen) != (None, None)
    if _fees(held) == _fees(seen):
        return False
    before = step_at([step for step in steps if step.at < held.at], seen.at)
    # Before its first step an event overrides nothing; of a series nothing is known.
    held_before = _fees(before) if before is not None else (None, None) if is_event else None
    return not (held_before == _fees(seen) and seen.at - held.at < LAG)


def _fees(step: FeeStep) -> tuple[FeeType | None, Decimal | None]:
    return step.fee_type, step.multiplier


def _observed(scope: str, ticker: str, step: FeeStep) -> FeeChange:
    return FeeChange(
        scope=scope,
        ticker=ticker,
        at=step.at,
        fee_type=step.fee_type or "",
        multiplier="" if step.multiplier is None else f"{step.multiplier}",
        source=FeeChange.Source.OBSERVED,
        seen_at=step.at,
    )


def put_into_force(since: datetime, now: datetime) -> int:
    """Write into the markets' rows the fees of steps that began in (since, now]; returns how many rows changed.

    The rules do not wait for this: they ask the history itself. It keeps pages and lists true.
    """
    begun = list(FeeChange.objects.filter(at__gt=since, at__lte=now))
    series = {row.ticker for row in begun if row.scope == SCOPE.SERIES}
    events = {row.ticker for row in begun if row.scope == SCOPE.EVENT}
    if not begun:
        return 0
    rows = list(
        Market.objects.filter(series_ticker__in=series) | Market.objects.filter(event_ticker__in=events)
    )
    book = FeeBook.of_markets(rows)
    for row in rows:
        fees = book.of_market(row, now)
        row.fee_type, row.fee_multiplier = fees.fee_type, f"{fees.multiplier}"
    Market.objects.bulk_update(rows, ["fee_type", "fee_multiplier"], batch_size=200)
    return len(rows)
