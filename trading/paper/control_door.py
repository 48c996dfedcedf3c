"""The exchange's own levers, for tests against a real process: `POST /__control` (with `--faults` only).

{"act": "pause", "what": "trading"|"exchange", "active": false, "shard": 1}     shard omitted: all
{"act": "series_fee", "ticker", "fee_type", "multiplier": "0.5", "in_seconds": 60}
{"act": "event_fee", "ticker", "fee_type"|null, "multiplier"|null, "in_seconds": 60}
{"act": "market", "ticker", "to": "paused"|"open"|"closed"|"void"|"disputed"|"settled"}
{"act": "determine", "ticker", "result": "yes"|"no"|"scalar", "value_ticks": 2500}
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Literal

import msgspec
from aiohttp import web

from trading.paper.bodies import read_body
from trading.paper.exchange import Exchange
from trading.paper.refusals import nested, not_found
from trading.paper.service import SERVICE

CONTROL_PATH = "/__control"


class Pause(msgspec.Struct, frozen=True, tag_field="act", tag="pause"):
    what: Literal["trading", "exchange"]
    active: bool
    shard: int | None = None


class SeriesFee(msgspec.Struct, frozen=True, tag_field="act", tag="series_fee"):
    ticker: str
    fee_type: str
    multiplier: Decimal
    in_seconds: float = 0.0


class EventFee(msgspec.Struct, frozen=True, tag_field="act", tag="event_fee"):
    ticker: str
    fee_type: str | None
    multiplier: Decimal | None
    in_seconds: float = 0.0


class MarketMove(msgspec.Struct, frozen=True, tag_field="act", tag="market"):
    ticker: str
    to: Literal["paused", "open", "closed", "void", "disputed", "settled"]


class Determination(msgspec.Struct, frozen=True, tag_field="act", tag="determine"):
    ticker: str
    result: Literal["yes", "no", "scalar"]
    value_ticks: int | None = None


Act = Pause | SeriesFee | EventFee | MarketMove | Determination


def routes() -> list[web.RouteDef]:
    """Unsigned, for it exists only where tests are."""
    return [web.post(CONTROL_PATH, _act)]


async def _act(request: web.Request) -> web.Response:
    """204 once it is done and durable; 404 for what is not listed, 400 for what cannot be."""
    service, act = request.app[SERVICE], await read_body(request, _Acts)
    try:
        carry_out(service.exchange, act)
    except KeyError as error:
        raise not_found(str(error)) from error
    except (ValueError, IndexError) as error:
        raise nested(400, "invalid_parameters", "invalid parameters", str(error)) from error
    await service.journal.settled()
    return web.Response(status=204)


def carry_out(exchange: Exchange, act: Act) -> None:
    """Pull one lever. Raises KeyError, ValueError, IndexError."""
    match act:
        case Pause():
            exchange.set_active(**{act.what: act.active}, shard=act.shard)
        case SeriesFee():
            at = exchange.now() + timedelta(seconds=act.in_seconds)
            exchange.change_series_fee(act.ticker, act.fee_type, act.multiplier, at)
        case EventFee():
            at = exchange.now() + timedelta(seconds=act.in_seconds)
            exchange.change_event_fee(act.ticker, act.fee_type, act.multiplier, at)
        case MarketMove():
            _moves(exchange)[act.to](act.ticker)
        case Determination():
            exchange.determine(act.ticker, act.result, act.value_ticks)


def _moves(exchange: Exchange) -> dict[str, Callable[[str], None]]:
    return {
        "paused": exchange.pause_market,
        "open": exchange.open_market,
        "closed": exchange.close_market,
        "void": exchange.void,
        "disputed": exchange.dispute,
        "settled": exchange.settle,
    }


_Acts: type[Act] = Act  # type: ignore[assignment]  # msgspec decodes a union as one type
