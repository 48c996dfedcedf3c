"""The running server: one loopback port, REST under /trade-api/v2, the stream under /trade-api/ws/v2."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web

from trading.paper import (
    control_door,
    fault_door,
    rest_account,
    rest_batches,
    rest_candles,
    rest_catalog,
    rest_exchange,
    rest_groups,
    rest_history,
    rest_orders,
    rest_portfolio,
    rest_public,
    rest_queues,
    rest_subaccounts,
)
from trading.paper.archive import Archive
from trading.paper.auth import Verifier
from trading.paper.conduct import Conduct
from trading.paper.exchange import Exchange
from trading.paper.faults import Faults
from trading.paper.fill_models import FillModel
from trading.paper.frontdoor import IDENTITIES, Frontdoor
from trading.paper.hub import Hub
from trading.paper.journal import Journal, JournalFailed
from trading.paper.keyring import Keyring
from trading.paper.lag import LaggedReads
from trading.paper.limits import TIERS, Limits
from trading.paper.records import AccountOpened
from trading.paper.service import SERVICE, Service, refusals
from trading.paper.stream_limits import StreamLimits
from trading.paper.websocket import stream
from trading.paper.world import World

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
REST_PATH = "/trade-api/v2"
WS_PATH = "/trade-api/ws/v2"
JOURNAL_FILE = "journal.jsonl"
TICK_SECONDS = 0.1
RETIRE_EVERY_TICKS = 600
MOST_BODY_BYTES = 4 * 1024 * 1024  # a batch of cancels for the whole write bucket of the highest tier


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
    stream_limits: StreamLimits = field(default_factory=StreamLimits)
    shards: int = 1
    door: Frontdoor = field(default_factory=Frontdoor)
    fill_model: FillModel = FillModel.PESSIMISTIC
    conduct: Conduct = field(default_factory=Conduct)
    service: Service = field(init=False)
    _runner: web.AppRunner | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def rest_url(self) -> str:
        return f"http{self.door.secured}://{HOST}:{self.port}{REST_PATH}"

    @property
    def ws_url(self) -> str:
        return f"ws{self.door.secured}://{HOST}:{self.port}{WS_PATH}"

    async def start(self) -> None:
        """Read accounts and journal, begin the world, open the port. Raises AccountsUnreadable,
        JournalDamaged, DoorUnusable, WorldEnded, OSError."""
        ssl_context = self.door.ssl_context()
        self.service = build_service(
            self.home,
            self.tier,
            self.stream_limits,
            shards=self.shards,
            fill_model=self.fill_model,
            conduct=self.conduct,
        )
        self.service.with_faults = self.with_faults
        self.service.introduction = IDENTITIES[self.door.identity]
        self._tasks = [
            asyncio.create_task(self.world.run(self.service.exchange), name="paper world"),
            asyncio.create_task(self._pass_time_forever(), name="paper clock"),
        ]
        await asyncio.sleep(0)  # the world lists its first markets before the port opens
        for task in self._tasks:
            if task.done():
                self._require_health(task)
        await self.service.journal.settled()  # what was listed has been told before anybody listens
        self._runner = web.AppRunner(application(self.service), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port, ssl_context=ssl_context)
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
        await asyncio.gather(*(_close(socket) for socket in list(self.service.connections)))
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


def build_service(
    home: Path,
    tier: str,
    stream_limits: StreamLimits,
    *,
    shards: int = 1,
    fill_model: FillModel = FillModel.PESSIMISTIC,
    conduct: Conduct,
) -> Service:
    """Engine, journal, hub and guards, put together inside the running loop. Raises AccountsUnreadable,
    JournalDamaged."""
    keyring = Keyring(home)
    journal = Journal(home / JOURNAL_FILE)
    exchange = Exchange(journal, shards=shards, fill_model=fill_model)
    exchange.upkeep.keeps = conduct.maintenance
    hub = Hub(exchange, journal)
    journal.start()
    for member in keyring.members:
        exchange.open_account(
            AccountOpened(member.account_id, member.name, member.balance, exchange.now_ms())
        )
    limits = Limits(TIERS[tier], time.monotonic, shards=len(exchange.shards))
    for account in exchange.ledger.accounts.values():
        if account.level:
            limits.grant(account.account_id, account.level)
    return Service(
        exchange=exchange,
        journal=journal,
        hub=hub,
        verifier=Verifier(keyring.keys, exchange.now_ms),
        limits=limits,
        faults=Faults(),
        stream_limits=stream_limits,
        keyring=keyring,
        archive=Archive(conduct, exchange.now),
        lag=LaggedReads(exchange.steps, conduct.read_lag, exchange.now),
    )


def application(service: Service) -> web.Application:
    """The aiohttp application; planned faults and their control endpoint exist only on request."""
    tricks = [fault_door.faulty(REST_PATH, WS_PATH)] if service.with_faults else []
    app = web.Application(middlewares=[refusals, *tricks], client_max_size=MOST_BODY_BYTES)
    app[SERVICE] = service
    app.add_routes(rest_exchange.routes(REST_PATH))
    app.add_routes(rest_history.routes(REST_PATH))
    app.add_routes(rest_catalog.routes(REST_PATH))
    app.add_routes(rest_candles.routes(REST_PATH))
    app.add_routes(rest_public.routes(REST_PATH))
    app.add_routes(rest_portfolio.routes(REST_PATH))
    app.add_routes(rest_account.routes(REST_PATH))
    app.add_routes(rest_subaccounts.routes(REST_PATH))
    app.add_routes(rest_batches.routes(REST_PATH))
    app.add_routes(rest_orders.routes(REST_PATH))
    app.add_routes(rest_queues.routes(REST_PATH))
    app.add_routes(rest_groups.routes(REST_PATH))
    app.router.add_get(WS_PATH, stream)
    if service.with_faults:
        app.add_routes(fault_door.routes())
        app.add_routes(control_door.routes())
    return app
