"""The one place where real and fake parts are chosen. Each process gets the parts and the keys that its work needs."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from kalshi_site.breakers import Breaker
from kalshi_site.env import ConfigError, Problem
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.plan import READ, TRADE, paper_keys
from trading import tasks
from trading.agent.forecaster import OfflineAnalyst
from trading.agent.guarded import Guarded
from trading.engine.stand_in import StandIn
from trading.exchange.account import Account, open_account
from trading.exchange.auth import Signer, open_signer
from trading.exchange.bookkeeping import Bookkeeper
from trading.exchange.errors import KeyFileRefused
from trading.exchange.gateway import StreamGateway
from trading.exchange.history import History, open_history
from trading.exchange.link import Link
from trading.exchange.market_data import MarketData, open_market_data
from trading.exchange.reads import quick_reads
from trading.exchange.redundant import open_redundant_stream
from trading.exchange.shared_budget import SharedBudget, read_tariff
from trading.exchange.stream import Channels, Stream, open_stream
from trading.execution.catch_up import CatchUp
from trading.execution.claims import ClaimRules
from trading.execution.nets import Nets, open_group_gateway
from trading.execution.own_stream import OwnStream
from trading.execution.process import Execution
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router, open_order_gateway
from trading.execution.watchdog import Watchdog
from trading.market_data.backfill import Backfill
from trading.market_data.clock_note import note_skew
from trading.market_data.exchange_watch import ExchangeWatch
from trading.market_data.feed import Chore
from trading.market_data.fees import FeeWatch
from trading.market_data.scribe import Scribe

TARIFF_EVERY = 900.0  # seconds: a tier changes rarely
CLOCK_EVERY = 5.0
DEPLOYMENT_ID = "deployment_id"


def read_signer() -> Signer:
    """The key with scope read. Raises KeyFileRefused when this process was given none."""
    return _signer(settings.KALSHI_READ_KEY_ID, settings.KALSHI_READ_KEY_FILE, "read")


def trade_signer() -> Signer:
    """The key that may trade: only execution and its watchdog are given it. Raises KeyFileRefused."""
    return _signer(settings.KALSHI_TRADE_KEY_ID, settings.KALSHI_TRADE_KEY_FILE, "trade")


def _signer(key_id: str, key_file: Path | None, name: str) -> Signer:
    if key_file is None:
        raise KeyFileRefused(
            f"no {name} key: set KALSHI_{name.upper()}_KEY_ID and KALSHI_{name.upper()}_KEY_FILE"
        )
    return open_signer(key_id, key_file)


@cache
def budget() -> SharedBudget:
    """The tokens of the account that this desk trades, shared by its processes over Redis."""
    return SharedBudget(
        settings.REDIS_URL, f"{settings.KALSHI_PROFILE}:{urlsplit(settings.KALSHI_REST_URL).netloc}"
    )


@cache
def link() -> Link:
    """What all requests of this process share: the exchange's time, the account's tokens, breakers that only count.

    For those who may stand on a way out: execution asks the exchange whatever a breaker says.
    """
    return Link(
        budget=budget(),
        reads=Breaker("exchange_read", blocks=False),
        writes=Breaker("exchange_write", blocks=False),
        cancels=Breaker("exchange_cancel"),
    )


def loop_link() -> Link:
    """The same for the loops and the feed's chores, whose reads wait while the exchange fails."""
    return replace(link(), reads=Breaker("exchange_read"))


def public_data(by: Link | None = None) -> MarketData:
    """The exchange's public data, without a key."""
    return open_market_data(settings.KALSHI_REST_URL, link=by or link())


def stream(channels: Channels, *, keeper: Bookkeeper | None = None) -> Stream:
    """A live connection, by the read key."""
    return open_stream(
        settings.KALSHI_WS_URL, read_signer(), channels, keeper=keeper, sign_ms=link().clock.now_ms
    )


def feed_stream(channels: Channels, *, keeper: Bookkeeper) -> StreamGateway:
    """The feed's connection; with KALSHI_REDUNDANT_FEED two of them, merged into one."""
    if not settings.KALSHI_REDUNDANT_FEED:
        return stream(channels, keeper=keeper)
    return open_redundant_stream(
        settings.KALSHI_WS_URL, read_signer(), channels, keeper=keeper, sign_ms=link().clock.now_ms
    )


