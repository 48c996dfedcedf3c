"""Emergency liquidation: stop everything, cancel what works, sell what is held, and say what is left.

Asked for anywhere (page, REST, terminal), it is a row; execution carries it out, for it alone may trade. Every exit is
reduce-only and immediate-or-cancel; it walks through the book down to a floor that is fixed when it is asked for: the
best bid then, less the stated slippage. What comes by a fill after that, or had no fresh bid, gets its floor from its
first one. What nobody takes above the floor stays held, and is reported.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from approvals.proposals import NobodyBids, NothingHeld
from kalshi_site import audit, live
from kalshi_site.identity import new_id
from kalshi_site.locks import Held, Outrun
from kalshi_site.prepared import prepared
from kalshi_site.versioning import compare_and_set
from portfolio import risk
from portfolio.models import Position, TradingState
from trading.domain.prices import PRICE_STEP, cents_text, count_text
from trading.exchange.gateway import MarketDataGateway
from trading.execution.exits import ExitWorking, close_position
from trading.execution.liquidation_prices import Price, prices_of, side_of
from trading.execution.liquidation_tries import Tries, key_of_exit, tries_of
from trading.models import Liquidation, LiquidationEvent

log = logging.getLogger(__name__)

NONE_LATE: Final[Mapping[str, Decimal]] = MappingProxyType({})
NONE_TAKEN: Final[Mapping[str, int]] = MappingProxyType({})
LEAST_SLIPPAGE, MOST_SLIPPAGE = Decimal(0), Decimal("0.99")
NOTHING: Final = Decimal(0)
# For the whole of it: an exit without an answer holds its market for ten seconds, a book is waited for.
WITHIN: Final = timedelta(minutes=3)
CLEARING: Final = timedelta(seconds=5)  # so long selling waits for the proof that working orders are gone
TRIES: Final = 5  # exits in one market that the exchange took: a book refills while we sell
NAMED: Final = 2  # markets in the last word, which has room for no more


@dataclass(frozen=True, slots=True)
class Turn:
    """What one look did in one market, in words. `goes_on`: a later look may do more."""

    words: str
    goes_on: bool = False


class SlippageOutOfRange(ValueError):
    """The slippage is no amount between 0 and 99 cents."""

    code = "E012"

    def __init__(self, slippage: Decimal) -> None:
        super().__init__(f"a slippage of {slippage} is not between $0.00 and $0.99")


@transaction.atomic
def request(
    *, venue: str, actor: str, reason: str, slippage: Decimal, within: timedelta = WITHIN
) -> Liquidation:
    """Stop everything, fix the floors, and leave the order to sell for execution; the one at work when there is one.

    One whose time is over sells nothing more and keeps nobody from the next: it is closed here.
    Raises SlippageOutOfRange; then nothing was done.
    """
    require_slippage(slippage)
    risk.halt(venue=venue, actor=actor, reason=reason)
    risk.trading_state(venue, lock=True)  # two who ask at once get the same one
    if known := Liquidation.objects.working(venue).first():
        if known.is_in_time:
            return known
        _close(known, actor, "the time is over; nobody carried it out", kind="person")
    positions = list(Position.objects.held(venue))
    floors = floors_of(positions, prices_of(positions), slippage)
    row = Liquidation.objects.create(
        public_id=new_id("liq"),
        venue=venue,
        actor=actor,
        reason=reason,
        slippage=slippage.quantize(PRICE_STEP),
        floors={ticker: f"{floor:.4f}" for ticker, floor in floors.items()},
        ends_by=timezone.now() + within,
    )
    audit.record(
        actor=actor,
        verb="trading.liquidate",
        object_type="liquidation",
        object_id=row.public_id,
        reason=reason,
        slippage=str(slippage),
        floors=row.floors,
    )
    _remember(row, "", actor, reason or "asked for")
    return row


def require_slippage(slippage: Decimal) -> None:
    """Raise SlippageOutOfRange unless it is an amount between 0 and 99 cents."""
    if not slippage.is_finite() or not LEAST_SLIPPAGE <= slippage <= MOST_SLIPPAGE:
        raise SlippageOutOfRange(slippage)


def floors_of(held: Iterable[Position], prices: Mapping[str, Price], slippage: Decimal) -> dict[str, Decimal]:
    """The worst price per market: the held side's best bid less the slippage. Markets without a bid are missing."""
    bids = {row.ticker: prices[row.ticker].bid for row in held}
    return {ticker: max(bid - slippage, PRICE_STEP) for ticker, bid in bids.items() if bid is not None}


