"""What every request handler needs, and how handlers are guarded: identity, scope, rate limit, durability,
error bodies."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from aiohttp import web

from trading.paper.accounts import ApiKey
from trading.paper.archive import Archive
from trading.paper.auth import HEADERS, Verifier, require_scope
from trading.paper.commands import Session
from trading.paper.exchange import Exchange
from trading.paper.faults import Dropped, Faults
from trading.paper.hub import Hub
from trading.paper.journal import Journal, JournalFailed
from trading.paper.keyring import Keyring
from trading.paper.lag import LaggedReads
from trading.paper.ledger import Ledger
from trading.paper.limits import DEFAULT_COST, UNSCOPED, Limits, Route, route_of
from trading.paper.refusals import Refused, nested
from trading.paper.stream_limits import StreamLimits

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KeyedHandler = Callable[[web.Request, ApiKey], Awaitable[web.StreamResponse]]


class Connection(Protocol):
    """One client of the stream."""

    account_id: str
    session: Session

    def cut(self) -> None:
        """End the connection without a goodbye."""


@dataclass(slots=True)
class Service:
    """The parts of one running paper exchange."""

    exchange: Exchange
    journal: Journal
    hub: Hub
    verifier: Verifier
    limits: Limits
    faults: Faults
    keyring: Keyring
    archive: Archive
    lag: LaggedReads
    with_faults: bool = False
    introduction: str = "paper exchange"
    stream_limits: StreamLimits = field(default_factory=StreamLimits)
    connections: dict[web.WebSocketResponse, Connection] = field(default_factory=dict)
    closing: set[asyncio.Task[Any]] = field(default_factory=set)

    def reads_from(self) -> Ledger:
        """The ledger that balance, orders, fills and positions are read from."""
        return self.lag.ledger()


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def signed_path(request: web.Request) -> str:
    """The path exactly as received, without its query: that is what was signed."""
    return request.raw_path.partition("?")[0]


def public(handler: Handler) -> Handler:
    """Anyone may ask; whoever signs is checked and billed like everywhere."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        if any(name in request.headers for name in HEADERS):
            service = request.app[SERVICE]
            key = service.verifier.identify(request.headers, request.method, signed_path(request))
            service.limits.read(key.account_id)
        return await handler(request)

    return guarded


def reads(
    handler: KeyedHandler, *, scope: str = "read", cost: int = DEFAULT_COST, billed: bool = True
) -> Handler:
    """Only for a key with the scope. What the answer shows is durable before it leaves."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        key = service.verifier.identify(request.headers, request.method, signed_path(request))
        require_scope(key, scope)
        if billed:
            service.limits.read(key.account_id, cost)
        response = await handler(request, key)
        await service.journal.settled()
        return response

    return guarded


async def routed(request: web.Request) -> Route:
    """Which shard a single write is billed to, read from its query and its body (API.md 7)."""
    if request.app[SERVICE].limits.shards == 1:
        return UNSCOPED
    try:
        body = msgspec.json.decode(await request.read() or b"{}")
    except msgspec.DecodeError:
        return UNSCOPED  # it will be refused
    return route_of(request.query, body if isinstance(body, dict) else {})


def writes(
    handler: KeyedHandler, *, cost: int = DEFAULT_COST, scope: str = "write::trade", billed: bool = True
) -> Handler:
    """Only for a key that has the scope. Acceptance and refusal alike leave after the journal is on the disk. A batch
    bills itself (`billed=False`), once it knows how many items it has."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        key = service.verifier.identify(request.headers, request.method, signed_path(request))
        require_scope(key, scope)
        if billed:
            service.limits.write(key.account_id, cost, await routed(request))
        try:
            return await handler(request, key)
        finally:
            await service.journal.settled()

    return guarded


# Answers of the framework itself, in the exchange's words.
_FRAMEWORK: dict[int, tuple[str, str]] = {
    404: ("not_found", "not found"),
    405: ("method_not_allowed", "method not allowed"),
    413: ("bad_request", "request body too large"),
}


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals and failures into the exchange's bodies; end the connection where a fault demands it."""
    try:
        return await handler(request)
    except Refused as refused:
        return answer(refused.body, refused.status)
    except Dropped:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
    except JournalFailed as failure:
        log.critical("the journal cannot be written: %s", failure)
        return _refuse(503, "service_unavailable", "service unavailable")
    except web.HTTPException as error:
        return _refuse(error.status, *_FRAMEWORK.get(error.status, ("bad_request", error.reason)))
    except Exception:  # whatever else happens, the client must get the real exchange's shape
        log.exception("unexpected failure of %s %s", request.method, request.path)
        return _refuse(500, "internal_server_error", "internal server error")


def _refuse(status: int, code: str, message: str) -> web.Response:
    refused = nested(status, code, message)
    return answer(refused.body, refused.status)
