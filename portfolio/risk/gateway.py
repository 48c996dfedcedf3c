"""Judging an order on fresh numbers, and holding what it may cost.

A decision locks the trading state's row before it judges, so two decisions cannot both use the last of a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import ExpressionWrapper, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Abs
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.models.fields import CountField, ProductField
from kalshi_site.prepared import insert, prepared
from kalshi_site.versioning import StaleVersion
from portfolio.domain import scopes
from portfolio.domain.limits import PAPER_LIMITS, Case, PortfolioFacts, RiskReport, TradingMode, judge
from portfolio.models import CashEntry, Position, Reservation, RiskLimit
from portfolio.risk.second_person import LIVE, require_second_person
from portfolio.risk.trading import mode_for
from trading.domain.markets import MarketFacts
from trading.domain.orders import BookSide, Terms
from trading.domain.prices import MONEY_STEP, complement

ZERO = Decimal(0)
FactsSource = Callable[[Collection[str]], Mapping[str, MarketFacts]]


class UnknownLimit(ValueError):
    """A limit name that no rule reads: a typo must not pass as protection."""

    code = "E953"


class UnknownMarket(LookupError):
    """A ticker that the catalogue does not hold."""

    code = "E020"

    def __init__(self, ticker: str) -> None:
        super().__init__(f"no market {ticker}")
        self.ticker = ticker


_source: list[FactsSource] = []


def read_facts_from(source: FactsSource) -> None:
    """Set where market facts come from. Called once at start by the room above, which this one may not import."""
    _source[:] = [source]


def market_facts(tickers: Collection[str]) -> Mapping[str, MarketFacts]:
    """Facts of the given markets; unknown ones are missing from the answer."""
    return _source[0](tickers) if tickers else {}


def facts_of(ticker: str) -> MarketFacts:
    """Facts of one market. Raises UnknownMarket."""
    found = market_facts([ticker]).get(ticker)
    if found is None:
        raise UnknownMarket(ticker)
    return found


def limits() -> dict[str, Decimal]:
    """All limits: built-in defaults, overridden by rows. Raises UnknownLimit on a row that no rule reads."""
    rows = dict(_limits())
    if strange := rows.keys() - PAPER_LIMITS.keys():
        raise UnknownLimit(f"no rule reads the limit {', '.join(sorted(strange))}")
    return {name: rows.get(name, default.value) for name, default in PAPER_LIMITS.items()}


@prepared
def _limits() -> QuerySet[RiskLimit, tuple[str, Decimal]]:
    return RiskLimit.objects.values_list("name", "value")


def set_limit(
    *, name: str, value: Decimal, actor: str, reason: str = "", version: int | None = None
) -> RiskLimit:
    """Change one limit, with its history and audit row. A tighter limit holds at once.

    Raises UnknownLimit; StaleVersion when `version` is not what stands; on a live desk, for a looser limit,
    SecondPersonNeeded after noting the first person's wish.
    """
    if name not in PAPER_LIMITS:
        raise UnknownLimit(f"no rule reads the limit {name}")
    limit = PAPER_LIMITS[name]
    venue = settings.KALSHI_PROFILE
    current = limit_row(name)
    _require_version(current, version)
    if venue == LIVE and limit.is_looser(current.value, value):
        require_second_person(
            venue=venue,
            subject=f"limit:{name}",
            wanted=f"{value.normalize():f}",
            actor=actor,
            reason=reason,
            deed=f"set {limit.label.lower()} to {limit.in_words(value)}",
        )
    return _set_limit(current.pk, value, actor, reason, version)


def limit_row(name: str) -> RiskLimit:
    """The row of one limit, made with the built-in value where there is none."""
    return RiskLimit.objects.get_or_create(name=name, defaults={"value": PAPER_LIMITS[name].value})[0]


@transaction.atomic
def _set_limit(pk: int, value: Decimal, actor: str, reason: str, version: int | None) -> RiskLimit:
    row = RiskLimit.objects.select_for_update().get(pk=pk)
    _require_version(row, version)
    before = row.value
    row.value, row.note, row.version, row.updated_at = value, reason, row.version + 1, timezone.now()
    row.save()  # not compare_and_set: the history of settings is written on save
    audit.record(
        actor=actor,
        verb="limit.set",
        object_type="risk_limit",
        object_id=row.name,
        reason=reason,
        before=str(before),
        after=str(value),
    )
    live.changed("trading", key=f"limit {row.name}", version=row.version, kind="limit")
    return row


def _require_version(row: RiskLimit, version: int | None) -> None:
    if version is not None and version != row.version:
        raise StaleVersion(row, version, row)


def portfolio_facts(
    venue: str,
    market: MarketFacts,
    *,
    excluding: str = "",
    strategy: str = "",
    mode: TradingMode | None = None,
) -> PortfolioFacts:
    """What the rules may know of the portfolio now. `excluding` leaves out one proposal's own reservation.

    `mode`: the one in force, where the caller knows it (`risk.over`); else it is read.
    """
    names = (market.event_ticker, market.ticker)
    in_all, in_event, quantity = _sums(_held.first(venue, *names), 3)
    all_cost, event_cost, fees, up, down = _sums(_reserved.first(venue, excluding, *names), 5)
    return PortfolioFacts(
        cash=_cash.first(venue) or ZERO,
        reserved_cash=all_cost + fees,
        total_exposure=in_all + all_cost,
        event_exposure=in_event + event_cost,
        held=quantity,
        pending=up + down,
        mode=mode
        or mode_for(
            venue, scopes.covering(strategy=strategy, series=market.series_ticker, market=market.ticker)
        ),
        leaving=-down if quantity > 0 else up if quantity < 0 else ZERO,
    )


def _sums(row: tuple[Decimal | None, ...] | None, count: int) -> tuple[Decimal, ...]:
    return tuple(value or ZERO for value in row) if row else (ZERO,) * count


@prepared
def _reserved(
    venue: str, excluding: str, event: str, ticker: str
) -> QuerySet[Any, tuple[Decimal | None, ...]]:
    """One row of sums, or none: what all and the event's may cost, all fees, contracts to come and to go in the market.

    A desk may have a thousand working orders: the database adds them up, and no claim reads them all.
    """
    count, here = Abs("signed_quantity"), Q(ticker=ticker)
    cost = ExpressionWrapper(count * F("unit_cost"), output_field=ProductField())
    fee = ExpressionWrapper(count * F("unit_fee"), output_field=ProductField())
    sums = {
        "all_cost": Sum(cost),
        "event_cost": Sum(cost, filter=Q(event_ticker=event)),
        "fees": Sum(fee),
        "up": Sum("signed_quantity", filter=here & Q(signed_quantity__gt=0)),
        "down": Sum("signed_quantity", filter=here & Q(signed_quantity__lt=0)),
    }
    rows = Reservation.objects.standing(venue).exclude(key=excluding).order_by().values("venue")
    return rows.annotate(**sums).values_list(*sums)


@prepared
def _held(venue: str, event: str, ticker: str) -> QuerySet[Any, tuple[Decimal | None, ...]]:
    """One row of sums, or none: cost of all positions and of the event's, contracts of the market."""
    sums = {
        "in_all": Sum("cost"),
        "in_event": Sum("cost", filter=Q(event_ticker=event)),
        "held": Sum("quantity", filter=Q(ticker=ticker)),
    }
    return Position.objects.filter(venue=venue).order_by().values("venue").annotate(**sums).values_list(*sums)


