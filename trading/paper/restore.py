"""After a restart: the markets that accounts touched stand again, with the accounts' resting orders in their
old places."""

from __future__ import annotations

from trading.domain.markets import MarketStatus
from trading.domain.matching import Order
from trading.paper.catalog import Catalog
from trading.paper.ledger import Ledger
from trading.paper.listing import Listing, holder
from trading.paper.records import FillRecord, MarketKept, OrderRecord


def restore_listings(catalog: Catalog, ledger: Ledger) -> None:
    """List every kept market, the world's or not; it counts as orphaned until a world adopts it."""
    for kept in ledger.markets.values():
        listing = catalog.restore(dict(kept.series), dict(kept.event), dict(kept.market))
        _restore_state(listing, kept)
        for order in ledger.open_orders(kept.ticker):
            resting = book_order(order, order.remaining_lots)
            listing.book.rest(resting)
            listing.recorded.restore(resting)
        for position in ledger.holders(kept.ticker):
            listing.holdings[holder(position.account_id, position.subaccount)] = position.lots
            listing.open_interest += max(0, position.lots)
    for record in ledger.history:
        if isinstance(record, FillRecord) and record.ticker in catalog.listings:
            catalog.listings[record.ticker].last_ticks = record.price_ticks


def book_order(order: OrderRecord, lots: int) -> Order:
    """An account's order as the matching book sees it."""
    return Order(order.order_id, order.account_id, order.side, order.price_ticks, lots, order.expires_ms)


def _restore_state(listing: Listing, kept: MarketKept) -> None:
    listing.status = MarketStatus(kept.status)
    listing.result, listing.value_ticks, listing.settled_ms = kept.result, kept.value_ticks, kept.settled_ms
    listing.last_ticks, listing.determined_ms = kept.last_ticks, kept.determined_ms
