"""What an account owns and has done, over REST: balance, orders, positions, fills, settlements, limits
(API.md 11, 12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

from aiohttp import web

from trading.domain.matching import TICKS_PER_DOLLAR
from trading.paper import views
from trading.paper.accounts import ApiKey
from trading.paper.auth import require_subaccount, require_unlocked
from trading.paper.exchange import Exchange
from trading.paper.ledger import Account
from trading.paper.limits import ORDER_READ_COST
from trading.paper.paging import page, whole, word
from trading.paper.positions import Position, own_price
from trading.paper.purses import Purse
from trading.paper.records import ZERO
from trading.paper.refusals import not_found
from trading.paper.selections import fills_asked, orders_asked, positions_asked, settlements_asked
from trading.paper.service import SERVICE, answer, reads
from trading.paper.wire import balance_text, cents, lots_decimal

MOST_DEPOSITS = 500


def routes(prefix: str) -> list[web.RouteDef]:
    """All private reads."""
    return [
        web.get(prefix + "/portfolio/balance", reads(balance, scope="read::portfolio_balance", billed=False)),
        web.get(prefix + "/portfolio/orders", reads(orders)),
        web.get(prefix + "/portfolio/orders/{order_id}", reads(order_one, cost=ORDER_READ_COST)),
        web.get(prefix + "/portfolio/positions", reads(positions)),
        web.get(prefix + "/portfolio/fills", reads(fills)),
        web.get(prefix + "/portfolio/settlements", reads(settlements)),
        web.get(prefix + "/portfolio/deposits", reads(deposits)),
        web.get(prefix + "/portfolio/withdrawals", reads(withdrawals)),
        web.get(prefix + "/portfolio/summary/total_resting_order_value", reads(resting_order_value)),
    ]


async def balance(request: web.Request, key: ApiKey) -> web.Response:
    """The balance does not deduct resting orders; its rate bucket is its own."""
    service = request.app[SERVICE]
    service.limits.balance(key.account_id)
    account, exchange = _account(request, key), service.exchange
    subaccount = require_subaccount(key, whole(request.query, "subaccount")) or 0
    if subaccount not in account.subaccounts:
        raise not_found("subaccount")
    shard = whole(request.query, "exchange_index")
    asked = [
        account.purse(subaccount, index) for index in range(len(exchange.shards)) if shard in {None, index}
    ]
    body = _balance_body(exchange, asked)
    if key.subaccount is not None:
        del body["balance_breakdown"]  # "omitted only when using a subaccount-restricted API key"
    return answer(body)


async def orders(request: web.Request, key: ApiKey) -> web.Response:
    """Orders, newest first."""
    archived, asked = request.app[SERVICE].archive.order_test(), orders_asked(request.query, key)
    kept = reversed(_account(request, key).orders.values())
    found = [order for order in kept if asked(order) and not archived(order)]
    shown, cursor = page(found, request.query, lambda order: order.order_id)
    return answer({"orders": [views.order_view(order) for order in shown], "cursor": cursor})


async def order_one(request: web.Request, key: ApiKey) -> web.Response:
    order = _account(request, key).orders.get(request.match_info["order_id"])
    is_here = order is not None and not request.app[SERVICE].archive.order_test()(order)
    if order is None or not is_here or key.subaccount not in {None, order.subaccount}:
        raise not_found("order")
    return answer({"order": views.order_view(order)})


async def positions(request: web.Request, key: ApiKey) -> web.Response:
    """Market positions (unsettled by default) and their sums by event."""
    query, account = request.query, _account(request, key)
    archived, asked = request.app[SERVICE].archive.position_test(), positions_asked(query, key)
    which = word(query, "settlement_status", ("unsettled", "settled", "all")) or "unsettled"
    held: list[Position] = []
    if which in {"unsettled", "all"}:
        held += account.positions()
    if which in {"settled", "all"}:
        held += account.settled_positions
    return answer(positions_body([p for p in held if asked(p) and not archived(p)], query))


async def fills(request: web.Request, key: ApiKey) -> web.Response:
    """Fills, newest first."""
    archived, asked = request.app[SERVICE].archive.fill_test(), fills_asked(request.query, key)
    found = [fill for fill in reversed(_account(request, key).fills) if asked(fill) and not archived(fill)]
    shown, cursor = page(found, request.query, lambda fill: f"{fill.trade_id}/{fill.order_id}")
    return answer({"fills": [views.fill_view(fill) for fill in shown], "cursor": cursor})


async def settlements(request: web.Request, key: ApiKey) -> web.Response:
    """Settlements of markets in which the account had traded, newest first."""
    archived, asked = request.app[SERVICE].archive.settlement_test(), settlements_asked(request.query, key)
    kept = reversed(_account(request, key).settlements)
    found = [item for item in kept if asked(item) and not archived(item)]
    shown, cursor = page(found, request.query, lambda item: f"{item.ticker}/{item.subaccount}/{item.at_ms}")
    return answer({"settlements": [views.settlement_view(item) for item in shown], "cursor": cursor})


async def deposits(request: web.Request, key: ApiKey) -> web.Response:
    """The first deposit, which every account of this exchange begins with."""
    require_unlocked(key)
    shown, cursor = page(
        [_account(request, key)], request.query, lambda account: account.account_id, most=MOST_DEPOSITS
    )
    return answer({"deposits": [views.deposit_view(account) for account in shown], "cursor": cursor})


async def withdrawals(request: web.Request, key: ApiKey) -> web.Response:
    """Money never leaves this exchange."""
    require_unlocked(key)
    page([], request.query, str, most=MOST_DEPOSITS)
    return answer({"withdrawals": [], "cursor": ""})


async def resting_order_value(request: web.Request, key: ApiKey) -> web.Response:
    """What the resting orders would cost if they were all filled, without fees, in cents and by shard."""
    account, exchange = _account(request, key), request.app[SERVICE].exchange
    values = dict.fromkeys(range(len(exchange.shards)), ZERO)
    for order in account.resting(key.subaccount):
        cost = own_price(order.side, order.price_ticks) * lots_decimal(order.remaining_lots)
        values[order.exchange_index] += cost
    shards = [{"exchange_index": index, "balance": balance_text(value)} for index, value in values.items()]
    total = sum(values.values(), ZERO)
    return answer({"total_resting_order_value": cents(total), "resting_order_value_breakdown": shards})


def positions_body(held: Sequence[Position], query: Mapping[str, str]) -> dict[str, object]:
    """One page of positions, with the sums by event of what it shows."""
    shown, cursor = page(held, query, lambda position: f"{position.ticker}/{position.updated_ms}")
    by_event: dict[str, list[Position]] = defaultdict(list)
    for position in shown:
        by_event[position.event_ticker].append(position)
    return {
        "market_positions": [views.position_view(position) for position in shown],
        "event_positions": [views.event_position_view(*item) for item in by_event.items()],
        "cursor": cursor,
    }


def _account(request: web.Request, key: ApiKey) -> Account:
    """The account as reads see it: as it stood a moment ago, where this exchange has a lag."""
    return request.app[SERVICE].reads_from().accounts[key.account_id]


def _value(exchange: Exchange, position: Position) -> Decimal:
    """What a position is worth: at the settlement value once determined, else at the middle of the quotes,
    else at the last price, else at its cost."""
    listing = exchange.catalog.listings.get(position.ticker)
    if listing is None or position.lots == 0:
        return position.cost
    bid, _, ask, _ = listing.best()
    mark = Decimal(bid + ask) / 2 if bid is not None and ask is not None else listing.last_ticks
    ticks = listing.value_ticks if listing.value_ticks is not None else mark
    if ticks is None:
        return position.cost
    own = ticks if position.lots > 0 else TICKS_PER_DOLLAR - ticks
    return Decimal(own) / TICKS_PER_DOLLAR * lots_decimal(abs(position.lots))


def _balance_body(exchange: Exchange, purses: Sequence[Purse]) -> dict[str, object]:
    amount = sum((purse.balance for purse in purses), ZERO)
    held = (position for purse in purses for position in purse.positions.values())
    value = sum((_value(exchange, position) for position in held), ZERO)
    value -= sum((sum(purse.released.values(), ZERO) for purse in purses), ZERO)  # it is in the balance
    shards = [
        {"exchange_index": purse.exchange_index, "balance": balance_text(purse.balance)} for purse in purses
    ]
    return {
        "balance": cents(amount),
        "balance_dollars": balance_text(amount),
        "portfolio_value": cents(value),
        "updated_ts": exchange.now_ms() // 1000,
        "balance_breakdown": shards,
    }
