"""Keeping the books: fills, settlements, cash. Each entry is booked once, whatever is delivered twice."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Sum

from kalshi_site import live
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio import risk
from portfolio.domain.pnl import Valuation, mark_price, value
from portfolio.domain.positions import Booking, apply_fill, settle
from portfolio.models import CashEntry, EquityPoint, Position, PositionEvent
from trading.domain.orders import BookSide

ZERO = Decimal(0)


def cash(venue: str) -> Decimal:
    """Cash in dollars: the sum of all entries."""
    return CashEntry.objects.filter(venue=venue).aggregate(total=Sum("amount"))["total"] or ZERO


def open_account(*, venue: str, balance: Decimal, at: datetime) -> bool:
    """Book the exchange's balance as the opening cash, once. Returns False when the account is already open."""
    _, created = CashEntry.objects.get_or_create(
        venue=venue,
        kind=CashEntry.Kind.OPENING,
        reference="opening",
        defaults={"amount": balance, "at": at},
    )
    return created


def book_fill(
    *,
    venue: str,
    ticker: str,
    event_ticker: str,
    title: str,
    book_side: BookSide,
    count: Decimal,
    yes_price: Decimal,
    fee: Decimal,
    reference: str,
    at: datetime,
) -> Position:
    """Book one execution into position and cash. Raises IntegrityError when the reference is already booked.

    Call inside the transaction that stores the fill, so that fills and books cannot differ.
    """
    position = _position(venue, ticker, event_ticker, title)
    booking = apply_fill(position.holding, book_side, count, yes_price, fee)
    return _write(
        position, booking, kind=CashEntry.Kind.FILL, reference=reference, fee=fee, at=at, state="filled"
    )


@transaction.atomic
def book_settlement(*, venue: str, ticker: str, yes_value: Decimal, at: datetime) -> Position | None:
    """Pay out what is held of a settled market, once. None when nothing is held, so also when it is already booked.

    A fill may be booked after its market's settlement; what it brought is paid then, as an entry of its own.
    """
    position = Position.objects.select_for_update().filter(venue=venue, ticker=ticker).first()
    if position is None or position.quantity == 0:
        return None
    booking = settle(position.holding, yes_value)
    reference = ticker if position.settled_at is None else f"{ticker}:v{position.version}"
    return _write(
        position,
        booking,
        kind=CashEntry.Kind.SETTLEMENT,
        reference=reference,
        fee=ZERO,
        at=at,
        state="settled",
        settled_at=at,
        settlement_value=yes_value,
    )


@transaction.atomic
def adjust_cash(*, venue: str, amount: Decimal, reference: str) -> CashEntry:
    """Book what came or went outside of trading (a deposit, a rebate), once per reference: a person answers for it."""
    entry, _ = CashEntry.objects.get_or_create(
        venue=venue, kind=CashEntry.Kind.ADJUSTMENT, reference=reference, defaults={"amount": amount}
    )
    return entry


@transaction.atomic
def take_over_position(
    *, venue: str, ticker: str, quantity: Decimal, seen: Decimal, cost: Decimal, actor: str, reference: str
) -> Position:
    """Hold what the exchange says is held, where a person answers for it. No cash moves, nothing is realized.

    Raises StaleVersion when our own number is not `seen` any more: a fill or a settlement was booked meanwhile.
    """
    position = _position(venue, ticker, ticker, "")
    if position.quantity != seen:
        raise StaleVersion(position, position.version - 1, position)
    fresh = compare_and_set(position, quantity=quantity, cost=cost)
    PositionEvent.objects.create(
        position=fresh,
        version=fresh.version,
        to_state="adjusted",
        actor=actor,
        quantity=quantity,
        cash=ZERO,
        detail={"reference": reference, "step": str(quantity - seen)},
    )
    live.changed("positions", key=fresh.ticker, version=fresh.version, kind="adjusted")
    return fresh


def _position(venue: str, ticker: str, event_ticker: str, title: str) -> Position:
    defaults = {"event_ticker": event_ticker, "title": title}
    position, _ = Position.objects.get_or_create(venue=venue, ticker=ticker, defaults=defaults)
    return Position.objects.select_for_update().get(pk=position.pk)


def _write(
    position: Position,
    booking: Booking,
    *,
    kind: CashEntry.Kind,
    reference: str,
    fee: Decimal,
    at: datetime,
    state: str,
    **extra: Any,
) -> Position:
    before, after = position.holding, booking.holding
    CashEntry.objects.create(
        venue=position.venue,
        kind=kind,
        amount=booking.cash,
        fee=fee,
        realized=after.realized - before.realized,
        ticker=position.ticker,
        reference=reference,
        at=at,
    )
    fresh = compare_and_set(
        position,
        quantity=after.quantity,
        cost=after.cost,
        realized=after.realized,
        fees=after.fees,
        **extra,
    )
    PositionEvent.objects.create(
        position=fresh,
        version=fresh.version,
        to_state=state,
        actor="exchange",
        quantity=after.quantity,
        cash=booking.cash,
        at=at,
        detail={"reference": reference},
    )
    live.changed("positions", key=fresh.ticker, version=fresh.version, kind=state)
    return fresh


def valuation(venue: str) -> Valuation:
    """The portfolio at present marks. A held market without a bid makes unrealized and equity unknown."""
    positions = list(Position.objects.filter(venue=venue))
    facts = risk.market_facts([p.ticker for p in positions if p.quantity])
    books = {ticker: found.book for ticker, found in facts.items()}
    return value(cash(venue), [(p.holding, mark_price(p.holding, books.get(p.ticker))) for p in positions])


def record_equity(*, venue: str, at: datetime) -> EquityPoint | None:
    """Store one point of the equity curve for this minute; None while equity is unknown or already stored."""
    now = valuation(venue)
    if now.equity is None or now.unrealized is None:
        return None
    try:
        with transaction.atomic():
            return EquityPoint.objects.create(
                venue=venue,
                at=at.replace(second=0, microsecond=0),
                equity=now.equity,
                cash=now.cash,
                realized=now.realized,
                unrealized=now.unrealized,
            )
    except IntegrityError:
        return None
