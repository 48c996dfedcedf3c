"""The risk gateway's activities: judge an order, reserve what it may cost, and the trading state.

A decision locks the trading state's row before it judges, so two decisions cannot both use the last of a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import ROUND_CEILING, Decimal

from django.db import transaction
from django.db.models import F, Q, Sum, Value
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.models.fields import CountField
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio.domain.limits import (
    PAPER_LIMITS,
    Case,
    PortfolioFacts,
    RiskReport,
    TradingMode,
    judge,
)
from portfolio.models import CashEntry, Position, Reservation, RiskLimit, TradingState, TradingStateEvent
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
    rows = dict(RiskLimit.objects.values_list("name", "value"))
    if strange := rows.keys() - PAPER_LIMITS.keys():
        raise UnknownLimit(f"no rule reads the limit {', '.join(sorted(strange))}")
    return {name: rows.get(name, default.value) for name, default in PAPER_LIMITS.items()}


@transaction.atomic
def set_limit(*, name: str, value: Decimal, actor: str, reason: str = "") -> RiskLimit:
    """Change one limit, with its history and audit row. Raises UnknownLimit."""
    if name not in PAPER_LIMITS:
        raise UnknownLimit(f"no rule reads the limit {name}")
    RiskLimit.objects.get_or_create(name=name, defaults={"value": PAPER_LIMITS[name].value})
    row = RiskLimit.objects.select_for_update().get(name=name)
    before = row.value
    row.value, row.note, row.version, row.updated_at = value, reason, row.version + 1, timezone.now()
    row.save()  # not compare_and_set: the history of settings is written on save
    audit.record(
        actor=actor,
        verb="limit.set",
        object_type="risk_limit",
        object_id=name,
        reason=reason,
        before=str(before),
        after=str(value),
    )
    return row


def trading_state(venue: str, *, lock: bool = False) -> TradingState:
    """The venue's trading state; `lock` holds the row until the transaction ends."""
    rows = TradingState.objects.select_for_update() if lock else TradingState.objects.all()
    found = rows.filter(venue=venue).first()
    if found is None:
        TradingState.objects.get_or_create(venue=venue)
        found = rows.get(venue=venue)
    return found


def portfolio_facts(venue: str, market: MarketFacts, *, excluding: str = "") -> PortfolioFacts:
    """What the rules may know of the portfolio now. `excluding` leaves out one proposal's own reservation."""
    standing = Reservation.objects.standing(venue).exclude(key=excluding)
    reserved = list(
        standing.values_list("ticker", "event_ticker", "signed_quantity", "unit_cost", "unit_fee")
    )
    here = Q(event_ticker=market.event_ticker)
    held = Position.objects.filter(venue=venue).aggregate(
        all=Sum("cost"),
        event=Sum("cost", filter=here),
        quantity=Sum("quantity", filter=Q(ticker=market.ticker)),
    )

    def risk_of(event: str | None = None) -> Decimal:
        return sum((abs(q) * cost for _, e, q, cost, _ in reserved if event in (None, e)), ZERO)

    quantity = held["quantity"] or ZERO
    undone = [q for ticker, _, q, _, _ in reserved if ticker == market.ticker]
    return PortfolioFacts(
        cash=CashEntry.objects.filter(venue=venue).aggregate(total=Sum("amount"))["total"] or ZERO,
        reserved_cash=sum((abs(q) * (cost + fee) for _, _, q, cost, fee in reserved), ZERO),
        total_exposure=(held["all"] or ZERO) + risk_of(),
        event_exposure=(held["event"] or ZERO) + risk_of(market.event_ticker),
        held=quantity,
        pending=sum(undone, ZERO),
        mode=TradingMode(trading_state(venue).mode),
        leaving=sum((abs(q) for q in undone if q * quantity < 0), ZERO),
    )


