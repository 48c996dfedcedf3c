"""From nothing to a running desk: lock, leftovers, port, Redis, database, people, processes, the box on the screen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from kalshi_site.assets import NOT_SERVED
from kalshi_site.build import build_id
from kalshi_site.env import ConfigError, Problem, Settings
from kalshi_site.management.supervisor import database, people, screen
from kalshi_site.management.supervisor.desk import Desk
from kalshi_site.management.supervisor.layout import Layout, UnsafeDirectory, write_private
from kalshi_site.management.supervisor.leftovers import end_leftovers
from kalshi_site.management.supervisor.plan import READ, TRADE, Plan
from kalshi_site.management.supervisor.ports import first_free, free_port
from kalshi_site.management.supervisor.redis_servers import choose, refuse_unreachable
from kalshi_site.management.supervisor.state import (
    AlreadyRunning,
    DeskState,
    RunLock,
    read_state,
    running_state,
)
from portfolio import risk

START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who started it asked for."""

    port: int
    demo: bool = True
    browse: bool = False


def foreground(wishes: Wishes) -> int:
    """Start everything and stand until SIGINT, SIGTERM or SIGHUP. A second run prints where the first one is.

    Raises ConfigError, UnsafeDirectory, NoPort, ChildFailed: then nothing is left running.
    """
    if settings.CONFIG_PROBLEMS:
        raise ConfigError(*settings.CONFIG_PROBLEMS)
    layout = Layout(settings.VAR_DIR)
    layout.make()
    lock = RunLock(layout)
    try:
        lock.take()
    except AlreadyRunning:
        return _point_to_first(layout)
    try:
        return _run(layout, wishes)
    finally:
        layout.runtime.unlink(missing_ok=True)
        with contextlib.suppress(OSError, UnsafeDirectory):
            layout.sockets().rmdir()
        lock.release()


def detached(wishes: Wishes) -> int:
    """Start a supervisor of its own session, show what it says, return when the desk is ready."""
    layout = Layout(settings.VAR_DIR)
    layout.make()
    if running_state(layout) is not None:
        return _point_to_first(layout)
    log = layout.log_file("desk")
    argv = [sys.executable, "manage.py", "up", "--port", str(wishes.port)]
    argv += [] if wishes.demo else ["--no-demo"]
    # In the environment the profile is already the one that was asked for.
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv,
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return _follow_until_ready(layout, log, child)


def _follow_until_ready(layout: Layout, log: Path, child: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_SECONDS
    with log.open(encoding="utf-8", errors="replace") as shown:
        while time.monotonic() < deadline:
            _show(shown.read())
            code = child.poll()
            state = read_state(layout)
            boxed = (
                state is not None and state.pid == child.pid and state.phase == "ready" and state.announced
            )
            if boxed or code is not None:
                _show(shown.read())
                return code or 0
            time.sleep(0.1)
    child.terminate()
    sys.stderr.write(f"not ready after {START_SECONDS:.0f} s; see make logs and make doctor\n")
    return 1


def _show(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(text)
        sys.stdout.flush()


def _run(layout: Layout, wishes: Wishes) -> int:
    say = screen.Screen()
    if gone := end_leftovers(layout.run):
        say.done("Leftovers", f"ended {', '.join(gone)} of a run that was killed")
    plan = _plan(layout, wishes, say)
    state = DeskState(
        url=f"http://localhost:{plan.port}",
        profile=plan.profile,
        redis=plan.redis[0].detail,
        degraded=[server.name for server in plan.redis if server.degraded],
    )
    state.write(layout.state)
    _clear_metrics(layout)
    assets = _collect_static(plan)
    say.done("Database", database.bring_up_to_date(layout))
    risk.accept_build(venue=plan.profile, build=build_id(), actor="up", reason="started as a whole")
    logins = _people(plan, wishes, state.url, say)
    write_private(layout.runtime, json.dumps(plan.runtime()))
    _await_static(assets, layout)

    def announce() -> None:
        say.box(state.url, plan.profile, logins)
        state.announced = True
        state.write(layout.state)
        if wishes.browse:
            webbrowser.open(state.url)

    desk = Desk(layout, plan.stages(), state, say.done)
    asyncio.run(_until_signalled(desk, announce))
    say.plain("Stopped.")
    return 0


async def _until_signalled(desk: Desk, announce: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    await desk.run(stop, announce)


def _plan(layout: Layout, wishes: Wishes, say: screen.Screen) -> Plan:
    port = first_free(wishes.port)
    if port != wishes.port:
        say.done("Port", f"{wishes.port} is busy, using {port}")
    own = Settings(dotenv=settings.DOTENV)
    redis = choose(own, layout)
    for server in redis:
        if not server.argv:
            refuse_unreachable(server)
            say.done(f"Redis {server.name.removeprefix('redis-')}", server.detail)
    paper = settings.KALSHI_PROFILE == "paper"
    if not paper:
        _refuse_without_keys(own)
    return Plan(
        layout=layout,
        settings=own,
        root=settings.BASE_DIR,
        profile=settings.KALSHI_PROFILE,
        port=port,
        paper_port=free_port() if paper else None,
        redis=redis,
    )


def _refuse_without_keys(own: Settings) -> None:
    missing = [name for name in READ + TRADE if not own.text(name)]
    if missing:
        hint = "docs/how-to/connect-to-demo.md says how keys are made."
        raise ConfigError(*(Problem("E951", f"{name} is missing.", hint) for name in missing))


def _people(plan: Plan, wishes: Wishes, url: str, say: screen.Screen) -> list[people.Login]:
    if plan.profile != "paper" or not wishes.demo:
        from kalshi_site.identity import ensure_roles

        ensure_roles()
        people.retire_demo_users()
        return []
    logins = people.first_users(plan.layout.credentials, url)
    say.done("People", f"{len(logins)} demo logins, also in {plan.layout.credentials.name}")
    return logins


def _clear_metrics(layout: Layout) -> None:
    # Counters of processes that are gone would be added to those of the new ones.
    shutil.rmtree(layout.run / "metrics", ignore_errors=True)
    (layout.run / "metrics").mkdir(mode=0o700)


def _collect_static(plan: Plan) -> subprocess.Popen[bytes]:
    ignored = [option for pattern in NOT_SERVED for option in ("--ignore", pattern)]
    with plan.layout.log_file("collectstatic").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity", "0", *ignored],
            cwd=plan.root,
            env=dict(plan.environment("collectstatic")),
            stdout=log,
            stderr=log,
        )


def _await_static(process: subprocess.Popen[bytes], layout: Layout) -> None:
    if process.wait(timeout=START_SECONDS):
        tail = layout.log_file("collectstatic").read_text(encoding="utf-8", errors="replace")[-800:]
        raise ConfigError(
            Problem("E951", f"The static files could not be collected: {tail}", "Run make setup.")
        )


def _point_to_first(layout: Layout) -> int:
    """Say where the running desk is, once it stands."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        state = running_state(layout)
        if state is not None and state.phase == "ready":
            screen.Screen().plain(f"Already running: {state.url}  (make status, make stop)")
            return 0
        if state is None and RunLock(layout).is_free():
            break
        time.sleep(0.2)
    screen.Screen().plain("Another start did not become ready; see make status and make logs.")
    return 1
