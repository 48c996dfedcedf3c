"""A proxy between any client and an exchange that holds every request and every answer against openapi.yaml.

Where the published contract is not at hand it only passes on.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web

from tests.contract import at_hand, operation

_PASSED_ON = ("KALSHI-ACCESS-KEY", "KALSHI-ACCESS-TIMESTAMP", "KALSHI-ACCESS-SIGNATURE", "Content-Type")


@dataclass
class Judge:
    """What passed through: how often each operation answered with each status, and every fault that was found."""

    upstream: str
    origin: str = ""
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def succeeded(self) -> set[str]:
        """The operations that answered with success, exactly as published, at least once."""
        return {name for name, status in self.answered if status < 300}

    async def handle(self, session: aiohttp.ClientSession, request: web.Request) -> web.Response:
        """Pass one request on, judge both ways, and hand the answer back untouched."""
        body = await request.read()
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = self.upstream + request.raw_path
        async with session.request(
            request.method, _verbatim(url), data=body or None, headers=headers
        ) as told:
            answer = await told.read()
        self._judge(request, body, told.status, answer)
        kind = told.headers.get("Content-Type", "application/json").partition(";")[0]
        return web.Response(status=told.status, body=answer, content_type=kind)

    def _judge(self, request: web.Request, body: bytes, status: int, answer: bytes) -> None:
        if not at_hand():
            return
        path, _, query = request.raw_path.partition("?")
        known = operation(request.method, path)
        if known is None:
            self.faults.append(f"{request.method} {path} is not in the contract")
            return
        asked = known.request_faults(parse_qsl(query, keep_blank_values=True), body) if status < 400 else []
        told = known.answer_faults(status, answer)
        self.faults += [f"{known.name} {status}: {fault}" for fault in (*asked, *told)]
        if not told:
            self.answered[known.name, status] += 1


def _verbatim(url: str) -> aiohttp.typedefs.StrOrURL:
    from yarl import URL

    return URL(url, encoded=True)  # the path was signed as it is


@contextlib.asynccontextmanager
async def judging(upstream: str) -> AsyncIterator[Judge]:
    """Put a judge before the exchange at an origin such as `http://127.0.0.1:8001`; its own is `judge.origin`."""
    judge = Judge(upstream)
    async with aiohttp.ClientSession(auto_decompress=True) as session:

        async def handle(request: web.Request) -> web.Response:
            return await judge.handle(session, request)

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            judge.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield judge
        finally:
            await runner.cleanup()