def reconciler(by: Link | None = None, *, signer: Signer | None = None) -> Reconciler:
    """Comparison with the exchange, by the read key, the archived records included."""
    key, url = signer or read_signer(), settings.KALSHI_REST_URL
    return Reconciler(
        venue=settings.KALSHI_PROFILE,
        account=open_account(url, key, link=by or link()),
        market_data=public_data(by),
        history=open_history(url, key, link=by or link()),
    )


def quick_reconciler() -> Reconciler:
    """The same for those who have something more urgent to do than to wait for an answer."""
    url = settings.KALSHI_REST_URL
    return Reconciler(
        venue=settings.KALSHI_PROFILE,
        account=Account(quick_reads(url, read_signer(), link=link())),
        market_data=MarketData(quick_reads(url, link=link())),
        history=History(quick_reads(url, read_signer(), link=link())),
    )


def note_drift(process: str) -> None:
    """Let what this process hears the exchange say be written down; call once, in the process itself."""
    Scribe(venue=settings.KALSHI_PROFILE, process=process).start()


def feed_chores() -> tuple[Chore, ...]:
    """What the feed does beside the books. Of the paper exchange the schedule alone tells when it rests."""
    watch = ExchangeWatch(
        venue=settings.KALSHI_PROFILE,
        exchange=MarketData(quick_reads(settings.KALSHI_REST_URL, link=loop_link())),
        weekly=settings.KALSHI_PROFILE != "paper",
    )
    account = Account(quick_reads(settings.KALSHI_REST_URL, read_signer(), link=loop_link()))
    fees = FeeWatch(MarketData(quick_reads(settings.KALSHI_REST_URL, link=loop_link())))
    return (
        Chore(every=3.0, work=watch.look),
        Chore(every=TARIFF_EVERY, work=lambda: read_tariff(account, budget())),
        Chore(every=CLOCK_EVERY, work=lambda: note_skew(lambda: link().clock.skew_ms)),
        Chore(every=60.0, work=fees.look),
        Chore(every=1.0, work=fees.apply),
        Chore(every=15.0, work=Backfill(fees.exchange).look),
        Chore(every=5.0, work=StandIn(quick_reconciler()).look),
    )


def assemble_worker() -> None:
    """Hand the Celery worker its parts. A worker without a key gets no reconciler: the agent's must not have one."""
    has_key = settings.KALSHI_READ_KEY_FILE is not None
    note_drift("update" if has_key else "agent")
    tasks.use(
        tasks.Parts(
            analyst=Guarded(OfflineAnalyst(), Breaker("model")),
            public=public_data(loop_link()),
            reconciler=reconciler(loop_link()) if has_key else None,
        )
    )


def execution(stop: threading.Event, on_ready: Callable[[], None]) -> Execution:
    """The execution process: the only one with the order endpoints."""
    note_drift("execution")
    account = Account(quick_reads(settings.KALSHI_REST_URL, read_signer(), link=link()))
    router = Router(
        venue=settings.KALSHI_PROFILE,
        orders=open_order_gateway(settings.KALSHI_REST_URL, trade_signer(), link=link()),
        deployment=deployment_id(),
        rules=claim_rules(),
        clock=link().clock,
        breaker=Breaker("exchange_write"),
        nets=nets(account),
    )
    news = OwnStream(
        venue=settings.KALSHI_PROFILE,
        open_stream=_open_own_stream,
        stop=stop,
        catch_up=CatchUp(reconciler()),
    )
    # Its questions must not keep a Stop waiting: the update loop asks patiently, execution asks quickly.
    return Execution(router=router, reconciler=quick_reconciler(), news=news, stop=stop, on_ready=on_ready)


def claim_rules() -> ClaimRules:
    """How long orders stand, by the settings."""
    return ClaimRules(
        order_life=settings.ORDER_EXPIRY,
        lifetime=settings.ORDER_LIFETIME,
        orders_per_minute=settings.ORDERS_PER_MINUTE,
        needs_group=True,
    )


def nets(account: Account) -> Nets:
    """The order groups, by the trading key."""
    return Nets(
        venue=settings.KALSHI_PROFILE,
        groups=open_group_gateway(settings.KALSHI_REST_URL, trade_signer(), link=link()),
        account=account,
        contracts=Decimal(settings.ORDER_GROUP_CONTRACTS),
    )