def check_order(
    *,
    venue: str,
    terms: Terms,
    market: MarketFacts | None = None,
    reduce_only: bool = False,
    manual_exit: bool = False,
    excluding: str = "",
) -> RiskReport:
    """Judge one order on fresh numbers. Preview, proposal, decision and claim all use this.

    Raises UnknownMarket, and UnknownFee when the fee cannot be computed: no verdict is a no.
    """
    market = market or facts_of(terms.ticker)
    case = Case(
        terms=terms,
        market=market,
        portfolio=portfolio_facts(venue, market, excluding=excluding),
        limits=limits(),
        now=timezone.now(),
        reduce_only=reduce_only,
        manual_exit=manual_exit,
    )
    return judge(case)


def reserve(*, venue: str, key: str, terms: Terms, event_ticker: str, report: RiskReport) -> Reservation:
    """Hold the order's worst case until it is closed. Call inside the decision's transaction."""
    return Reservation.objects.create(
        venue=venue,
        key=key,
        ticker=terms.ticker,
        event_ticker=event_ticker,
        signed_quantity=terms.signed_quantity,
        unit_cost=(report.cost.cost / terms.quantity).quantize(MONEY_STEP, ROUND_CEILING),
        unit_fee=(report.cost.fee / terms.quantity).quantize(MONEY_STEP, ROUND_CEILING),
    )


def reserve_foreign(*, venue: str, key: str, terms: Terms, event_ticker: str) -> None:
    """Hold what an order found on the exchange may cost, as if it opened with every contract. Once per key."""
    entry = terms.yes_price if terms.book_side is BookSide.BID else complement(terms.yes_price)
    Reservation.objects.get_or_create(
        key=key,
        defaults={
            "venue": venue,
            "ticker": terms.ticker,
            "event_ticker": event_ticker,
            "signed_quantity": terms.signed_quantity,
            "unit_cost": entry,
            "unit_fee": ZERO,  # counted by the exchange's own balance once it is charged
        },
    )


def consume(*, key: str, book_side: BookSide, count: Decimal) -> None:
    """Shrink a reservation by what was filled; the position carries that part from now on."""
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


def pause(*, venue: str, actor: str, reason: str, version: int | None = None) -> TradingState:
    """REDUCING: working orders stay, only exits pass."""
    return _set_mode(venue, TradingState.Mode.REDUCING, actor, reason, version)


def halt(*, venue: str, actor: str, reason: str) -> TradingState:
    """HALTED: nothing new, working orders are canceled. Needs no version, for the way out is never blocked."""
    return _set_mode(venue, TradingState.Mode.HALTED, actor, reason, None)


def resume(*, venue: str, actor: str, reason: str, version: int | None = None) -> TradingState:
    """ACTIVE again. With `version`, raises StaleVersion when the state changed since the person saw it."""
    return _set_mode(venue, TradingState.Mode.ACTIVE, actor, reason, version)


@transaction.atomic
def _set_mode(
    venue: str, mode: TradingState.Mode, actor: str, reason: str, version: int | None
) -> TradingState:
    row = trading_state(venue, lock=True)
    if version is not None and version != row.version:
        raise StaleVersion(row, version, row)
    if row.mode == mode:
        return row
    halts = mode == TradingState.Mode.HALTED
    fresh = compare_and_set(
        row,
        mode=mode,
        reason=reason,
        changed_by=actor,
        changed_at=timezone.now(),
        kill_epoch=row.kill_epoch + 1 if halts else row.kill_epoch,
    )
    TradingStateEvent.objects.create(
        trading_state=fresh,
        version=fresh.version,
        from_state=row.mode,
        to_state=mode,
        actor=actor,
        reason=reason,
    )
    verb = {"ACTIVE": "trading.resume", "REDUCING": "trading.pause", "HALTED": "trading.halt"}[mode.value]
    audit.record(actor=actor, verb=verb, object_type="trading_state", object_id=venue, reason=reason)
    live.changed("trading", key=venue, version=fresh.version, kind=mode.value.lower())
    return fresh


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
