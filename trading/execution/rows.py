"""Row by row: every order and fill that the exchange lists since our account was opened, against our own rows.

The comparison of each cycle proves sums (positions, cash); this one names the row that one side lacks. It reads
everything, the archived records included, so it is for a person's question and for tests, not for a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from django.utils import timezone

from trading.domain.orders import OPEN, OrderState
from trading.exchange.reports import FillReport, OrderReport
from trading.execution import adoption
from trading.execution.comparison import Reconciled
from trading.execution.records import Records
from trading.models import Fill, Order

MISSING: Final = "–"
LAG: Final = timedelta(seconds=30)  # an order of ours that is younger may not be listed yet

RowArea = Literal["orders", "fills"]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One field of one record. `key` is the exchange's id; a record that one side lacks has `field` = "record"."""

    area: RowArea
    key: str
    field: str
    theirs: str
    ours: str


@dataclass(slots=True)
class RowComparison:
    """How many records of each area were compared, and every field that differs."""

    compared: dict[RowArea, int] = field(default_factory=lambda: {"orders": 0, "fills": 0})
    differences: list[RowDifference] = field(default_factory=list)

    @property
    def matched(self) -> float:
        """The share of records without any difference, in percent."""
        whole = sum(self.compared.values())
        bad = len({(each.area, each.key) for each in self.differences})
        return 100.0 if not whole else round(100 * (whole - bad) / whole, 2)

    def as_json(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "matched_percent": self.matched,
            "differences": [asdict(each) for each in self.differences],
        }


def compare_rows(venue: str, records: Records, opened_at: datetime, found: Reconciled) -> RowComparison:
    """Compare every row. Orders that only the exchange knows get theirs first, as placed elsewhere.

    Raises ExchangeError when a list does not come whole: a part of it proves nothing.
    """
    rows = RowComparison()
    told = [order for order in records.orders(since=opened_at) if _is_later(order, opened_at)]
    _adopt_unknown(venue, told, found)
    _orders(venue, told, opened_at, rows)
    fills = [
        f for f in records.fills(since=opened_at) if f.is_primary and (f.at is None or f.at >= opened_at)
    ]
    _fills(venue, fills, rows)
    return rows


def _is_later(order: OrderReport, opened_at: datetime) -> bool:
    return order.created_at is None or order.created_at >= opened_at


def _adopt_unknown(venue: str, told: Iterable[OrderReport], found: Reconciled) -> None:
    known = set(Order.objects.filter(venue=venue).values_list("venue_order_id", flat=True))
    for report in told:
        if report.order_id not in known:
            with found.apart(f"order {report.order_id}"):
                found.adopted += adoption.adopt(venue, report) is not None


def _orders(venue: str, told: list[OrderReport], opened_at: datetime, rows: RowComparison) -> None:
    ours = {o.venue_order_id: o for o in Order.objects.filter(venue=venue).exclude(venue_order_id=None)}
    rows.compared["orders"] = len(told)
    for report in told:
        row = ours.pop(report.order_id, None)
        mine = None if row is None else _facts_of_row(row, first_count=report.initial_quantity)
        _compare(rows, "orders", report.order_id, _facts_of_report(report), mine)
    latest = timezone.now() - LAG
    for order_id, row in ours.items():
        if order_id is not None and opened_at <= (row.signed_at or row.created_at) <= latest:
            rows.compared["orders"] += 1
            _compare(rows, "orders", order_id, None, _facts_of_row(row))


def _fills(venue: str, told: list[FillReport], rows: RowComparison) -> None:
    ours = {(f.trade_id, f.venue_order_id): f for f in Fill.objects.filter(venue=venue)}
    rows.compared["fills"] = len(told)
    for report in told:
        row = ours.pop((report.trade_id, report.order_id), None)
        mine = None if row is None else _facts_of_fill(row)
        _compare(rows, "fills", f"{report.trade_id}:{report.order_id}", _facts_of_fill_report(report), mine)
    for (trade_id, order_id), row in ours.items():
        rows.compared["fills"] += 1
        _compare(rows, "fills", f"{trade_id}:{order_id}", None, _facts_of_fill(row))


def _compare(
    rows: RowComparison,
    area: RowArea,
    key: str,
    theirs: Mapping[str, object] | None,
    ours: Mapping[str, object] | None,
) -> None:
    if theirs is None or ours is None:
        sides = (_present(theirs), _present(ours))
        rows.differences.append(RowDifference(area, key, "record", *sides))
        return
    for name, value in theirs.items():
        if value != ours[name]:
            rows.differences.append(RowDifference(area, key, name, str(value), str(ours[name])))


def _present(facts: Mapping[str, object] | None) -> str:
    return MISSING if facts is None else "present"


def _is_working(state: str) -> bool:
    return OrderState(state) in OPEN


def _facts_of_report(report: OrderReport) -> dict[str, object]:
    return {
        "ticker": report.ticker,
        "side": report.book_side.value,
        "price": report.price,
        "quantity": report.initial_quantity,
        "filled": report.filled_quantity,
        "remaining": report.remaining_quantity,
        "works": _is_working(report.state.value),
    }


def _facts_of_row(row: Order, *, first_count: Decimal | None = None) -> dict[str, object]:
    """`first_count` is the exchange's: a decrease of ours leaves it, each renewal after one names the total of then."""
    is_explained = first_count is not None and row.standing_quantity <= first_count <= row.quantity
    return {
        "ticker": row.ticker,
        "side": row.terms.book_side.value,
        "price": row.terms.yes_price,
        "quantity": first_count if is_explained else row.quantity,
        "filled": row.filled_quantity,
        "remaining": row.remaining_quantity,
        "works": _is_working(row.state),
    }


def _facts_of_fill_report(report: FillReport) -> dict[str, object]:
    return {
        "ticker": report.ticker,
        "side": report.book_side.value,
        "price": report.price,
        "quantity": report.quantity,
        "fee": report.fee,
    }


def _facts_of_fill(row: Fill) -> dict[str, object]:
    return {
        "ticker": row.ticker,
        "side": row.book_side,
        "price": row.yes_price,
        "quantity": row.quantity,
        "fee": row.fee,
    }
