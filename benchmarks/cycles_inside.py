"""The measured process of `cycles`: has the keys, places the orders, runs the cycles, tells one JSON document."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import django

from benchmarks.paper_load import Key, offer, signed_creates

if TYPE_CHECKING:
    from trading.agent.schemas import Forecast, MarketBrief, Refusal
    from trading.exchange.reports import PublicTrade

STEP = timedelta(milliseconds=1)  # a slot of its own for each round


class Stub:
    """Refuses every market at once, and notes the time spent on it."""

    name = "stub"
    seconds = 0.0

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        from trading.agent.schemas import Refusal

        began = time.perf_counter()
        answer = Refusal("a stub")
        self.seconds += time.perf_counter() - began
        return answer


class NoTrades:
    """Public data without a request: the exchange's answer is not the loop's cost."""

    def trades(self, *, since: datetime | None = None) -> list[PublicTrade]:
        return []


def measure(orders: int, rounds: int) -> dict[str, Any]:
    """All four figures, in the order in which a desk meets them."""
    from django.db import connection
    from django.utils import timezone

    from kalshi_site import wiring
    from portfolio import risk
    from trading.engine.update_cycle import update_cycle
    from trading.models import Market, Order

    tickers = _markets()
    _place(orders, tickers[-1])
    reconciler = wiring.reconciler()

    def update() -> None:
        assert update_cycle(reconciler=reconciler, interval=STEP) is not None

    cold = _timed(update, 1)
    # Some may have been filled meanwhile: somebody may sell at one cent.
    assert Order.objects.count() == orders, Order.objects.count()
    warm = _timed(update, rounds)
    with _Counted(connection) as counted:
        update()
    decision = {"decision_stub_ms": _decide(rounds)}
    risk.pause(venue="paper", actor="benchmark", reason="the loop itself is measured")
    decision["decision_idle_ms"] = _decide(rounds)
    return {
        "orders": orders,
        "markets": Market.objects.open(timezone.now()).count(),
        "warm_queries": counted.queries,
        "ms": {"update_cold_ms": cold, "update_warm_ms": warm, **decision},
    }


def _decide(rounds: int) -> dict[str, float]:
    from trading.engine.decision_cycle import decision_cycle
    from trading.engine.ideas import Appetite

    stub = Stub()
    appetite = Appetite(interval=STEP)

    def decide() -> None:
        assert decision_cycle(venue="paper", analyst=stub, public=NoTrades(), appetite=appetite) is not None

    return _timed(decide, rounds, lambda: stub.seconds)


def _timed(work: Callable[[], None], rounds: int, off: Callable[[], float] = lambda: 0.0) -> dict[str, float]:
    taken, spent = [], []
    for _ in range(rounds):
        began, before, processor = time.perf_counter(), off(), time.process_time()
        work()
        spent.append(1000 * (time.process_time() - processor))
        taken.append(1000 * (time.perf_counter() - began - (off() - before)))
        time.sleep(0.005)  # the next slot
    taken.sort()
    spent.sort()
    return {
        "cpu_p50": round(spent[(len(spent) - 1) // 2], 2),
        "p50": round(taken[(len(taken) - 1) // 2], 2),
        "worst": round(taken[-1], 2),
        "rounds": rounds,
    }


class _Counted:
    """Counts the statements of a block."""

    def __init__(self, connection: Any) -> None:
        self.queries = 0
        self._wrapped = connection.execute_wrapper(self._count)

    def _count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.queries += 1
        return execute(sql, params, many, context)

    def __enter__(self) -> _Counted:
        self._wrapped.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._wrapped.__exit__(*raised)


def _markets() -> list[str]:
    """The open markets once the feed has brought them, the one that closes last at the end."""
    from django.utils import timezone

    from trading.models import Market

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = Market.objects.open(timezone.now() + timedelta(minutes=5)).order_by("close_at")
        if found := list(rows.values_list("ticker", flat=True)):
            return found
        time.sleep(0.2)
    raise RuntimeError("the feed has brought no markets")


def _place(count: int, ticker: str) -> None:
    """Resting one-cent bids by the account's own key, as somebody else's program would place them."""
    from django.conf import settings

    port = urlsplit(settings.KALSHI_REST_URL).port
    assert port is not None and settings.KALSHI_TRADE_KEY_FILE is not None
    key = Key(settings.KALSHI_TRADE_KEY_ID, Path(settings.KALSHI_TRADE_KEY_FILE))
    measured = offer(port, signed_creates(port, key, ticker, count), connections=8)
    if measured.refused:
        raise RuntimeError(f"refused: {measured.refused}")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    django.setup()
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
