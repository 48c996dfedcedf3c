"""What an account owns and has done, over REST: balance, orders, positions, fills, settlements, limits
(API.md 11, 12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from aiohttp import web

from trading.domain.matching import TICKS_PER_DOLLAR
from trading.paper import views
from trading.paper.accounts import ApiKey
from trading.paper.definitions import EXCHANGE_INDEX
from trading.paper.exchange import Exchange
from trading.paper.ledger import Account
from trading.paper.limits import ORDER_READ_COST
from trading.paper.paging import listed, page, whole, within, word
from trading.paper.positions import Position
from trading.paper.records import ZERO
from trading.paper.refusals import bare, not_found
from trading.paper.service import SERVICE, answer, reads
from trading.paper.wire import balance_text, cents, lots_decimal

ORDER_STATUSES = ("resting", "canceled", "executed")
COUNT_FILTERS = frozenset({"position", "total_traded"})


def routes(prefix: str) -> list[web.RouteDef]:
    """All private reads."""
    return [
        web.get(prefix + "/portfolio/balance", reads(balance, scope="read::portfolio_balance", billed=False)),
        web.get(prefix + "/portfolio/orders", reads(orders)),
        web.get(prefix + "/portfolio/orders/{order_id}", reads(order_one, cost=ORDER_READ_COST)),
        web.get(prefix + "/portfolio/positions", reads(positions)),
        web.get(prefix + "/portfolio/fills", reads(fills)),
        web.get(prefix + "/portfolio/settlements", reads(settlements)),
        web.get(prefix + "/account/limits", reads(account_limits)),
    ]


async def balance(request: web.Request, key: ApiKey) -> web.Response:
    """The balance does not deduct resting orders; its rate bucket is its own."""
    service = request.app[SERVICE]
    service.limits.balance(key.account_id)
    if not _is_here(request):
        return answer(_balance_body(ZERO, ZERO, service.exchange.now_ms(), shards=False))
    account = service.exchange.ledger.accounts[key.account_id]
    value = sum((_value(service.exchange, position) for position in account.positions.values()), ZERO)
    return answer(_balance_body(account.balance, value, service.exchange.now_ms(), shards=True))


async def orders(request: web.Request, key: ApiKey) -> web.Response:
    """Orders, newest first."""
    query = request.query
    status, ticker, events = (
        word(query, "status", ORDER_STATUSES),
        query.get("ticker"),
        listed(query, "event_ticker"),
    )
    fits = within(query, "min_ts", "max_ts")
    found = [
        order
        for order in reversed(_account(request, key).orders.values())
        if (status is None or order.status == status)
        and (not ticker or order.ticker == ticker)
        and (events is None or order.event_ticker in events)
        and fits(order.created_ms // 1000)
        and _is_here(request)
    ]
    shown, cursor = page(found, query, lambda order: order.order_id)
    return answer({"orders": [views.order_view(order) for order in shown], "cursor": cursor})


async def order_one(request: web.Request, key: ApiKey) -> web.Response:
    order = _account(request, key).orders.get(request.match_info["order_id"])
    if order is None:
        raise not_found("order")
    return answer({"order": views.order_view(order)})


async def positions(request: web.Request, key: ApiKey) -> web.Response:
    """Market positions (unsettled by default) and their sums by event."""
    query, account = request.query, _account(request, key)
    which = word(query, "settlement_status", ("unsettled", "settled", "all")) or "unsettled"
    held: list[Position] = []
    if which in {"unsettled", "all"}:
        held += account.positions.values()
    if which in {"settled", "all"}:
        held += account.settled_positions
    shown, cursor = page(_positions_asked(request, held), query, lambda position: position.ticker)
    by_event: dict[str, list[Position]] = defaultdict(list)
    for position in shown:
        by_event[position.event_ticker].append(position)
    body = {
        "market_positions": [views.position_view(position) for position in shown],
        "event_positions": [views.event_position_view(*item) for item in by_event.items()],
        "cursor": cursor,
    }
    return answer(body)


async def fills(request: web.Request, key: ApiKey) -> web.Response:
    """Fills, newest first."""
    query = request.query
    tickers, order_id, fits = (
        listed(query, "ticker"),
        query.get("order_id"),
        within(query, "min_ts", "max_ts"),
    )
    found = [
        fill
        for fill in reversed(_account(request, key).fills)
        if (tickers is None or fill.ticker in tickers)
        and (not order_id or fill.order_id == order_id)
        and fits(fill.at_ms // 1000)
        and _is_here(request)
    ]
    shown, cursor = page(found, query, lambda fill: f"{fill.trade_id}/{fill.order_id}")
    return answer({"fills": [views.fill_view(fill) for fill in shown], "cursor": cursor})


async def settlements(request: web.Request, key: ApiKey) -> web.Response:
    """Settlements of markets in which the account had traded, newest first."""
    query = request.query
    ticker, event, fits = query.get("ticker"), query.get("event_ticker"), within(query, "min_ts", "max_ts")
    found = [
        item
        for item in reversed(_account(request, key).settlements)
        if (not ticker or item.ticker == ticker)
        and (not event or item.event_ticker == event)
        and fits(item.at_ms // 1000)
        and _is_here(request)
    ]
    shown, cursor = page(found, query, lambda item: f"{item.ticker}/{item.at_ms}")
    return answer({"settlements": [views.settlement_view(item) for item in shown], "cursor": cursor})


async def account_limits(request: web.Request, key: ApiKey) -> web.Response:
    return answer(request.app[SERVICE].limits.payload())


def _account(request: web.Request, key: ApiKey) -> Account:
    return request.app[SERVICE].exchange.ledger.accounts[key.account_id]


def _is_here(request: web.Request) -> bool:
    """Whether the asked subaccount and shard are the ones that this exchange has. Raises Refused."""
    asked = (
        whole(request.query, "subaccount") or 0,
        whole(request.query, "exchange_index") or EXCHANGE_INDEX,
    )
    return asked == (0, EXCHANGE_INDEX)


def _positions_asked(request: web.Request, held: Iterable[Position]) -> list[Position]:
    query = request.query
    ticker, event = query.get("ticker"), query.get("event_ticker")
    counts = listed(query, "count_filter") or frozenset()
    if not counts <= COUNT_FILTERS:
        raise bare("count_filter takes position and total_traded")
    return [
        position
        for position in held
        if (not ticker or position.ticker == ticker)
        and (not event or position.event_ticker == event)
        and (
            not counts
            or ("position" in counts and position.lots)
            or ("total_traded" in counts and position.traded)
        )
        and _is_here(request)
    ]


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


def _balance_body(amount: Decimal, value: Decimal, now_ms: int, *, shards: bool) -> dict[str, object]:
    shard = {"exchange_index": EXCHANGE_INDEX, "balance": balance_text(amount)}
    return {
        "balance": cents(amount),
        "balance_dollars": balance_text(amount),
        "portfolio_value": cents(value),
        "updated_ts": now_ms // 1000,
        "balance_breakdown": [shard] if shards else [],
    }
