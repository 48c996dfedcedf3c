"""The one place where real and fake parts are chosen. Each process gets the parts and the keys that its work needs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from trading import tasks
from trading.agent.forecaster import OfflineAnalyst
from trading.exchange.account import Account, open_account
from trading.exchange.auth import Signer, open_signer
from trading.exchange.errors import KeyFileRefused
from trading.exchange.gateway import StreamGateway
from trading.exchange.market_data import MarketData, open_market_data
from trading.exchange.reads import quick_reads
from trading.exchange.stream import open_stream
from trading.execution.own_stream import OwnStream
from trading.execution.process import Execution
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router, open_order_gateway


def read_signer() -> Signer:
    """The key with scope read. Raises KeyFileRefused when this process was given none."""
    return _signer(settings.KALSHI_READ_KEY_ID, settings.KALSHI_READ_KEY_FILE, "read")


def trade_signer() -> Signer:
    """The key that may trade: only the execution process is given it. Raises KeyFileRefused."""
    return _signer(settings.KALSHI_TRADE_KEY_ID, settings.KALSHI_TRADE_KEY_FILE, "trade")


def _signer(key_id: str, key_file: Path | None, name: str) -> Signer:
    if key_file is None:
        raise KeyFileRefused(
            f"no {name} key: set KALSHI_{name.upper()}_KEY_ID and KALSHI_{name.upper()}_KEY_FILE"
        )
    return open_signer(key_id, key_file)


def reconciler() -> Reconciler:
    """Comparison with the exchange, by the read key."""
    return Reconciler(
        venue=settings.KALSHI_PROFILE,
        account=open_account(settings.KALSHI_REST_URL, read_signer()),
        market_data=open_market_data(settings.KALSHI_REST_URL),
    )


def assemble_worker() -> None:
    """Hand the Celery worker its parts. A worker without a key gets no reconciler: the agent's must not have one."""
    has_key = settings.KALSHI_READ_KEY_FILE is not None
    tasks.use(
        tasks.Parts(
            analyst=OfflineAnalyst(),
            public=open_market_data(settings.KALSHI_REST_URL),
            reconciler=reconciler() if has_key else None,
        )
    )


def execution(stop: threading.Event, on_ready: Callable[[], None]) -> Execution:
    """The execution process: the only one with the order endpoints."""
    router = Router(
        venue=settings.KALSHI_PROFILE,
        orders=open_order_gateway(settings.KALSHI_REST_URL, trade_signer()),
        deployment=deployment_id(),
    )
    news = OwnStream(venue=settings.KALSHI_PROFILE, open_stream=_open_own_stream, stop=stop)
    # Its questions must not keep a Stop waiting: the update loop asks patiently, execution asks quickly.
    asks = Reconciler(
        venue=settings.KALSHI_PROFILE,
        account=Account(quick_reads(settings.KALSHI_REST_URL, read_signer())),
        market_data=MarketData(quick_reads(settings.KALSHI_REST_URL)),
    )
    return Execution(router=router, reconciler=asks, news=news, stop=stop, on_ready=on_ready)


def _open_own_stream() -> StreamGateway:
    return open_stream(settings.KALSHI_WS_URL, read_signer(), {"fill": None, "user_orders": None})


def deployment_id() -> uuid.UUID:
    """The secret namespace of our client order ids, drawn once and kept in `VAR_DIR/deployment_id` (0600)."""
    path = settings.VAR_DIR / "deployment_id"
    try:
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        path.touch(mode=0o600)
        path.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        return deployment_id()
