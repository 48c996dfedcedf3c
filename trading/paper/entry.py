"""Order entry for accounts: create, cancel, cancel all. Checks, then hands the order to the floor."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from trading.domain.fees import DIRECT_GRID
from trading.domain.matching import Lots, Refusal, Ticks, reduce_only_lots
from trading.domain.orders import TimeInForce
from trading.paper.exchange import Exchange
from trading.paper.gates import require_cancels, require_trading
from trading.paper.ledger import Account
from trading.paper.listing import CANCELS_ALLOWED, Listing
from trading.paper.records import ZERO, OrderRecord, SpentId
from trading.paper.refusals import Refused, invalid_order, nested, not_found
from trading.paper.restore import book_order
from trading.paper.tickets import Ticket, require_combination

MOST_OPEN_ORDERS = 200_000


def create(exchange: Exchange, account_id: str, ticket: Ticket) -> OrderRecord:
    """Enter an order and return it as it stands after matching. Raises Refused; then nothing has changed,
    except that a killed fill-or-kill has spent its client order id."""
    account = exchange.ledger.accounts[account_id]
    with exchange.steps.step():
        listing = _admissible(exchange, account, ticket)
        exchange.floor.expire(listing)
        order = _record(exchange, account, listing, ticket)
        _require_funds(exchange, account, listing, order, ticket)
        if listing.ticker not in exchange.ledger.markets:
            exchange.lives.keep(listing)
        return _run(exchange, listing, order, ticket)


def cancel(exchange: Exchange, order: OrderRecord) -> tuple[OrderRecord, Lots]:
    """Cancel a resting order: the order and the lots it was reduced by. Raises Refused (404 when it does not rest)."""
    listing = require_cancels(exchange, order)
    with exchange.steps.step():
        reduced = exchange.floor.remove(listing, order.order_id, None)
    return exchange.ledger.accounts[order.account_id].orders[order.order_id], reduced


def cancel_all(exchange: Exchange, account_id: str, subaccount: int | None = None) -> int:
    """Cancel everything that a subaccount (None: the whole account) rests in markets that allow it; how many
    orders. Raises Refused, after the others are off, when some rest on a shard that is paused."""
    resting = list(exchange.ledger.accounts[account_id].resting(subaccount))
    reachable = [order for order in resting if exchange.shards.runs(order.exchange_index)]
    canceled = 0
    with exchange.steps.step():
        for order in reachable:
            listing = exchange.catalog.listings[order.ticker]
            if listing.status in CANCELS_ALLOWED:
                exchange.floor.remove(listing, order.order_id, None)
                canceled += 1
    if len(reachable) < len(resting):
        raise nested(409, "trading_is_paused", "some orders rest on a paused shard")
    return canceled


def _admissible(exchange: Exchange, account: Account, ticket: Ticket) -> Listing:
    """The listing an order is for, when order and market allow it."""
    require_combination(ticket, exchange.now_ms())
    if ticket.client_order_id and ticket.client_order_id in account.spent_ids:
        raise nested(409, "order_already_exists", "order already exists")
    if (ticket.subaccount or 0) not in account.subaccounts:
        raise not_found("subaccount")
    listing = exchange.catalog.listings.get(ticket.ticker)
    if listing is None or ticket.exchange_index not in {None, -1, listing.exchange_index}:
        raise not_found("market")
    require_trading(exchange, listing)
    _require_group(exchange, account, listing, ticket)
    if account.open_count >= MOST_OPEN_ORDERS:
        raise invalid_order("too many open orders")
    return listing


def _require_group(exchange: Exchange, account: Account, listing: Listing, ticket: Ticket) -> None:
    """An order's group must be its own subaccount's, on its market's shard, and not triggered. Raises Refused."""
    if not ticket.order_group_id:
        return
    group = exchange.ledger.groups.get(ticket.order_group_id)
    owner = (account.account_id, ticket.subaccount or 0, listing.exchange_index)
    if group is None or owner != (
        group.record.account_id,
        group.record.subaccount,
        group.record.exchange_index,
    ):
        raise nested(400, "order_group_not_found", "order group not found")
    if group.record.is_triggered:
        raise nested(400, "exceeded_order_group_risk_limit", "the order group is triggered")


