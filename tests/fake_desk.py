"""A supervisor over trivial children, as a program of its own: `python -m tests.fake_desk VAR_DIR NAME…`.

A child writes its name to `journal` when it starts and when it is told to end. A name that begins with `stubborn` takes
no notice of being told. A file `NAME.crash` beside the journal makes it crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from kalshi_site.management.supervisor.children import ChildSpec
from kalshi_site.management.supervisor.desk import Desk
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.leftovers import end_leftovers
from kalshi_site.management.supervisor.readiness import file_written
from kalshi_site.management.supervisor.state import DeskState, RunLock

CHILD = """
import pathlib, signal, sys, time
name, journal, ready, mode = sys.argv[1:]
def note(what):
    with open(journal, "a") as file:
        file.write(f"{what} {name}\\n")
def end(*_):
    note("stop")
    if not name.startswith("stubborn"):
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("start")
if mode == "never":
    sys.exit(3)
pathlib.Path(ready).touch()
word = pathlib.Path(journal).with_name(f"{name}.crash")
while not word.exists():
    time.sleep(0.02)
word.unlink()
sys.exit(7)
"""


def child(layout: Layout, name: str, mode: str = "stand") -> ChildSpec:
    """A process that does nothing but note its starts and ends."""
    ready = layout.ready_file(name)
    journal = layout.var / "journal"
    return ChildSpec(
        name=name,
        title=name.title(),
        argv=[sys.executable, "-S", "-c", CHILD, name, str(journal), str(ready), mode],
        env=lambda: {"PATH": os.environ["PATH"]},
        cwd=layout.var,
        probe=file_written(ready),
        ready_file=ready,
        timeout=20,
    )


def main() -> None:
    """Stand until told to end."""
    layout = Layout(Path(sys.argv[1]))
    layout.make()
    lock = RunLock(layout)
    lock.take()
    end_leftovers(layout.run)
    desk = Desk(
        layout,
        [[child(layout, name)] for name in sys.argv[2:]],
        DeskState(url="http://localhost:8123"),
        lambda *_: None,
    )
    asyncio.run(_stand(desk))


async def _stand(desk: Desk) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await desk.run(stop)


if __name__ == "__main__":
    main()
