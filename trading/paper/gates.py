"""Whether the exchange and a market take orders and cancels now (API.md 5, 8, 9), and which order a request is about.

pause of                place, amend      cancel, decrease
trading, or a market    409               yes
the exchange            409               409
a closed market         400               400
"""

from __future__ import annotations

from dataclasses import dataclass

from trading.domain.fees import FeeType
from trading.domain.markets import MarketStatus
from trading.paper.exchange import Exchange
from trading.paper.listing import CANCELS_ALLOWED, Listing
from trading.paper.records import OrderRecord
from trading.paper.refusals import bad_request, invalid_order, nested, not_found


@dataclass(frozen=True, slots=True)
class Address:
    """How a request names the place of an order: its market, its shard, its subaccount.

    Without market and shard it means shard 0; shard -1 asks for the market's shard and needs the market (API.md 11).
    """

    ticker: str | None = None
    exchange_index: int | None = None
    subaccount: int = 0


def find_order(exchange: Exchange, account_id: str, order_id: str, address: Address) -> OrderRecord:
    """An account's order, open or not, where the request looks for it. Raises Refused: 400 `order_ticker_mismatch`
    when it is another market's, 404 when it is not there."""
    order = exchange.ledger.accounts[account_id].orders.get(order_id)
    if order is None:
        raise not_found("order")
    if address.ticker and address.ticker != order.ticker:
        raise nested(400, "order_ticker_mismatch", "order ticker mismatch")
    if (address.subaccount, _shard(address, order)) != (order.subaccount, order.exchange_index):
        raise not_found("order")
    return order


def require_cancels(exchange: Exchange, order: OrderRecord) -> Listing:
    """The market of an open order that may be canceled or decreased now. Raises Refused (404 when it does not rest)."""
    if not exchange.shards.runs(order.exchange_index):
        raise nested(409, "trading_is_paused", "exchange is paused")
    listing = exchange.catalog.listings.get(order.ticker)
    if listing is not None and listing.status not in CANCELS_ALLOWED:
        raise nested(400, "market_inactive", "market is not active")
    if listing is None or not order.is_open:
        raise not_found("order")
    return listing


def require_trading(exchange: Exchange, listing: Listing) -> None:
    """Raises Refused while the exchange, trading or this market is paused or its mirrored book is lost, and outside of
    the market's hours."""
    if listing.takes_no_orders or not exchange.shards.trades(listing.exchange_index):
        raise nested(409, "trading_is_paused", "trading is paused")
    if (
        listing.status is not MarketStatus.ACTIVE
        or not listing.opens_at <= exchange.now() < listing.closes_at
    ):
        raise nested(400, "market_inactive", "market is not active", f"status {listing.status.value}")
    if listing.fees.fee_type is FeeType.FLAT:
        raise invalid_order("the fee of this market cannot be computed")


def _shard(address: Address, order: OrderRecord) -> int:
    if address.exchange_index not in {None, -1}:
        return address.exchange_index or 0
    if address.ticker:
        return order.exchange_index
    if address.exchange_index == -1:
        raise bad_request("market_ticker is required to route by it")
    return 0