def _record(exchange: Exchange, account: Account, listing: Listing, ticket: Ticket) -> OrderRecord:
    price, lots = _price(listing, ticket), ticket.count_lots
    now_ms = exchange.now_ms()
    return OrderRecord(
        order_id=str(uuid4()),
        account_id=account.account_id,
        client_order_id=ticket.client_order_id,
        ticker=listing.ticker,
        event_ticker=listing.event_ticker,
        side=ticket.side,
        price_ticks=price,
        initial_lots=lots,
        remaining_lots=lots,
        filled_lots=0,
        status="resting",
        tif=ticket.time_in_force,
        self_trade=ticket.self_trade_prevention_type,
        created_ms=now_ms,
        updated_ms=now_ms,
        sequence=exchange.ledger.last_sequence + 1,
        expires_ms=None if ticket.expiration_time is None else ticket.expiration_time * 1000,
        cancel_on_pause=ticket.cancel_order_on_pause,
        subaccount=ticket.subaccount or 0,
        exchange_index=listing.exchange_index,
        order_group_id=ticket.order_group_id or None,
        post_only=ticket.post_only,
        reduce_only=ticket.reduce_only,
    )


def _price(listing: Listing, ticket: Ticket) -> Ticks:
    price = ticket.price_ticks
    if not listing.on_grid(price):
        raise nested(
            400, "invalid_price", "invalid price", f"{ticket.price} is not on the price grid of the market"
        )
    return price


def _allowed_lots(account: Account, order: OrderRecord, ticket: Ticket) -> Lots:
    """How much may trade: a reduce-only order no more than it reduces."""
    if not ticket.reduce_only:
        return order.initial_lots
    return reduce_only_lots(
        order.side, order.initial_lots, account.position_lots(order.ticker, order.subaccount)
    )


def _require_funds(
    exchange: Exchange, account: Account, listing: Listing, order: OrderRecord, ticket: Ticket
) -> None:
    """Prepaid collateral: the balance must cover this order beside all resting ones. What only closes needs nothing,
    unless it takes back released collateral. Raises Refused."""
    lots = _allowed_lots(account, order, ticket)
    needed = exchange.ledger.needed(
        account, msgspec.structs.replace(order, remaining_lots=lots), listing.fees
    )
    if ticket.time_in_force is TimeInForce.FOK:
        # It is not stopped half-way when money ends, so each of its fills must be able to round up its fee.
        needed += DIRECT_GRID * listing.book.makers_met(book_order(order, order.initial_lots))
    if needed > max(exchange.ledger.purse_of(order).available, ZERO):
        raise nested(400, "insufficient_balance", "insufficient balance")


def _run(exchange: Exchange, listing: Listing, order: OrderRecord, ticket: Ticket) -> OrderRecord:
    account = exchange.ledger.accounts[order.account_id]
    lots = _allowed_lots(account, order, ticket)
    if lots == 0:
        exchange.steps.book(order)
        exchange.floor.close_order(order.order_id, "ReduceOnlyCancel")
        return account.orders[order.order_id]
    outcome = exchange.floor.execute(
        listing,
        book_order(order, lots),
        ticket.time_in_force,
        post_only=ticket.post_only,
        self_trade=ticket.self_trade,
        admitted=lambda: order,
    )
    if outcome.refusal is not None:
        raise _refused(exchange, order, outcome.refusal)
    return account.orders[order.order_id]


def _refused(exchange: Exchange, order: OrderRecord, refusal: Refusal) -> Refused:
    if refusal is Refusal.POST_ONLY_CROSS:
        return invalid_order("post only cross")
    if order.client_order_id:
        exchange.steps.book(SpentId(order.account_id, order.client_order_id))
    return nested(409, refusal.value, "fill or kill: insufficient resting volume")
