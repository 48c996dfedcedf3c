"""The way out of a second terminal, through the real door: `manage.py trade` as a process with an environment of its
own, while execution is dead or frozen and Redis, Celery and web are dead. It finds the desk by what the supervisor left
(runtime.json, the paper exchange's keys, deployment_id) or by `.env`, and speaks with the real paper exchange.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kalshi_site.env import Settings
from kalshi_site.management.supervisor.layout import Layout, write_private
from kalshi_site.management.supervisor.plan import PASSED, READ, TRADE, Plan, paper_keys
from kalshi_site.management.supervisor.redis_servers import RedisServer
from portfolio import risk
from portfolio.models import Position
from tests import factories
from tests.exchanges import ROOT, database_url
from tests.reliability import desk
from tests.reliability.desk import NOWHERE, wait_for
from tests.reliability.venue import Stage, Truth, Venue, venues
from trading.execution.claims import client_order_id
from trading.models import Liquidation, Order
from trading.paper import auth

STARTS_WITHIN = 120.0
TRADES_WITHIN = 120.0
WITHIN = "90"  # seconds that a command may take to prove its deed: the machine may be busy
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@dataclass(frozen=True)
class Terminal:
    """A desk that `make run` has started, as a second terminal finds it. `.env` names the database and nothing else."""

    exchange: Venue
    plan: Plan
    stage: Stage  # of the account `desk`

    @property
    def var(self) -> Path:
        return self.plan.layout.var

    @property
    def truth(self) -> Truth:
        return self.exchange.truth(self.stage)

    @property
    def resting(self) -> list[str]:
        return [order.order_id for order in self.truth.orders if order.status == "resting"]

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`manage.py trade` with these words and what a shell has: no setting but where the desk is."""
        shell = {name: os.environ[name] for name in PASSED if name in os.environ}
        where = {"VAR_DIR": str(self.var), "KALSHI_ENV_FILE": str(self.var / ".env")}
        return subprocess.run(
            [sys.executable, "manage.py", "trade", *words],
            cwd=ROOT,
            env={**shell, **where},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @contextmanager
    def executing(self) -> Iterator[subprocess.Popen[bytes]]:
        """The real `manage.py execution` as the supervisor starts it, ready; killed after the block."""
        ready = self.plan.layout.ready_file("execution")
        environment = self.plan.environment("execution", READ + TRADE)
        command = [sys.executable, "manage.py", "execution"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            assert wait_for(lambda: ready.exists() or process.poll() is not None, STARTS_WITHIN)
            assert process.poll() is None, "execution ended at once"
            yield process
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    layout = Layout(tmp_path / "var")
    layout.make()
    write_private(layout.var / ".env", f"DATABASE_URL={database_url()}\n")
    desk.furnish()
    with venues(1, oldest_ms=auth.OLDEST_MS) as (exchange,):
        _bring_keys(exchange.key_file.parent, layout.paper)
        plan = Plan(
            layout=layout,
            settings=Settings({}, dotenv=layout.var / ".env"),
            root=ROOT,
            profile="paper",
            port=0,
            paper_port=int(exchange.rest_url.split(":")[2].split("/")[0]),
            redis=[RedisServer(name, NOWHERE, "dead") for name in ("redis-live", "redis-cache")],
        )
        write_private(layout.runtime, json.dumps(plan.runtime()))
        yield Terminal(exchange, plan, Stage("desk", exchange.stage().tickers))


def _bring_keys(exchange: Path, home: Path) -> None:
    """Accounts and keys where the supervisor has the paper exchange keep them."""
    for name in ("accounts.json", "desk-read.pem", "desk-trade.pem"):
        shutil.copy2(exchange / name, home / name)


def dies(_: Terminal, execution: subprocess.Popen[bytes]) -> None:
    """Execution is dead; the command finds the keys where the paper exchange made them."""
    execution.send_signal(signal.SIGKILL)
    execution.wait(10)


def freezes(terminal: Terminal, execution: subprocess.Popen[bytes]) -> None:
    """Execution is frozen; the command has keys of its own in `.env`, as on an exchange that is not ours."""
    execution.send_signal(signal.SIGSTOP)
    own = terminal.var / "own"
    shutil.copytree(terminal.plan.layout.paper, own)
    (terminal.plan.layout.paper / "accounts.json").unlink()
    with (terminal.var / ".env").open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in paper_keys(own).items())


def said(done: subprocess.CompletedProcess[str]) -> Any:
    """The last line of the command's answer."""
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("ends", [dies, freezes])
def test_a_halt_cancels_and_proves_it_in_executions_place(
    terminal: Terminal, ends: Callable[[Terminal, subprocess.Popen[bytes]], None]
) -> None:
    tickers = terminal.stage.tickers
    with terminal.executing() as execution:
        desk.approve(*(desk.propose(ticker, "0.10") for ticker in tickers))
        assert wait_for(lambda: len(terminal.resting) == len(tickers), TRADES_WITHIN)
        assert wait_for(lambda: Order.objects.filter(state="resting").count() == len(tickers), TRADES_WITHIN)
        terminal.exchange.order_by_hand(terminal.stage, tickers[0])  # known by the exchange's list alone
        ends(terminal, execution)
        done = terminal.type("halt", "--json", "--reason", "fire", "--within", WITHIN)
        assert (done.returncode, terminal.resting) == (0, []), done.stderr
    told, state = said(done), risk.trading_state(VENUE)
    assert (told["venue"], told["scope"], told["mode"], told["reason"]) == (VENUE, "all", "HALTED", "fire")
    assert (told["standing"], told["open_orders"]) == ({"all": "HALTED"}, 0)
    assert state.cleared_at is not None
    assert told["cleared_at"] == state.cleared_at.isoformat()
    assert not Order.objects.open().exists()


def test_a_liquidation_is_carried_out_in_executions_place(terminal: Terminal) -> None:
    bought, working, *_ = terminal.stage.tickers
    with terminal.executing() as execution:
        desk.approve(desk.propose(bought, "0.50"), desk.propose(working, "0.10"))
        assert wait_for(lambda: terminal.resting and Position.objects.held(VENUE).exists(), TRADES_WITHIN)
        dies(terminal, execution)
    assert terminal.truth.positions == {bought: 10}
    deployment = uuid.UUID((terminal.var / "deployment_id").read_text().strip())
    done = terminal.type("liquidate", "--yes", "--json", "--within", WITHIN)
    assert (done.returncode, terminal.truth.positions, terminal.resting) == (0, {}, []), done.stderr
    told = {"id": Liquidation.objects.get().public_id, "over": True, "remaining": []}
    assert said(done) == told, done.stdout
    assert not Position.objects.held(VENUE).exists()
    assert risk.trading_state(VENUE).cleared_at is not None
    # After a crash or a restore the exit must be found again: its id is of this desk's own namespace.
    sold = Order.objects.get(reduce_only=True)
    assert sold.proposal is not None
    name = client_order_id(venue=VENUE, deployment=deployment, proposal_id=sold.proposal.public_id)
    assert sold.client_order_id == name
    assert name in {order.client_order_id for order in terminal.truth.orders}


@pytest.mark.parametrize(
    ("words", "code"), [(("halt", "--within", WITHIN), 0), (("liquidate", "--yes", "--within", WITHIN), 1)]
)
def test_canceling_needs_no_deployment_id(terminal: Terminal, words: tuple[str, ...], code: int) -> None:
    """Naive: who cancels is made like who sends. With that file damaged execution does not start."""
    terminal.exchange.order_by_hand(terminal.stage, terminal.stage.tickers[0])
    (terminal.var / "deployment_id").write_text("half an")
    done = terminal.type(*words, "--json")
    assert (done.returncode, terminal.resting) == (code, []), done.stderr
    assert risk.trading_state(VENUE).cleared_at is not None
    assert ("E953" in done.stderr) is (code == 1)


def keys_are_gone(terminal: Terminal) -> None:
    (terminal.plan.layout.paper / "accounts.json").unlink()


def exchange_is_away(terminal: Terminal) -> None:
    terminal.exchange.process.kill()
    terminal.exchange.process.join(10)


@pytest.mark.parametrize(
    ("lose", "words"), [(keys_are_gone, "start execution"), (exchange_is_away, "E610 stopped")]
)
def test_a_halt_that_cannot_be_proven_stands_and_says_so(
    terminal: Terminal, lose: Callable[[Terminal], None], words: str
) -> None:
    terminal.exchange.order_by_hand(terminal.stage, terminal.stage.tickers[0])
    lose(terminal)
    done = terminal.type("halt", "--json", "--within", "3")
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert (said(done)["mode"], said(done)["cleared_at"]) == ("HALTED", None)
    assert risk.trading_state(VENUE).cleared_at is None
