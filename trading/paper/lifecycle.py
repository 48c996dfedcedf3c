"""The life of a market: listing, opening, pausing, closing, determination, settlement (API.md 9, 12)."""

from __future__ import annotations

from datetime import datetime, timedelta

from trading.domain.markets import MarketStatus
from trading.domain.matching import TICKS_PER_DOLLAR, Ticks
from trading.paper.catalog import Catalog
from trading.paper.definitions import Payload, time_of
from trading.paper.events import Lifecycle
from trading.paper.floor import Floor
from trading.paper.listing import OVER, Listing
from trading.paper.positions import Position
from trading.paper.records import ZERO, MarketKept, SettlementRecord
from trading.paper.steps import Steps
from trading.paper.wire import dollars, to_ms

_S = MarketStatus
ORPHAN_GRACE = timedelta(seconds=30)  # a world gets this long after the start to adopt the markets it knows
RETIRED_AFTER = timedelta(
    days=1
)  # finalized markets that no account touched are forgotten, as the real exchange archives them
MIDDLE_TICKS = TICKS_PER_DOLLAR // 2
_METADATA = (
    *("yes_sub_title", "no_sub_title", "rules_primary", "rules_secondary", "can_close_early"),
    *("event_ticker", "strike_type", "floor_strike", "cap_strike", "custom_strike"),
)
_TOLD_AGAIN = ("yes_sub_title", "strike_type", "floor_strike", "cap_strike", "custom_strike")


