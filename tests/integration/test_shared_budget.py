"""All processes of an account together stay within its budget and use nearly all of it; a dead Redis stops nobody."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
import redis

from tests.exchanges import ROOT, PaperExchange, paper_exchange
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.errors import OverBudget
from trading.exchange.shared_budget import SharedBudget, read_tariff
from trading.exchange.tariff import Charge, Rate, Tariff

pytestmark = pytest.mark.slow

PROCESSES = 3
SECONDS = 4
READ = Tariff().charge("GET", "/portfolio/orders")
CREATE = Tariff().charge("POST", "/portfolio/events/orders", exchange_index=0)
CANCEL = Tariff().charge("DELETE", "/portfolio/events/orders/o", exchange_index=0)
SLOW = Tariff("slow", Rate(0.01, 600), Rate(0.01, 100))  # buckets of the usual size that no test sees refill
WITHIN = "trading.exchange.shared_budget._REDIS_WITHIN"


@pytest.fixture(autouse=True)
def _redis_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a fifth of a second passes for "away", a busy machine sends each process on alone."""
    monkeypatch.setattr(WITHIN, 10.0)


@dataclass
class Heard:
    """What all processes were answered, and in how many seconds."""

    statuses: Counter[str]
    seconds: float


def ask_together(paper: PaperExchange, mode: str, kind: str, redis_url: str) -> Heard:
    key_id, key_file = paper.key("desk-trade" if kind == "write" else "desk-read")
    command = [sys.executable, "-m", "tests.budget_worker", mode, kind, str(SECONDS), paper.rest_url]
    command += [key_id, str(key_file), redis_url]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(PROCESSES)
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == b"ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write(b"go\n")
        each.stdin.flush()
    told = [json.loads(each.communicate(timeout=120)[0].splitlines()[-1]) for each in running]
    statuses: Counter[str] = Counter()
    for each in told:
        statuses.update(each["statuses"])
    return Heard(statuses, max(each["ended"] for each in told) - min(each["began"] for each in told))


@pytest.fixture
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """A fresh one: its buckets are full."""
    with paper_exchange(tmp_path_factory.mktemp("paper"), "--simulate", "--tier", "basic") as started:
        yield started


@pytest.mark.parametrize(("kind", "a_second"), [("read", 20), ("write", 10)])
def test_together_they_meet_no_429_and_use_nine_tenths_of_the_budget(
    paper: PaperExchange, clean_redis: str, kind: str, a_second: int
) -> None:
    heard = ask_together(paper, "shared", kind, clean_redis)
    assert heard.statuses["429"] == 0, heard
    assert heard.statuses["404"] == 0, heard
    assert heard.statuses.total() >= 0.9 * a_second * heard.seconds, heard


def test_without_sharing_they_overrun_it(paper: PaperExchange, clean_redis: str) -> None:
    """The negative control: what the shared budget is for. Of writes, whose bucket a slow machine empties, too."""
    assert ask_together(paper, "alone", "write", clean_redis).statuses["429"] > 0


def test_the_tariff_that_one_process_reads_is_every_process_s(paper: PaperExchange, clean_redis: str) -> None:
    with (
        closing(SharedBudget(clean_redis, "a")) as one,
        closing(open_account(paper.rest_url, open_signer(*paper.key("desk-read")))) as account,
    ):
        one.learn(Tariff("expert", Rate(600, 600), Rate(600, 1_800)))
        with closing(SharedBudget(clean_redis, "a")) as other:
            assert other.tariff.read == Rate(600, 600)
        read_tariff(account, one)
        with closing(SharedBudget(clean_redis, "a")) as other:
            assert (other.tariff.tier, other.tariff.write) == ("basic", Rate(100, 100))
            assert other.tariff.costs[("GET", "/portfolio/orders/{}")] == 2
        with closing(SharedBudget(clean_redis, "b")) as stranger:
            assert stranger.tariff == Tariff()


def taken(budget: SharedBudget, charge: Charge) -> int:
    """How many pass at once."""
    count = 0
    try:
        while True:
            budget.take(charge, patience=0)
            count += 1
    except OverBudget:
        return count


def test_two_processes_take_from_one_bucket(clean_redis: str) -> None:
    with closing(SharedBudget(clean_redis, "a")) as one, closing(SharedBudget(clean_redis, "a")) as other:
        one.learn(SLOW)
        assert (taken(one, READ), taken(other, READ)) == (27, 0)


def test_a_429_slows_every_process(clean_redis: str) -> None:
    with closing(SharedBudget(clean_redis, "a")) as one, closing(SharedBudget(clean_redis, "a")) as other:
        one.learn(SLOW)
        one.throttled(READ)
        with pytest.raises(OverBudget):
            other.take(READ, patience=0)
        other.take(CANCEL, patience=0)


def test_ways_out_pass_when_creates_have_used_all_that_is_theirs(clean_redis: str) -> None:
    with closing(SharedBudget(clean_redis, "a")) as one, closing(SharedBudget(clean_redis, "a")) as other:
        one.learn(SLOW)
        assert taken(one, CREATE) == 2
        slept: list[float] = []
        with closing(SharedBudget(clean_redis, "a", sleep=slept.append)) as out:
            for _ in range(9):
                out.take(CANCEL, patience=0)
        assert slept == []
        with pytest.raises(OverBudget):
            other.take(CREATE, patience=0)


def test_a_batch_larger_than_the_bucket_is_refused_without_asking(clean_redis: str) -> None:
    batch = Tariff().charge("POST", "/portfolio/events/orders/batched", items=9)
    with closing(SharedBudget(clean_redis, "a")) as budget, pytest.raises(OverBudget, match="at once"):
        budget.take(batch, patience=60)


def test_one_bucket_under_many_threads_is_never_overdrawn(clean_redis: str) -> None:
    with closing(SharedBudget(clean_redis, "a")) as budget:
        budget.learn(SLOW)
        counts: list[int] = []
        threads = [threading.Thread(target=lambda: counts.append(taken(budget, READ))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(counts) == 27


def test_without_redis_a_process_goes_on_with_its_share(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = f"unix://{tmp_path_factory.mktemp('none')}/redis.sock"
    with closing(SharedBudget(nowhere, "a")) as budget:
        budget.learn(SLOW)
        assert taken(budget, READ) == 6
        budget.take(CANCEL, patience=0)
        budget.throttled(READ)
        budget.learn(Tariff("expert", Rate(600, 600), Rate(600, 1_800)))
        assert budget.tariff.tier == "expert"


def test_a_redis_that_hangs_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short wait, not one per request."""
    monkeypatch.setattr(WITHIN, 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        silent.setblocking(False)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with closing(SharedBudget(url, "a", monotonic=lambda: 100.0, sleep=lambda _: None)) as budget:
            for _ in range(50):
                budget.take(CANCEL, patience=0)
            silent.accept()[0].close()
            with pytest.raises(BlockingIOError):
                silent.accept()


def test_redis_that_comes_back_is_used_again(clean_redis: str) -> None:
    moments = iter(float(number) for number in range(0, 1_000_000, 10))
    with closing(SharedBudget(clean_redis, "a", monotonic=lambda: next(moments))) as budget:
        budget._rests_until = 5.0
        budget.take(READ, patience=0)
        with redis.Redis.from_url(clean_redis) as client:
            assert client.exists("exchange-budget:a:read")
