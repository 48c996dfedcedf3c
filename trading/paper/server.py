"""The running server: one loopback port, REST under /trade-api/v2, the stream under /trade-api/ws/v2."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import WSCloseCode, web

from trading.paper import rest_orders, rest_portfolio, rest_public
from trading.paper.accounts import Member, load_or_make
from trading.paper.auth import Verifier
from trading.paper.exchange import Exchange
from trading.paper.faults import Fault, Faults
from trading.paper.hub import Hub
from trading.paper.journal import Journal, JournalFailed
from trading.paper.limits import TIERS, Limits
from trading.paper.records import AccountOpened
from trading.paper.refusals import bad_request
from trading.paper.service import SERVICE, Service, answer, refusals
from trading.paper.websocket import stream
from trading.paper.world import World

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
REST_PATH = "/trade-api/v2"
WS_PATH = "/trade-api/ws/v2"
JOURNAL_FILE = "journal.jsonl"
TICK_SECONDS = 0.1
RETIRE_EVERY_TICKS = 600
MOST_BODY_BYTES = 256 * 1024


class WorldEnded(Exception):
    """The world stopped with a failure: prices would stand still, so the exchange stops too."""


@dataclass(slots=True)
class PaperServer:
    """One paper exchange with its socket. `start`, then `run` until it is told to stop, then `stop`."""

    home: Path
    world: World
    port: int = 0
    tier: str = "advanced"
    with_faults: bool = False
    buffer_bytes: int = 8 * 1024 * 1024
    service: Service = field(init=False)
    _runner: web.AppRunner | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def rest_url(self) -> str:
        return f"http://{HOST}:{self.port}{REST_PATH}"

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self.port}{WS_PATH}"

    async def start(self) -> None:
        """Read accounts and journal, begin the world, open the port. Raises AccountsUnreadable,
        JournalDamaged, OSError."""
        members = load_or_make(self.home)
        self.service = build_service(self.home / JOURNAL_FILE, members, self.tier, self.buffer_bytes)
        self._tasks = [
            asyncio.create_task(self.world.run(self.service.exchange), name="paper world"),
            asyncio.create_task(self._pass_time_forever(), name="paper clock"),
        ]
        await asyncio.sleep(0)  # the world lists its first markets before the port opens
        self._runner = web.AppRunner(
            application(self.service, with_faults=self.with_faults), access_log=None, shutdown_timeout=0.5
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. A world that ends without failure leaves the exchange open. Raises
        WorldEnded, JournalFailed."""
        stopping = asyncio.create_task(stop.wait())
        watched: set[asyncio.Task[Any]] = {stopping, *self._tasks}
        try:
            while not stopping.done():
                done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopping}:
                    self._require_health(task)
        finally:
            stopping.cancel()

    async def stop(self) -> None:
        """Close sockets, end the world, write the journal's rest."""
        if not self._tasks:
            return  # it never started
        await asyncio.gather(*(_close(socket) for socket in list(self.service.sockets)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._runner.cleanup()
        with contextlib.suppress(JournalFailed):
            await self.service.journal.close()

    async def _pass_time_forever(self) -> None:
        exchange, ticks = self.service.exchange, 0
        while True:
            if self.service.journal.failure is not None:
                raise JournalFailed(str(self.service.journal.failure))
            exchange.pass_time()
            ticks += 1
            if ticks % RETIRE_EVERY_TICKS == 0:
                exchange.lives.retire(exchange.now())
            await asyncio.sleep(TICK_SECONDS)

    @staticmethod
    def _require_health(task: asyncio.Task[Any]) -> None:
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, JournalFailed):
            raise failure
        if failure is not None:
            raise WorldEnded(f"{task.get_name()}: {failure!r}") from failure


async def _close(socket: web.WebSocketResponse) -> None:
    """Say goodbye, but do not wait for one who does not listen."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.3):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"exchange stops")


def build_service(journal_path: Path, members: list[Member], tier: str, buffer_bytes: int) -> Service:
    """Engine, journal, hub and guards, put together inside the running loop."""
    journal = Journal(journal_path)
    exchange = Exchange(journal)
    hub = Hub(exchange, journal)
    journal.start()
    for member in members:
        exchange.open_account(AccountOpened(member.account_id, member.name, member.balance))
    keys = {key.key_id: key for member in members for key in member.keys}
    return Service(
        exchange=exchange,
        journal=journal,
        hub=hub,
        verifier=Verifier(keys, exchange.now_ms),
        limits=Limits(TIERS[tier], time.monotonic),
        faults=Faults(),
        buffer_bytes=buffer_bytes,
    )


def application(service: Service, *, with_faults: bool) -> web.Application:
    """The aiohttp application; `/__faults` exists only on request."""
    app = web.Application(middlewares=[refusals], client_max_size=MOST_BODY_BYTES)
    app[SERVICE] = service
    app.add_routes(rest_public.routes(REST_PATH))
    app.add_routes(rest_portfolio.routes(REST_PATH))
    app.add_routes(rest_orders.routes(REST_PATH))
    app.router.add_get(WS_PATH, stream)
    if with_faults:
        app.add_routes(
            [web.post("/__faults", _plan), web.get("/__faults", _planned), web.delete("/__faults", _forget)]
        )
    return app


async def _plan(request: web.Request) -> web.Response:
    try:
        fault = msgspec.json.decode(await request.read(), type=Fault)
    except msgspec.DecodeError as error:
        raise bad_request(str(error)) from error
    request.app[SERVICE].faults.plan(fault)
    return answer({}, 201)


async def _planned(request: web.Request) -> web.Response:
    return answer({"faults": request.app[SERVICE].faults.planned})


async def _forget(request: web.Request) -> web.Response:
    request.app[SERVICE].faults.planned.clear()
    return web.Response(status=204)
