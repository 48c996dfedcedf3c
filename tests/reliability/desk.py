"""One run's desk: its own database, its own account at the exchange, and real execution processes, forked and killed.

Each run is a process (`in_own_process`), so that a hundred of them share nothing but the exchange's port and Redis'
socket. Forked from the suite with everything loaded, an execution starts in a tenth of a second.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import redis
from django.conf import settings
from django.db import connections
from django.test import override_settings

from approvals import decisions
from approvals.models import Proposal
from kalshi_site import live, wiring  # in the suite's own process: a fork has then nothing left to load
from kalshi_site.models import User
from portfolio import risk
from tests import factories
from tests.reliability import books
from tests.reliability.tempo import Tempo
from tests.reliability.venue import Stage, Venue
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.market_data import open_market_data
from trading.exchange.shared_budget import read_tariff
from trading.execution.process import Execution
from trading.execution.reconcile import Reconciled
from trading.models import Market

_context = multiprocessing.get_context("fork")
Prepare = Callable[[Execution], None]
NOWHERE: Final = "redis://127.0.0.1:1/0"


@dataclass(frozen=True)
class Seat:
    """What a run is given: an exchange that no other run uses meanwhile, a Redis database, a copy of the books."""

    venue: Venue
    stage: Stage
    database: str
    redis_number: int
    tempo: Tempo


def take(seat: Seat) -> None:
    """Make this process, a fork, work with what the seat says and nothing else."""
    logging.disable(logging.CRITICAL)
    books.opened(seat.database)
    for name, value in seat.venue.settings(seat.stage).items():
        setattr(settings, name, value)
    settings.REDIS_URL = settings.REDIS_URL.split("?")[0] + f"?db={seat.redis_number}"
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
    _share_anew()
    read_tariff(open_account(settings.KALSHI_REST_URL, wiring.read_signer()), wiring.budget())


def lose_redis() -> None:
    """From now on Redis is dead for this process and what it forks: whatever speaks with it, does so to an empty port.

    The budget and its link are made anew here, the channel layer by the signal of its setting; breakers, gates and
    nudges look their address up. What the account may do stays known, as where Redis dies under a desk that trades.
    """
    tariff, layer = wiring.budget().tariff, settings.CHANNEL_LAYERS["default"]
    layers = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [NOWHERE]}}}
    override_settings(REDIS_URL=NOWHERE, CHANNEL_LAYERS=layers).enable()
    _share_anew()
    wiring.budget().learn(tariff)


def _share_anew() -> None:
    wiring.budget.cache_clear()
    wiring.link.cache_clear()


class ExecutionProcess:
    """A real execution in a fork. `prepare` may put a crash, a pause or a flaw into it before it runs."""

    def __init__(self, tempo: Tempo, prepare: Prepare = lambda _: None) -> None:
        connections.close_all()
        self._ready, theirs = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_execute, args=(theirs, tempo, prepare), daemon=False)
        self.process.start()
        theirs.close()

    def is_ready(self, within: float) -> bool:
        """Whether it came through its start-up in time."""
        return bool(self._ready.poll(within))

    @property
    def is_alive(self) -> bool:
        return bool(self.process.is_alive())

    def kill(self) -> None:
        self.process.kill()
        self.process.join(10)

    def pause(self) -> None:
        self._tell(signal.SIGSTOP)

    def go_on(self) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def signal_self(number: signal.Signals) -> None:
    """Signal this very thread: one to the process may be taken by another thread, and we would run on meanwhile."""
    signal.pthread_kill(threading.get_ident(), number)


@contextmanager
def executing(tempo: Tempo, prepare: Prepare = lambda _: None) -> Iterator[ExecutionProcess]:
    """An execution process for the block."""
    running = ExecutionProcess(tempo, prepare)
    try:
        yield running
    finally:
        running.kill()


def _execute(ready: Any, tempo: Tempo, prepare: Prepare) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    live.announce_in_background()
    execution = tempo.set(wiring.execution(threading.Event(), on_ready=lambda: ready.send(True)))
    prepare(execution)
    execution.run()


def update(tempo: Tempo) -> Reconciled:
    """One comparison with the exchange, as the update loop makes it every five seconds."""
    return replace(wiring.reconciler(), evidence=tempo.evidence).run()


def wait_for(look: Callable[[], Any], within: float, every: float = 0.02) -> Any:
    """What `look` finds, or its last nothing when the time is over."""
    deadline = time.monotonic() + within
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(every)
    return found


# --- rows


def propose(ticker: str, price: str, quantity: str = "10") -> Proposal:
    """A proposal of the analyst for a quoted market of the stage, not decided yet."""
    market = Market.objects.filter(ticker=ticker).first()
    if market is None:
        market = factories.quoted_market(ticker=ticker, event_ticker=ticker.rsplit("-", 1)[0])
    return factories.ProposalFactory(market=market, limit_price=Decimal(price), quantity=Decimal(quantity))


def approve(*proposals: Proposal) -> None:
    """A person says yes to each."""
    actor = User.objects.get(username="approver1")
    for proposal in proposals:
        decisions.approve(
            proposal=proposal,
            version=proposal.version,
            terms_hash=proposal.terms_hash,
            actor=actor,
            method="page",
        )


def furnish() -> None:
    """What every run's books begin with: the approver, the money, and limits that no run reaches."""
    factories.approver()
    factories.funded()
    risk.set_limit(name="data_age", value=Decimal(3600), actor="test")
    factories.exchange_says()