class Lives:
    """Moves markets through their states. Call within a step."""

    def __init__(self, catalog: Catalog, steps: Steps, floor: Floor, started_at: datetime) -> None:
        self._catalog = catalog
        self._steps = steps
        self._ledger = steps.ledger
        self._floor = floor
        self._orphans_from = started_at + ORPHAN_GRACE

    # States

    def listed(self, listing: Listing) -> None:
        """Tell of a new market."""
        definition = listing.definition
        self._tell(
            listing,
            "created",
            open_ts=int(listing.opens_at.timestamp()),
            close_ts=int(listing.closes_at.timestamp()),
            price_level_structure=definition["price_level_structure"],
            price_ranges=definition["price_ranges"],
            additional_metadata=_metadata(listing),
        )

    def open(self, listing: Listing) -> None:
        """Let trading begin. After a pause all resting orders are canceled and `activated` is told (API.md 9)."""
        if listing.status is _S.ACTIVE:
            return
        if listing.status is _S.INACTIVE:
            self._cancel_all(listing, "HaltCancel")
            self._tell(listing, "activated", is_deactivated=False)
        self._move(listing, _S.ACTIVE)

    def pause(self, listing: Listing) -> None:
        """Stop new orders; cancels stay possible, and orders that asked for it are canceled."""
        if listing.status is not _S.ACTIVE:
            return
        self.halt(listing)
        self._move(listing, _S.INACTIVE)
        self._tell(listing, "deactivated", is_deactivated=True)

    def halt(self, listing: Listing) -> None:
        """Cancel the orders that asked to be canceled when trading is paused, for whatever reason."""
        for order in self._ledger.open_orders(listing.ticker):
            if order.cancel_on_pause:
                self._floor.remove(listing, order.order_id, "HaltCancel")

    def close(self, listing: Listing) -> None:
        """End trading for good and cancel what rests."""
        if listing.status in OVER:
            return
        self._move(listing, _S.CLOSED)
        self._cancel_all(listing, "CloseCancel")

    def determine(self, listing: Listing, result: str, value_ticks: Ticks, expiration_value: str) -> None:
        """Fix the outcome; nothing is paid yet. A disputed outcome may be fixed anew: the market is amended then, and
        its settlement timer begins again (API.md 9)."""
        if listing.status in {_S.FINALIZED, _S.DETERMINED, _S.AMENDED}:
            return
        self.close(listing)
        amended = listing.status is _S.DISPUTED
        listing.result, listing.value_ticks = result, value_ticks
        listing.definition["expiration_value"] = expiration_value
        listing.determined_ms = self._steps.current.at_ms
        self._move(listing, _S.AMENDED if amended else _S.DETERMINED)
        now_ts = listing.determined_ms // 1000
        self._tell(
            listing,
            "determined",
            determination_ts=now_ts,
            result=result,
            settlement_value=dollars(value_ticks),
        )

    def void(self, listing: Listing) -> None:
        """End a market whose question cannot be answered: result `scalar` at the last traded price, or at the middle
        when nothing traded.

        That is what the last buyer and seller agreed on; each side keeps what the market gave it, and what YES and NO
        are paid adds up to the dollar that they put in. (Entry prices would not: they differ from holder to holder.)
        """
        last = MIDDLE_TICKS if listing.last_ticks is None else listing.last_ticks
        self.determine(listing, "scalar", last, dollars(last))

    def dispute(self, listing: Listing) -> None:
        """Question a determined outcome: nothing is paid until it is fixed anew. Raises ValueError in any other
        state."""
        if listing.status not in {_S.DETERMINED, _S.AMENDED}:
            raise ValueError(f"{listing.ticker} is {listing.status}")
        self._move(listing, _S.DISPUTED)

    def settle(self, listing: Listing) -> None:
        """Pay all accounts' positions. Raises ValueError before the outcome is determined."""
        if listing.status is _S.FINALIZED:
            return
        if listing.status is _S.DISPUTED:
            return  # it is paid after it has been fixed anew
        if listing.value_ticks is None:
            raise ValueError(f"{listing.ticker} is not determined")
        holders = self._ledger.holders(listing.ticker)
        for position in holders:
            self._steps.book(self._settlement(listing, position, listing.value_ticks))
        listing.settled_ms = self._steps.current.at_ms
        listing.open_interest = 0
        self._move(listing, _S.FINALIZED)
        self._tell(listing, "settled", settled_ts=listing.settled_ms // 1000)
        for account_id in {position.account_id for position in holders}:
            self._floor.enforce_margin(account_id)

    # Time

    def pass_time(self, now: datetime) -> None:
        """Open, close, expire and wind up what is due."""
        for listing in list(self._catalog.listings.values()):
            if listing.status is not _S.FINALIZED:
                self.pass_time_for(listing, now)

    def pass_time_for(self, listing: Listing, now: datetime) -> None:
        """What is due in one market."""
        if listing.status is _S.INITIALIZED and listing.opens_at <= now < listing.closes_at:
            self.open(listing)
        self._floor.expire(listing)
        if listing.closes_at <= now:
            self.close(listing)
        if not listing.adopted and now >= max(listing.settlement_due, self._orphans_from):
            self.wind_up(listing)
        elif listing.status is _S.AMENDED and now >= listing.settlement_due:
            self.settle(listing)  # its world believes it settled

    def retire(self, now: datetime) -> None:
        """Forget markets that ended long ago and in which no account had a part."""
        limit_ms = to_ms(now - RETIRED_AFTER)
        for ticker, listing in list(self._catalog.listings.items()):
            if (
                listing.settled_ms is not None
                and listing.settled_ms < limit_ms
                and ticker not in self._ledger.markets
            ):
                self._catalog.remove(ticker)

    def wind_up(self, listing: Listing) -> None:
        """End a market whose world is gone: at the determined value, a disputed one included, else it is void. So
        nobody gains by the exchange's restart."""
        if listing.value_ticks is None:
            self.void(listing)
        elif listing.status is _S.DISPUTED:
            self._move(listing, _S.AMENDED)
        self.settle(listing)

    # Keeping

    def keep(self, listing: Listing) -> None:
        """Journal a market that an account is about to touch, or one already kept that has changed."""
        self._steps.book(
            MarketKept(
                ticker=listing.ticker,
                series=listing.series,
                event=listing.event,
                market=listing.definition,
                status=listing.status.value,
                last_ticks=listing.last_ticks,
                result=listing.result,
                value_ticks=listing.value_ticks,
                settled_ms=listing.settled_ms,
                determined_ms=listing.determined_ms,
            )
        )

    def changed(self, listing: Listing) -> None:
        """Note a change of the definition or the state."""
        listing.updated_ms = self._steps.current.at_ms
        if listing.ticker in self._ledger.markets:
            self.keep(listing)

    def redefined(self, listing: Listing, fields: Payload, *, moved: bool) -> None:
        """Tell how a definition changed: another close, another grid, other words."""
        self.changed(listing)
        if moved:
            self._tell(listing, "close_date_updated", close_ts=int(listing.closes_at.timestamp()))
        grid = {key: fields[key] for key in ("price_level_structure", "price_ranges") if key in fields}
        if grid:
            self._tell(listing, "price_level_structure_updated", **grid)
        words = {key: fields[key] for key in _TOLD_AGAIN if key in fields}
        if words:
            self._tell(listing, "metadata_updated", **words)

    def enforce_margin(self, listing: Listing) -> None:
        """Cancel what the owners of a market's resting orders can no longer fund."""
        for account_id in {order.account_id for order in self._ledger.open_orders(listing.ticker)}:
            self._floor.enforce_margin(account_id)

    def _move(self, listing: Listing, status: MarketStatus) -> None:
        listing.status = status
        self.changed(listing)

    def _cancel_all(self, listing: Listing, reason: str) -> None:
        for order_id in list(listing.book.orders):
            self._floor.remove(listing, order_id, reason)
        listing.recorded.clear()

    def _settlement(self, listing: Listing, position: Position, value: Ticks) -> SettlementRecord:
        long, short = max(position.lots, 0), max(-position.lots, 0)
        paid, rounding = position.payout(value)
        return SettlementRecord(
            account_id=position.account_id,
            ticker=listing.ticker,
            event_ticker=listing.event_ticker,
            result=listing.result,
            value_ticks=value,
            yes_lots=long,
            yes_cost=position.cost if long else ZERO,
            no_lots=short,
            no_cost=position.cost if short else ZERO,
            revenue=paid,
            fees=position.fees + rounding,
            rounding=rounding,
            at_ms=self._steps.current.at_ms,
            subaccount=position.subaccount,
            exchange_index=position.exchange_index,
        )

    def _tell(self, listing: Listing, event_type: str, **fields: object) -> None:
        body: Payload = {
            "event_type": event_type,
            "market_ticker": listing.ticker,
            "exchange_index": listing.exchange_index,
        }
        combo = bool(listing.definition.get("mve_collection_ticker"))
        self._steps.tell(Lifecycle("market_lifecycle_v2", {**body, **fields}, combo))


def _metadata(listing: Listing) -> Payload:
    """The `additional_metadata` of a `created` message."""
    definition = listing.definition
    title = definition.get("title") or listing.event["title"]
    ends = definition.get("expected_expiration_time") and time_of(definition, "expected_expiration_time")
    return {
        "name": title,
        "title": title,
        "expected_expiration_ts": int((ends or listing.closes_at).timestamp()),
        **{key: definition[key] for key in _METADATA if key in definition},
    }
