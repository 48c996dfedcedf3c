"""Starting, watching and stopping the processes of the desk; here the processes do nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kalshi_site.env import Settings
from kalshi_site.management.supervisor import children, desk, start
from kalshi_site.management.supervisor.children import ChildFailed, ChildSpec
from kalshi_site.management.supervisor.desk import Desk
from kalshi_site.management.supervisor.layout import LONGEST_SOCKET, Layout, UnsafeDirectory
from kalshi_site.management.supervisor.leftovers import end_leftovers, remember, started_at
from kalshi_site.management.supervisor.plan import Plan
from kalshi_site.management.supervisor.ports import first_free, free_port, is_free
from kalshi_site.management.supervisor.redis_servers import choose
from kalshi_site.management.supervisor.state import (
    AlreadyRunning,
    DeskState,
    RunLock,
    read_state,
    running_state,
)
from tests.fake_desk import child

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "a state directory")
    made.make()
    return made


def journal(layout: Layout) -> list[str]:
    path = layout.var / "journal"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def stand(layout: Layout, stages: list[list[ChildSpec]], until: Callable[[DeskState], bool]) -> DeskState:
    """Run a desk until `until` holds, then stop it; the state as it was then."""
    state = DeskState()
    seen: list[str] = []

    async def scene() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(Desk(layout, stages, state, lambda *_: None).run(stop))
        async with asyncio.timeout(30):
            while not running.done() and not until(state):
                await asyncio.sleep(0.02)
        seen.append(json.dumps({name: one.state for name, one in state.processes.items()}))
        stop.set()
        await running

    asyncio.run(scene())
    return state


def is_ready(state: DeskState) -> bool:
    return state.phase == "ready"


@contextmanager
def running_desk(layout: Layout, *names: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.fake_desk", str(layout.var), *names]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            wait_for(lambda: (found := running_state(layout)) and found.phase == "ready", "the desk")
            yield process
        finally:
            process.kill()
            process.wait()
            end_leftovers(layout.run)


def test_each_process_starts_when_the_one_before_is_ready_and_all_stop_in_the_opposite_order(
    layout: Layout,
) -> None:
    stages = [[child(layout, name)] for name in ("first", "second", "third")]
    state = stand(layout, stages, is_ready)
    order = ["start first", "start second", "start third", "stop third", "stop second", "stop first"]
    assert journal(layout) == order
    assert state.phase == "stopped"
    assert {one.state for one in state.processes.values()} == {"stopped"}
    assert not list(layout.run.glob("*.pid"))


def test_a_process_that_crashes_is_started_again_and_counted(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "FIRST_DELAY", 0.05)

    def restarted(state: DeskState) -> bool:
        if is_ready(state) and not state.processes["shaky"].restarts:
            (layout.var / "shaky.crash").touch()
        return state.processes["shaky"].restarts >= 1 and state.processes["shaky"].state == "ready"

    state = stand(layout, [[child(layout, "steady")], [child(layout, "shaky")]], restarted)
    assert journal(layout)[:3] == ["start steady", "start shaky", "start shaky"]
    assert state.processes["steady"].restarts == 0


def test_a_process_that_never_gets_ready_ends_the_start_and_everything_before_it(layout: Layout) -> None:
    stages = [[child(layout, "steady")], [child(layout, "broken", "never")], [child(layout, "later")]]
    with pytest.raises(ChildFailed, match="Broken ended with 3"):
        stand(layout, stages, lambda _: False)
    assert journal(layout) == ["start steady", "start broken", "stop steady"]
    state = read_state(layout)
    assert state is not None
    assert (state.phase, state.failure) == ("failed", "Broken ended with 3 before it was ready")


def test_a_process_that_does_not_listen_is_killed_within_the_time_for_stopping(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.STOP_SECONDS < 5
    monkeypatch.setattr(desk, "STOP_SECONDS", 0.3)
    pids: list[int] = []

    def ready(state: DeskState) -> bool:
        pids[:] = [pid for one in state.processes.values() if (pid := one.pid)]
        return is_ready(state)

    stand(layout, [[child(layout, "stubborn")], [child(layout, "polite")]], ready)
    assert len(pids) == 2
    assert [started_at(pid) for pid in pids] == [None, None]


def test_the_signal_of_ctrl_c_stops_the_desk_in_order(layout: Layout) -> None:
    with running_desk(layout, "first", "second") as supervisor:
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(timeout=30) == 0
    assert journal(layout)[-2:] == ["stop second", "stop first"]


def test_a_killed_supervisor_takes_its_children_with_it_or_leaves_them_to_be_ended(layout: Layout) -> None:
    with running_desk(layout, "polite", "stubborn") as supervisor:
        state = running_state(layout)
        assert state is not None
        pids = {name: one.pid or 0 for name, one in state.processes.items()}
        supervisor.kill()
        supervisor.wait()
        wait_for(lambda: "stop polite" in journal(layout), "the kernel's word to the children")
        assert running_state(layout) is None
        assert "stubborn" in end_leftovers(layout.run)
    assert {name: started_at(pid) for name, pid in pids.items()} == {"polite": None, "stubborn": None}
    assert not list(layout.run.glob("*.pid"))


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(layout: Layout) -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as bystander:
        path = layout.run / "web.pid"
        remember(path, bystander.pid)
        left = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**left, "started": "1"}), encoding="utf-8")
        assert end_leftovers(layout.run) == []
        assert bystander.poll() is None
        bystander.kill()


def test_a_second_run_finds_the_first_and_prints_where_it_is(
    layout: Layout, settings: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.VAR_DIR = layout.var  # type: ignore[attr-defined]  # pytest-django's settings proxy
    with running_desk(layout, "only"):
        with pytest.raises(AlreadyRunning):
            RunLock(layout).take()
        assert start.foreground(start.Wishes(port=8000)) == 0
    assert "Already running: http://localhost:8123" in capsys.readouterr().out
    assert RunLock(layout).is_free()


def test_a_busy_port_moves_on_to_the_next() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert not is_free(port)
        assert first_free(port) > port


def test_a_log_that_has_grown_is_put_aside_while_its_writer_goes_on(layout: Layout) -> None:
    path = layout.log_file("web")
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert desk.rotate(path, limit=50)
        writer.write(b"after")
        assert not desk.rotate(path, limit=50)
    assert path.read_bytes() == b"after"
    assert path.with_name("web.log.1").read_bytes() == b"x" * 100


def test_everything_written_is_private_and_the_secret_is_made_once(layout: Layout) -> None:
    secret = layout.secret_key.read_text(encoding="utf-8")
    layout.make()
    assert layout.secret_key.read_text(encoding="utf-8") == secret
    assert layout.secret_key.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (layout.var, layout.run, layout.logs)} == {0o700}


def test_the_socket_directory_is_short_for_any_clone_and_refused_when_open_to_others(tmp_path: Path) -> None:
    deep = Layout(tmp_path / ("long name with spaces " * 8) / "var")
    sockets = deep.sockets()
    try:
        assert len(os.fsencode(sockets / "cache.sock")) <= LONGEST_SOCKET
        assert sockets.stat().st_mode & 0o777 == 0o700
        sockets.chmod(0o755)
        with pytest.raises(UnsafeDirectory):
            deep.sockets()
    finally:
        sockets.rmdir()


def paper_accounts(layout: Layout) -> None:
    keys = [
        {"key_id": "r", "key_file": "keys/r.pem", "scopes": ["read"]},
        {"key_id": "t", "key_file": "keys/t.pem", "scopes": ["read", "write::trade"]},
    ]
    accounts = {"accounts": [{"account_id": "desk", "name": "Desk", "keys": keys}]}
    (layout.paper / "accounts.json").write_text(json.dumps(accounts), encoding="utf-8")


def plan_for(layout: Layout, **environment: str) -> Plan:
    settings = Settings(environment)
    return Plan(
        layout=layout,
        settings=settings,
        root=ROOT,
        profile="paper",
        port=free_port(),
        paper_port=free_port(),
        redis=choose(settings, layout),
    )


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("execution", {"r", "t"}),
        ("watchdog", {"t"}),
        ("feed", {"r"}),
        ("update", {"r"}),
        ("agent", set()),
        ("beat", set()),
        ("web", set()),
        ("paper", set()),
        ("redis-live", set()),
    ],
)
def test_only_execution_and_its_watchdog_are_given_the_trading_key(
    layout: Layout, name: str, keys: set[str]
) -> None:
    paper_accounts(layout)
    plan = plan_for(layout, METRICS_TOKEN="scraper", DATABASE_URL="sqlite:///x")
    specs = {spec.name: spec for stage in plan.stages() for spec in stage}
    environment = specs[name].env()
    given = {value for key, value in environment.items() if key.endswith("KEY_ID")}
    assert given == keys
    assert ("METRICS_TOKEN" in environment) == (name == "web")
    assert not any("TRADE" in key for key in environment if key != "PAPER_TRADING" and "t" not in keys)


def test_the_order_of_start_is_redis_exchange_feed_execution_workers_and_web(layout: Layout) -> None:
    stages = [[spec.name for spec in stage] for stage in plan_for(layout).stages()]
    assert stages == [
        ["redis-live", "redis-cache"],
        ["paper"],
        ["feed"],
        ["execution"],
        ["watchdog", "update", "agent", "beat", "web"],
    ]


def test_a_redis_given_by_url_is_not_started(layout: Layout) -> None:
    plan = plan_for(layout, REDIS_URL="redis://127.0.0.1:1/0")
    assert [spec.name for spec in plan.stages()[0]] == ["redis-cache"]
    assert plan.runtime()["REDIS_URL"] == "redis://127.0.0.1:1/0"


def test_the_two_private_servers_keep_and_forget_as_their_use_demands(layout: Layout) -> None:
    live, cache = choose(Settings({}), layout)
    assert ("noeviction" in live.argv, "allkeys-lru" in cache.argv) == (True, True)
    for server in (live, cache):
        assert server.argv[server.argv.index("--port") + 1] == "0"
        assert server.argv[server.argv.index("--unixsocketperm") + 1] == "700"


@pytest.mark.parametrize("kind", ["auto", "wheel", "python"])
def test_each_kind_of_redis_answers(layout: Layout, kind: str) -> None:
    plan = plan_for(layout, KALSHI_REDIS=kind)
    state = stand(layout, [plan.stages()[0]], is_ready)
    assert state.failure == ""
    assert [server.degraded for server in plan.redis] == [kind == "python"] * 2