@prepared
def _cash(venue: str) -> QuerySet[Any, Decimal | None]:
    rows = CashEntry.objects.filter(venue=venue).order_by().values("venue")
    return rows.annotate(total=Sum("amount")).values_list("total", flat=True)


def check_order(
    *,
    venue: str,
    terms: Terms,
    market: MarketFacts | None = None,
    reduce_only: bool = False,
    manual_exit: bool = False,
    excluding: str = "",
    strategy: str = "",
    mode: TradingMode | None = None,
) -> RiskReport:
    """Judge one order on fresh numbers. Preview, proposal, decision and claim all use this.

    `mode`: the one in force for it, where the caller knows it (`risk.over`); else it is read.
    Raises UnknownMarket, and UnknownFee when the fee of what it opens cannot be computed: no verdict is a no.
    """
    market = market or facts_of(terms.ticker)
    case = Case(
        terms=terms,
        market=market,
        portfolio=portfolio_facts(venue, market, excluding=excluding, strategy=strategy, mode=mode),
        limits=limits(),
        now=timezone.now(),
        reduce_only=reduce_only,
        manual_exit=manual_exit,
    )
    return judge(case)


def reserve(*, venue: str, key: str, terms: Terms, event_ticker: str, report: RiskReport) -> Reservation:
    """Hold the order's worst case until it is closed. Call inside the decision's transaction."""
    reservation = Reservation(
        venue=venue,
        key=key,
        ticker=terms.ticker,
        event_ticker=event_ticker,
        signed_quantity=terms.signed_quantity,
        unit_cost=(report.cost.cost / terms.quantity).quantize(MONEY_STEP, ROUND_CEILING),
        # One that is not known is that of an exit, which pays it out of what it brings.
        unit_fee=((report.cost.fee or ZERO) / terms.quantity).quantize(MONEY_STEP, ROUND_CEILING),
    )
    return insert(reservation)


