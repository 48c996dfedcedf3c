"""The exchange itself over REST: status, schedule, freshness of reads (API.md 8)."""

from __future__ import annotations

from aiohttp import web

from trading.paper.maintenance import windows
from trading.paper.service import SERVICE, answer, public

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ALL_DAY = [{"open_time": "00:00", "close_time": "23:59"}]
_ENDLESS = ("2025-01-01T00:00:00Z", "2100-01-01T00:00:00Z")


def routes(prefix: str) -> list[web.RouteDef]:
    """Reads of the exchange."""
    table = {"/status": status, "/schedule": schedule, "/user_data_timestamp": user_data_timestamp}
    return [web.get(f"{prefix}/exchange{path}", public(handler)) for path, handler in table.items()]


async def status(request: web.Request) -> web.Response:
    """The status body; while inactive it is sent with 503 (API.md 5)."""
    service = request.app[SERVICE]
    shards, upkeep = service.exchange.shards, service.exchange.upkeep
    body = {**shards.statuses(service.introduction), **upkeep.resumes()}
    return answer(body, 200 if shards.runs(0) else 503)


async def schedule(request: web.Request) -> web.Response:
    """Open round the clock, but for the weekly maintenance where this exchange keeps it."""
    service = request.app[SERVICE]
    week = {"start_time": _ENDLESS[0], "end_time": _ENDLESS[1], **dict.fromkeys(DAYS, _ALL_DAY)}
    announced = windows(service.exchange.now()) if service.exchange.upkeep.keeps else []
    body = {"standard_hours": [week], "maintenance_windows": [window.payload() for window in announced]}
    return answer({"schedule": body})


async def user_data_timestamp(request: web.Request) -> web.Response:
    """As of when balance, orders, fills and positions are read."""
    return answer({"as_of_time": request.app[SERVICE].lag.as_of()})
