"""A process that is frozen in the middle of its work (SIGSTOP) and wakes up again later."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from django.db import connections

Pause = Callable[[], None]


@contextmanager
def frozen(work: Callable[[Pause], None]) -> Iterator[Callable[[], None]]:
    """Run `work(pause)` in a process of its own and freeze it where it calls `pause`.

    Yields what wakes it and waits for its end.
    """
    connections.close_all()  # a fork must not share them
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(work, theirs))
    process.start()
    assert process.pid is not None
    try:
        assert ours.poll(30) and ours.recv() == "here", "the process never came to its pause"
        os.kill(process.pid, signal.SIGSTOP)

        def wake() -> None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
            ours.send("go on")
            process.join(30)
            assert process.exitcode == 0

        yield wake
    finally:
        process.kill()
        process.join()


def _run(work: Callable[[Pause], None], line: Connection) -> None:
    def pause() -> None:
        line.send("here")
        line.recv()

    try:
        work(pause)
    finally:
        connections.close_all()
