"""Two of everything on one account: two web processes, executions, workers per queue and beats, with PostgreSQL and one
Redis. Approvals come at both webs at once while leaders are killed and frozen, Redis is emptied and restarted, and the
exchange misbehaves: no order is lost or doubled, each decision has one winner, each slot one cycle.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import urllib3
from django.db import connection

from approvals.models import Proposal
from kalshi_site.identity import new_id
from kalshi_site.live import changes
from kalshi_site.live.middleware import TOPICS
from kalshi_site.models import ChangeLog, TopicHead
from tests import factories
from tests.callers import Caller
from tests.exchanges import database_url
from tests.reliability import desk, oracle, venue
from tests.reliability.conftest import Figure
from tests.reliability.hosts import TEMPO, Hosts, running
from tests.reliability.sizes import size
from tests.reliability.venue import Stage, Venue, venues
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.shared_budget import SharedBudget, read_tariff
from trading.models import Cycle, Order

PACE = 0.4  # seconds between two proposals: a caller may write five times a second
ANSWERS_WITHIN = 60.0  # a web process that was killed needs a while to answer again
RESTS_WITHIN = 90.0
LONGEST_GAP = 60.0  # seconds without an update cycle, on a machine that starts a dozen processes meanwhile
ORDERS_A_ROUND = 40  # in which everything that may happen happens once
PRICES = ("0.02", "0.03", "0.50")  # two rest, one fills

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[Venue]:
    if connection.vendor != "postgresql":
        pytest.skip("two hosts share a database server: set DATABASE_URL to one of PostgreSQL")
    monkeypatch.setattr(venue, "MARKETS", 10)
    with venues(1, oldest_ms=TEMPO.fence_ms) as (started,):
        yield started


@dataclass
class Run:
    """One desk on two hosts, its exchange, and who won which proposal."""

    hosts: Hosts
    venue: Venue
    stage: Stage
    tokens: tuple[str, str]
    chance: random.Random = field(default_factory=lambda: random.Random(4))
    answers: dict[str, list[str]] = field(default_factory=dict)
    deeds: Counter[str] = field(default_factory=Counter)

    def approve_at_both(self, pool: ThreadPoolExecutor, proposal: Proposal) -> None:
        """Two people say yes in the same moment, each at a web process of its own."""
        origins = [host.web.origin for host in self.hosts.hosts]
        asked = [
            pool.submit(_approve, origin, token, proposal)
            for origin, token in zip(origins, self.tokens, strict=True)
        ]
        self.answers[proposal.public_id] = [each.result() for each in asked]

    # --- what happens meanwhile

    def kill_the_leader(self) -> None:
        leader = self.hosts.leader()
        leader.kill()
        leader.start()

    def freeze_the_leader(self) -> None:
        """Longer than its lease lasts: the other takes over, and the frozen one wakes up beside it."""
        leader = self.hosts.leader()
        leader.pause()
        leader.ready_file.unlink()
        time.sleep(2 * TEMPO.lease.total_seconds())
        self.hosts.leader()
        leader.go_on()

    def kill_a_web(self) -> None:
        web = self.chance.choice(self.hosts.hosts).web
        web.kill()
        web.start()

    def kill_a_worker_and_a_beat(self) -> None:
        for process in (self.hosts.hosts[0].workers["update"], self.hosts.hosts[1].beat):
            process.kill()
            process.start()

    def empty_redis(self) -> None:
        self.hosts.redis.flush()

    def restart_redis(self) -> None:
        self.hosts.redis.kill()
        time.sleep(0.5)
        self.hosts.redis.start()

    def misbehave(self) -> None:
        """Nothing that breaks the agreed contract: that would pause trading, as it should."""
        kinds = ("drop_after", "error_after", "drop_before", "rate_limited", "error_before")
        rows = [{"endpoint": "create", "kind": kind, "skip": n} for n, kind in enumerate(kinds)]
        self.venue.plan(rows, self.chance.randrange(1000))


DEEDS: tuple[Callable[[Run], None], ...] = (
    Run.misbehave,
    Run.kill_the_leader,
    Run.empty_redis,
    Run.freeze_the_leader,
    Run.kill_a_web,
    Run.restart_redis,
    Run.kill_a_worker_and_a_beat,
)


def _approve(origin: str, token: str, proposal: Proposal) -> str:
    """As a script does it: the same key again until there is an answer. Returns `approved` or the refusal's code."""
    headers = {
        "Authorization": f"Bearer {token}",
        "If-Match": '"v1"',
        "Idempotency-Key": new_id("key"),
        "Content-Type": "application/json",
    }
    said = json.dumps({"terms_hash": proposal.terms_hash}).encode()
    deadline, code = time.monotonic() + ANSWERS_WITHIN, ""
    while time.monotonic() < deadline:
        try:
            url = f"{origin}/api/v1/proposals/{proposal.public_id}/approve"
            answer = urllib3.request("POST", url, body=said, headers=headers, timeout=20.0, retries=False)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.2)
            continue
        if answer.status == 200:
            return "approved"
        code = str(json.loads(answer.data)["code"])
        if answer.status not in (429, 503) and code != "E207":  # E207: the first try has not finished
            return code
        time.sleep(0.3)
    raise AssertionError(f"{origin} did not answer in time: {code}")


