"""Planned faults at the door: the control endpoint, and what becomes of requests (`--faults` only)."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from trading.paper import fault_stream
from trading.paper.fault_bodies import EDITS, edited
from trading.paper.faults import Asked, Dropped, Fault, Plan, asked
from trading.paper.refusals import Refused, bad_request, nested, too_many_requests
from trading.paper.service import SERVICE, Handler, answer

log = logging.getLogger(__name__)

CONTROL_PATH = "/__faults"


def routes() -> list[web.RouteDef]:
    """The control endpoint; unsigned, for it exists only where tests are."""
    return [
        web.post(CONTROL_PATH, _add_rows),
        web.get(CONTROL_PATH, _show),
        web.delete(CONTROL_PATH, _forget),
    ]


def faulty(prefix: str, ws_path: str) -> Middleware:
    """The middleware that lets planned faults happen to requests below `prefix` and to handshakes."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == ws_path:
            fault_stream.require_acceptance(request.app[SERVICE].faults)
        if not request.path.startswith(prefix):
            return await handler(request)
        # Read now: a client that gives up does not take its request back.
        await request.read()
        known = asked(
            request.method, request.path.removeprefix(prefix), has_cursor=bool(request.query.get("cursor"))
        )
        return await _tried(request, handler, known)

    return middleware


async def _tried(request: web.Request, handler: Handler, known: Asked) -> web.StreamResponse:
    faults = request.app[SERVICE].faults
    before = faults.on_request(known, "before")
    if before is not None:
        if before.kind.startswith("late_"):
            _carry_out_late(request, handler, before)
        else:
            await asyncio.sleep(before.seconds)
        request = _changed_request(request, before)
    response = await handler(request)
    after = faults.on_request(known, "after")
    if after is None:
        return response
    await asyncio.sleep(after.seconds)
    return await _changed_answer(request, response, after)


def _changed_request(request: web.Request, fault: Fault) -> web.Request:
    """What goes on to the exchange. Raises Dropped or Refused for what does not."""
    match fault.kind:
        case "drop_before" | "late_drop":
            raise Dropped
        case "error_before" | "late_error":
            raise _failure(fault)
        case "rate_limited":
            raise too_many_requests()
        case "page_short":
            return request.clone(rel_url=request.rel_url.update_query(limit="1"))
    return request


async def _changed_answer(
    request: web.Request, response: web.StreamResponse, fault: Fault
) -> web.StreamResponse:
    """What the client gets of an answer that the exchange gave. Raises Dropped or Refused."""
    body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
    match fault.kind:
        case "drop_after":
            raise Dropped
        case "error_after":
            raise _failure(fault)
        case "broken_off":
            return await _break_off(request, response.status, body)
        case "page_repeats":
            return _answer(_repeating(body, request.query.get("cursor", "")), response.status)
    return _answer(edited(fault, body), response.status) if fault.kind in EDITS else response


def _failure(fault: Fault) -> Refused:
    return nested(fault.status, "service_unavailable", "planned fault")


def _answer(body: bytes, status: int) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _repeating(body: bytes, cursor: str) -> bytes:
    """The page with the cursor that led to it: who follows it never arrives."""
    page = msgspec.json.decode(body)
    page["cursor"] = cursor or page.get("cursor") or "loop"
    return msgspec.json.encode(page)


async def _break_off(request: web.Request, status: int, body: bytes) -> web.StreamResponse:
    """Promise the whole body, send half of it, and end the connection."""
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    raise Dropped


def _carry_out_late(request: web.Request, handler: Handler, fault: Fault) -> None:
    """Accept the request when its client has long had another answer."""
    closing = request.app[SERVICE].closing

    async def later() -> None:
        await asyncio.sleep(fault.seconds)
        try:
            await handler(request)
        except Refused as refused:
            log.info("a late request was refused: %s", refused)

    task = asyncio.create_task(later())
    closing.add(task)
    task.add_done_callback(closing.discard)


async def _add_rows(request: web.Request) -> web.Response:
    plan = _plan(await request.read())
    service = request.app[SERVICE]
    for row in service.faults.plan(plan):
        fault_stream.act_now(row, service)
    return answer({"faults": service.faults.shown()}, 201)


def _plan(body: bytes) -> Plan:
    """A plan, a list of rows or one row. Raises Refused."""
    try:
        plan = _read(body)
        for fault in plan.faults:
            fault.require_sense()
    except (msgspec.DecodeError, ValueError) as error:
        raise bad_request(str(error)) from error
    return plan


def _read(body: bytes) -> Plan:
    if body.lstrip().startswith(b"["):
        return Plan(msgspec.json.decode(body, type=list[Fault]))
    if b'"faults"' in body:
        return msgspec.json.decode(body, type=Plan)
    return Plan([msgspec.json.decode(body, type=Fault)])


async def _show(request: web.Request) -> web.Response:
    return answer({"faults": request.app[SERVICE].faults.shown()})


async def _forget(request: web.Request) -> web.Response:
    fault_stream.forget(request.app[SERVICE])
    return web.Response(status=204)