def reserve_foreign(*, venue: str, key: str, terms: Terms, event_ticker: str) -> None:
    """Hold what an order found on the exchange may cost, as if it opened with every contract. Once per key."""
    entry = terms.yes_price if terms.book_side is BookSide.BID else complement(terms.yes_price)
    if _is_reserved(key):
        return
    held = Reservation(
        venue=venue,
        key=key,
        ticker=terms.ticker,
        event_ticker=event_ticker,
        signed_quantity=terms.signed_quantity,
        unit_cost=entry,
        unit_fee=ZERO,  # counted by the exchange's own balance once it is charged
    )
    insert(held)


@prepared
def _is_reserved(key: str) -> QuerySet[Reservation, int]:
    return Reservation.objects.filter(key=key).values_list("pk", flat=True)


def reserve_foreign_anew(*, key: str, terms: Terms, booked: Decimal) -> None:
    """Hold what a changed order found on the exchange may still cost; `booked` of it is in the positions already."""
    entry = terms.yes_price if terms.book_side is BookSide.BID else complement(terms.yes_price)
    sign = 1 if terms.book_side is BookSide.BID else -1
    Reservation.objects.filter(key=key, released_at=None).update(
        signed_quantity=sign * (terms.quantity - booked), unit_cost=entry
    )


def consume(*, key: str, book_side: BookSide, count: Decimal) -> None:
    """Shrink a reservation by what was filled, which the position carries from now on, or by what was taken off.

    A negative `count` holds what was given back. One that is released stays as it is.
    """
    step = -count if book_side is BookSide.BID else count
    Reservation.objects.filter(key=key, released_at=None).update(
        signed_quantity=F("signed_quantity") + Value(step, CountField())
    )


def release(*, key: str) -> None:
    """End a reservation. Call in the transaction that closes the order or voids the proposal."""
    Reservation.objects.filter(key=key, released_at=None).update(released_at=timezone.now())


def reserve_again(*, key: str) -> None:
    """Undo a release: the order that was thought gone stands on the exchange."""
    Reservation.objects.filter(key=key).update(released_at=None)


class Denied(Exception):
    """The gateway's no, with every reason. `code` is the first block's."""

    def __init__(self, report: RiskReport) -> None:
        super().__init__("; ".join(f"{check.label}: {check.text}" for check in report.blocks))
        self.report = report
        self.code = report.blocks[0].code


def require(report: RiskReport) -> RiskReport:
    """Return the report, or raise Denied when a rule blocks."""
    if not report.allowed:
        raise Denied(report)
    return report