def watchdog(stop: threading.Event, on_ready: Callable[[], None]) -> Watchdog:
    """The watchdog: beside execution the only process that holds the trading key.

    It shares no budget, which needs Redis and may be used up: it writes a handful of requests, when all else is silent.
    """
    return Watchdog(
        venue=settings.KALSHI_PROFILE,
        groups=open_group_gateway(settings.KALSHI_REST_URL, trade_signer(), link=Link()),
        stop=stop,
        on_ready=on_ready,
    )


def stand_in() -> tuple[Router, Account]:
    """What cancels in execution's place when it is dead: for a command of whoever may read the trading key's file.

    It sends nothing, so its namespace is nobody's: with `deployment_id` damaged execution does not start, and a stop
    must cancel all the same. Raises KeyFileRefused where there is no key.
    """
    return _stand_in(uuid.uuid4())


def whole_stand_in() -> tuple[Router, Reconciler]:
    """What sells in execution's place when it is dead.

    Raises KeyFileRefused where the trading key is not at hand, ConfigError where the deployment id is damaged.
    """
    router, account = _stand_in(deployment_id())
    market_data = MarketData(quick_reads(settings.KALSHI_REST_URL, link=link()))
    return router, Reconciler(venue=settings.KALSHI_PROFILE, account=account, market_data=market_data)


def _stand_in(deployment: uuid.UUID) -> tuple[Router, Account]:
    read, trade = _keys_at_hand()
    url = settings.KALSHI_REST_URL
    router = Router(
        venue=settings.KALSHI_PROFILE,
        orders=open_order_gateway(url, trade, link=link()),
        deployment=deployment,
        clock=link().clock,
    )
    return router, Account(quick_reads(url, read, link=link()))


def public_signer() -> Signer:
    """A key that reads, for a terminal; on paper, where that has none, the one that the paper exchange made.

    Raises KeyFileRefused where there is none.
    """
    if settings.KALSHI_PROFILE != "paper" or settings.KALSHI_READ_KEY_FILE is not None:
        return read_signer()
    made = paper_keys(Layout(settings.VAR_DIR).paper)
    if not made:
        raise KeyFileRefused("the paper exchange has made no keys yet: run make run")
    key_id, key_file = READ
    return open_signer(made[key_id], Path(made[key_file]))


def _keys_at_hand() -> tuple[Signer, Signer]:
    """The keys of the settings; on paper, where a second terminal has none, those that the paper exchange made."""
    if settings.KALSHI_PROFILE != "paper" or settings.KALSHI_TRADE_KEY_FILE is not None:
        return read_signer(), trade_signer()
    made = paper_keys(Layout(settings.VAR_DIR).paper)
    if not made:
        raise KeyFileRefused("the paper exchange has made no keys yet: run make run")
    return tuple(open_signer(made[key_id], Path(made[file])) for key_id, file in (READ, TRADE))  # type: ignore[return-value]


def _open_own_stream() -> StreamGateway:
    return stream({"fill": None, "user_orders": None})


def deployment_id() -> uuid.UUID:
    """The secret namespace of our client order ids, drawn once and kept in `VAR_DIR/deployment_id` (0600).

    Raises ConfigError (E953) when the file holds something else: what was sent under the lost id is not found again.
    """
    path = settings.VAR_DIR / DEPLOYMENT_ID
    return _kept_id(path) or _draw_id(path)


def _kept_id(path: Path) -> uuid.UUID | None:
    """None where there is no file, or an empty one: an id that was never written was never used."""
    try:
        text = path.read_text(encoding="ascii").strip()
        return uuid.UUID(text) if text else None
    except FileNotFoundError:
        return None
    except ValueError as error:
        hint = "Put back the copy that your backups hold; remove it only where no order was ever sent."
        raise ConfigError(Problem("E953", f"{path} holds no deployment id.", hint)) from error


def _draw_id(path: Path) -> uuid.UUID:
    """Draw it, whole or not at all; of several who do so at once the first one's is everybody's."""
    with _locked_folder(path.parent) as folder:
        if kept := _kept_id(path):
            return kept
        path.unlink(missing_ok=True)  # an empty one, of a start that was killed or found the disk full
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{uuid.uuid4()}\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # of one who does not ask the lock
                os.link(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        os.fsync(folder)
    return deployment_id()


@contextmanager
def _locked_folder(folder: Path) -> Iterator[int]:
    """The folder's descriptor, which one at a time holds; the kernel lets go of it however the holder ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