def step(venue: str, held: Held, exchange: MarketDataGateway | None = None) -> bool:
    """One look of the process that holds execution's lease: put exits before it, write down progress, know the end.

    `exchange` tells the books of which our own quotes are too old; without it these are waited for.

    True while there is more to do. Raises Outrun when the lease is no longer ours.
    """
    row = _working.first(venue)
    if row is None:
        return False
    if reason := _reason_to_end(row):
        _finish(row, held, reason)
        return False
    if risk.uncleared(venue) and timezone.now() - row.created_at < CLEARING:
        return True
    positions, tries = list(Position.objects.held(venue).order_by("ticker")), tries_of(row)
    done = {each.ticker: turn for each in positions if (turn := _held_back(tries[each.ticker]))}
    due = [each for each in positions if each.ticker not in done]
    prices = prices_of(due, exchange)
    row = _fix_late_floors(row, held, due, prices)
    done |= {each.ticker: _sell(row, each.ticker, prices[each.ticker]) for each in due}
    row = _write_down(row, held, done, taken={ticker: each.taken for ticker, each in tries.items()})
    if any(turn.goes_on for turn in done.values()):
        return True
    _finish(row, held, "nothing more can be sold within the bound" if done else "everything was sold")
    return False


@prepared
def _working(venue: str) -> QuerySet[Liquidation]:
    return Liquidation.objects.working(venue)


def remaining(venue: str) -> list[dict[str, str]]:
    """What is still held: ticker, side, quantity."""
    return [
        {"ticker": row.ticker, "side": side_of(row).value, "quantity": count_text(abs(row.quantity))}
        for row in Position.objects.held(venue).order_by("ticker")
    ]


def remaining_in_words(left: Collection[dict[str, str]]) -> str:
    """One sentence about what is left."""
    named = ", ".join(f"{each['quantity']} {each['side']} {each['ticker']}" for each in left)
    return f"still held: {named}" if named else "nothing is held any more"


def _reason_to_end(row: Liquidation) -> str:
    if timezone.now() >= row.ends_by:
        return f"the time is over{_not_taken(row)}"[:300]
    if risk.trading_state(row.venue).mode != TradingState.Mode.HALTED:
        return "trading was resumed"
    return ""


def _not_taken(row: Liquidation) -> str:
    """Where it was not the bound that kept us in: the markets whose last exit the exchange did not take."""
    tries = tries_of(row)
    held = Position.objects.held(row.venue).order_by("ticker").values_list("ticker", flat=True)
    failed = [f"from {ticker} {tries[ticker].fate}" for ticker in held if tries[ticker].failed]
    if not failed:
        return ""
    more = f", and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return f"; the last exit {', '.join(failed[:NAMED])}{more}"


def _held_back(tries: Tries) -> Turn | None:
    """Why no exit goes out at this look, whatever the price."""
    if tries.taken >= TRIES:
        return Turn(f"{TRIES} exits did not sell it all")
    if tries.is_pausing:
        return Turn(f"the exit {tries.fate}: {tries.because}; trying again", goes_on=True)
    return None


def _fix_late_floors(
    row: Liquidation, held: Held, positions: Collection[Position], prices: Mapping[str, Price]
) -> Liquidation:
    """Fix the floors of what was not held, or had no fresh bid, when it was asked for: the best bid now, less the
    slippage.

    Written down before anything is sold by them, so that a second look cannot lower them.
    """
    late = floors_of((each for each in positions if row.floor(each.ticker) is None), prices, row.slippage)
    return _write_down(row, held, {}, late=late) if late else row