def _environment(exchange: Venue, stage: Stage) -> tuple[dict[str, str], dict[str, str]]:
    """What all processes share, and the keys."""
    told = {name: str(value) for name, value in exchange.settings(stage).items()}
    keys = {name: value for name, value in told.items() if "_KEY_" in name}
    addresses = {name: value for name, value in told.items() if name not in keys}
    return {**addresses, "DATABASE_URL": database_url(), "KALSHI_ENV_FILE": ""}, keys


def _open_the_books(exchange: Venue, stage: Stage) -> tuple[str, str]:
    """Approvers, money and limits; returns the tokens of the two."""
    desk.furnish()
    factories.quoted_market(ticker=stage.tickers[0], event_ticker=stage.key_id)
    names = ("approver1", "approver2")
    return tuple(Caller.of("approver", username=name).token for name in names)  # type: ignore[return-value]


def _read_the_tariff(run: Run) -> None:
    """Without it the desk goes by the lowest tier's ten orders a second."""
    signer = open_signer(run.stage.key_id, run.venue.key_file)
    host = urllib3.util.parse_url(run.venue.rest_url).netloc
    read_tariff(open_account(run.venue.rest_url, signer), SharedBudget(run.hosts.redis.url, f"paper:{host}"))


def test_two_hosts_lose_and_double_nothing(exchange: Venue, tmp_path: Path, figure: Figure) -> None:
    stage = exchange.stage()
    tokens = _open_the_books(exchange, stage)
    shared, keys = _environment(exchange, stage)
    orders = size("host_orders")
    with running(tmp_path, shared, keys) as hosts:
        run = Run(hosts, exchange, stage, tokens)
        _read_the_tariff(run)
        began = time.monotonic()
        orders = _trade(run, orders)
        exchange.forget()
        desk.wait_for(lambda: _is_at_rest(exchange, stage), RESTS_WITHIN)
        took = time.monotonic() - began
        faults = oracle.faults(exchange, stage)
        hosts.silence()
        told = [_told(run, host.web.origin) for host in hosts.hosts]
    wins = Counter(answers.count("approved") for answers in run.answers.values())
    states = Counter(Order.objects.filter(proposal__isnull=False).values_list("state", flat=True))
    refused = Counter(code for answers in run.answers.values() for code in answers if code != "approved")
    figure(
        f"{orders} proposals at two webs in {took:.0f} s: {wins[1]} won once, {wins[2]} twice, refused"
        f" {dict(refused)}; orders came to rest as"
        f" {dict(states)}; {dict(run.deeds)}; {hosts.crowns} times two leaders; {_loops()}"
    )
    assert not faults, json.dumps(faults, indent=1)
    assert wins[2] == 0
    assert wins[1] > orders / 2, f"too few went through to say anything: {run.answers}"
    assert told[0] == told[1] == _standing()
    _one_cycle_per_slot()


def _trade(run: Run, orders: int) -> int:
    """So many proposals, and more until everything has happened; returns how many."""
    times = max(1, orders // ORDERS_A_ROUND)
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(1) as fate:
        coming = [fate.submit(_do, run, deed) for _ in range(times) for deed in DEEDS]
        number = 0
        while number < orders or not all(deed.done() for deed in coming):
            factories.exchange_speaks()
            ticker = run.stage.tickers[number % len(run.stage.tickers)]
            proposal = desk.propose(ticker, run.chance.choice(PRICES), "1")
            run.approve_at_both(pool, proposal)
            number += 1
            time.sleep(PACE)
        for deed in coming:
            deed.result()
    return number


def _do(run: Run, deed: Callable[[Run], None]) -> None:
    deed(run)
    run.deeds[deed.__name__] += 1
    time.sleep(PACE)


def _is_at_rest(exchange: Venue, stage: Stage) -> bool:
    factories.exchange_speaks()
    return not oracle.faults(exchange, stage)


def _told(run: Run, origin: str) -> dict[str, tuple[str, int, str]]:
    """What a web process says of each topic, from nothing."""
    told = {}
    for topic in TOPICS:
        headers = {"Authorization": f"Bearer {run.tokens[0]}"}
        answer = urllib3.request("GET", f"{origin}/api/v1/state?topic={topic}", headers=headers, timeout=20.0)
        body = json.loads(answer.data)
        told[topic] = (body["epoch"], body["version"], body["digest"])
    return told


def _standing() -> dict[str, tuple[str, int, str]]:
    heads = changes.heads(TOPICS)
    return {
        topic: (heads[topic].epoch, heads[topic].version, changes.digest_of_now(topic)) for topic in TOPICS
    }


def _loops() -> str:
    counts = Counter(Cycle.objects.values_list("loop", flat=True))
    return f"cycles {dict(counts)}, longest gap of the update loop {_longest_gap():.0f} s"


def _longest_gap() -> float:
    starts = list(
        Cycle.objects.filter(loop="update").order_by("started_at").values_list("started_at", flat=True)
    )
    return max(((b - a).total_seconds() for a, b in pairwise(starts)), default=0.0)


def _one_cycle_per_slot() -> None:
    """Each slot once, under fences that only grow; and the changes of each topic numbered without a gap."""
    rows = list(Cycle.objects.filter(loop="update").order_by("slot").values_list("slot", "fence"))
    assert len(rows) > 1
    assert len({slot for slot, _ in rows}) == len(rows)
    assert [fence for _, fence in rows] == sorted(fence for _, fence in rows)
    assert _longest_gap() < LONGEST_GAP
    for head in TopicHead.objects.all():
        numbers = (
            ChangeLog.objects.filter(topic=head.topic).order_by("version").values_list("version", flat=True)
        )
        assert list(numbers) == list(range(1, head.version + 1)), head.topic
