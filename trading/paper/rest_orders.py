"""Order writes over REST: V2 create, cancel and cancel-all; the legacy paths that are gone (API.md 11)."""

from __future__ import annotations

from decimal import Decimal

from aiohttp import web

from trading.domain.matching import Lots
from trading.domain.orders import BookSide
from trading.paper import entry
from trading.paper.accounts import ApiKey
from trading.paper.limits import CANCEL_COST
from trading.paper.paging import whole
from trading.paper.records import OrderRecord
from trading.paper.refusals import bad_request, flat, nested, not_found
from trading.paper.service import SERVICE, answer, writes
from trading.paper.tickets import read_ticket
from trading.paper.wire import count_fp, lots_decimal, money

_PRICE_DECIMALS = Decimal("0.0001")


def routes(prefix: str) -> list[web.RouteDef]:
    """All order writes."""
    orders = prefix + "/portfolio/events/orders"
    legacy = prefix + "/portfolio/orders"
    return [
        web.post(orders, writes(create)),
        web.delete(orders, writes(cancel_all, cost=CANCEL_COST)),
        web.delete(orders + "/{order_id}", writes(cancel, cost=CANCEL_COST)),
        web.post(legacy, writes(gone)),
        web.post(legacy + "/batched", writes(gone)),
        web.delete(legacy + "/batched", writes(gone, cost=CANCEL_COST)),
        web.delete(legacy + "/{order_id}", writes(gone, cost=CANCEL_COST)),
        web.post(legacy + "/{order_id}/amend", writes(gone)),
        web.post(legacy + "/{order_id}/decrease", writes(gone)),
    ]


async def create(request: web.Request, key: ApiKey) -> web.Response:
    """201 with the counts after matching; there is no status in the answer."""
    service = request.app[SERVICE]
    if request.content_type != "application/json":
        raise flat(400, "invalid_content_type", "the content type must be application/json")
    body = await request.read()
    await service.faults.before("create")
    order = entry.create(service.exchange, key.account_id, read_ticket(body))
    await service.journal.settled()
    await service.faults.after("create")
    return answer(_created(order), 201)


async def cancel(request: web.Request, key: ApiKey) -> web.Response:
    """200 with what was taken off; 404 when the order does not rest, canceled and executed alike."""
    service, order_id = request.app[SERVICE], request.match_info["order_id"]
    await service.faults.before("cancel")
    account = service.exchange.ledger.accounts[key.account_id]
    known, ticker = account.orders.get(order_id), request.query.get("market_ticker")
    if known is not None and ticker and ticker != known.ticker:
        raise nested(400, "order_ticker_mismatch", "order ticker mismatch")
    if whole(request.query, "exchange_index") not in {None, -1, 0} or whole(request.query, "subaccount"):
        raise not_found("order")
    order, reduced = entry.cancel(service.exchange, key.account_id, order_id)
    await service.journal.settled()
    await service.faults.after("cancel")
    return answer(_canceled(order, reduced))


async def cancel_all(request: web.Request, key: ApiKey) -> web.Response:
    """204 without a body."""
    service = request.app[SERVICE]
    await service.faults.before("cancel_all")
    if whole(request.query, "subaccount"):
        raise bad_request("this exchange has the primary subaccount only")
    entry.cancel_all(service.exchange, key.account_id)
    await service.journal.settled()
    await service.faults.after("cancel_all")
    return web.Response(status=204)


async def gone(request: web.Request, key: ApiKey) -> web.Response:
    """Legacy order writes were switched off in June 2026."""
    raise nested(
        410, "deprecated_v1_order_endpoint", "this endpoint is deprecated", "use /portfolio/events/orders"
    )


def _created(order: OrderRecord) -> dict[str, object]:
    body: dict[str, object] = {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "fill_count": count_fp(order.filled_lots),
        "remaining_count": count_fp(order.remaining_lots),
        "ts_ms": order.updated_ms,
    }
    if order.filled_lots:
        count = lots_decimal(order.filled_lots)
        own = order.taker_cost / count
        body["average_fill_price"] = _price_text(own if order.side is BookSide.BID else 1 - own)
        body["average_fee_paid"] = money(order.taker_fees / count)
    return body


def _price_text(price: Decimal) -> str:
    """Four decimals as every price, six where an average needs them."""
    if price == price.quantize(_PRICE_DECIMALS):
        return f"{price.quantize(_PRICE_DECIMALS):f}"
    return money(price)


def _canceled(order: OrderRecord, reduced: Lots) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "reduced_by": count_fp(reduced),
        "ts_ms": order.updated_ms,
    }