def _sell(row: Liquidation, ticker: str, price: Price) -> Turn:
    """Put an exit before execution, and say so, or why not. One market's fault keeps no other waiting."""
    if price.doubt:
        return Turn(price.doubt, goes_on=price.is_awaited)
    floor = row.floor(ticker)
    if floor is None:
        return Turn("nobody bids: it can only be held to the settlement")
    try:
        # A bid of nothing where nobody bids: who took the last one may still be selling.
        return _exit(row, ticker, floor, price.bid or NOTHING)
    except (Outrun, DatabaseError):
        raise
    except Exception as fault:
        log.exception("liquidation.unjudged", extra={"liquidation": row.public_id, "ticker": ticker})
        return Turn(f"could not be judged: {str(fault) or type(fault).__name__}")


def _exit(row: Liquidation, ticker: str, floor: Decimal, bid: Decimal) -> Turn:
    try:
        proposal = close_position(
            venue=row.venue, ticker=ticker, actor=row.actor, floor=floor, bid=bid, idea_key=key_of_exit(row)
        )
    except ExitWorking:
        return Turn("an exit is working", goes_on=True)
    except NobodyBids:
        return Turn(f"nobody bids {cents_text(floor)} or more")
    except (NothingHeld, risk.UnknownMarket, risk.Denied) as refusal:
        return Turn(str(refusal))
    words = f"selling {count_text(proposal.quantity)} at {cents_text(proposal.limit_price)} or better"
    return Turn(words, goes_on=True)


@transaction.atomic
def _write_down(
    row: Liquidation,
    held: Held,
    done: Mapping[str, Turn],
    *,
    late: Mapping[str, Decimal] = NONE_LATE,
    taken: Mapping[str, int] = NONE_TAKEN,
) -> Liquidation:
    held.require()
    news = {ticker: turn.words for ticker, turn in done.items() if row.told.get(ticker) != turn.words}
    tries = {**row.tries, **{ticker: count for ticker, count in taken.items() if count}}
    if not news and not late and tries == row.tries:
        return row
    floors = {**row.floors, **{ticker: f"{floor:.4f}" for ticker, floor in late.items()}}
    fresh = compare_and_set(row, told={**row.told, **news}, tries=tries, floors=floors)
    for ticker, floor in late.items():
        words = f"floor fixed at {cents_text(floor)}: it was not held, or had no fresh bid, when this began"
        _remember(fresh, "working", "execution", words, ticker=ticker)
    for ticker, words in news.items():
        _remember(fresh, "working", "execution", words, ticker=ticker)
    return fresh


@transaction.atomic
def _finish(row: Liquidation, held: Held, outcome: str) -> None:
    held.require()
    _close(row, "execution", outcome, kind="system")


def _close(row: Liquidation, actor: str, outcome: str, *, kind: Literal["person", "system"]) -> None:
    """Write the end down once: whoever asks for the next one and execution may both find the time over."""
    row = Liquidation.objects.select_for_update().get(pk=row.pk)
    if row.is_over:
        return
    left = remaining(row.venue)
    fresh = compare_and_set(row, finished_at=timezone.now(), outcome=outcome, remaining=left)
    _remember(fresh, "working", actor, f"{outcome}; {remaining_in_words(left)}")
    audit.record(
        actor=actor,
        actor_kind=kind,
        verb="liquidation.done",
        object_type="liquidation",
        object_id=row.public_id,
        reason=outcome,
        remaining=left,
    )


def _remember(row: Liquidation, before: str, actor: str, reason: str, *, ticker: str = "") -> None:
    LiquidationEvent.objects.create(
        liquidation=row,
        version=row.version,
        from_state=before,
        to_state="done" if row.is_over else "working",
        actor=actor,
        reason=reason,
        ticker=ticker,
    )
    live.changed("trading", key=row.public_id, version=row.version, kind="liquidation")