# --- many runs at a time


def warm(venue: Venue) -> None:
    """Let the suite's own process ask everything once: answers' types are made at first use, and forks inherit them."""
    signer = open_signer(venue.stage().key_id, venue.key_file)
    with closing(open_account(venue.rest_url, signer)) as account:
        account.orders(), account.fills(), account.positions(), account.settlements(), account.balance()
        account.limits(), account.endpoint_costs()
    with closing(open_market_data(venue.rest_url)) as public:
        public.exchange_state(), public.user_data_as_of()


def in_parallel(
    jobs: list[Any], venues: list[Venue], run: Callable[[Any, Venue, int], Any], *, within: float
) -> list[Any]:
    """Run each job in a process of its own, one at a time per exchange; the answers in the order of the jobs.

    A run that raises, dies or takes longer than `within` seconds answers with the exception.
    """
    answers: list[Any] = [None] * len(jobs)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, tuple[int, Any, Any, float]] = {}
    while waiting or running:
        for slot, venue in enumerate(venues):
            if slot not in running and waiting:
                number, job = waiting.pop()
                mine, theirs = _context.Pipe(duplex=False)
                process = _context.Process(target=_answer, args=(theirs, run, job, venue, slot))
                process.start()
                theirs.close()
                running[slot] = (number, process, mine, time.monotonic() + within)
        _gather(answers, running)
    return answers


def _gather(answers: list[Any], running: dict[int, tuple[int, Any, Any, float]]) -> None:
    """Take the answers of those that are through, after a moment's wait."""
    from multiprocessing.connection import wait

    wait([pipe for _, _, pipe, _ in running.values()], timeout=0.5)
    for slot, (number, process, pipe, deadline) in list(running.items()):
        if pipe.poll():
            try:
                answers[number] = pipe.recv()
            except EOFError:
                answers[number] = RuntimeError(f"run {number} died")
        elif time.monotonic() < deadline:
            continue
        else:
            answers[number] = TimeoutError(f"run {number} did not end")
        process.kill()
        process.join(10)
        del running[slot]


def _answer(pipe: Any, run: Callable[[Any, Venue, int], Any], job: Any, venue: Venue, slot: int) -> None:
    try:
        answer = run(job, venue, slot)
    except BaseException as error:
        answer = RuntimeError(f"{job}: {''.join(traceback.format_exception(error))}")
    connections.close_all()
    pipe.send(answer)
