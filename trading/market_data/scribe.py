"""A thread of each process that talks to the exchange: takes what its sentinel heard and writes it down."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from trading.exchange.drift import Sentinel, sentinel
from trading.market_data.drift import write_down

log = logging.getLogger(__name__)

EVERY: Final = 1.0  # seconds
COUNTS_EVERY: Final = 10.0  # seconds between two writes when nothing was noted


@dataclass(slots=True)
class Scribe:
    """Writes for one process until `stop`. Its own thread: it must work while the process waits for the exchange."""

    venue: str
    process: str
    source: Sentinel = field(default_factory=sentinel)
    stop: threading.Event = field(default_factory=threading.Event)
    every: float = EVERY
    _counted_at: float = float("-inf")

    def start(self) -> threading.Thread:
        """Begin, in the background."""
        thread = threading.Thread(target=self._run, name="drift-scribe", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            while not self.stop.wait(self.every):
                close_old_connections()
                self.write()
        finally:
            connections.close_all()

    def write(self) -> None:
        """Write down what is new. A database that is out of reach costs nothing: it is taken again the next time."""
        heard = self.source.take()
        due = time.monotonic() - self._counted_at >= COUNTS_EVERY
        if not heard.sightings and not (due and (heard.answers or heard.frames)):
            self.source.put_back(heard)
            return
        try:
            write_down(venue=self.venue, process=self.process, heard=heard)
            self._counted_at = time.monotonic()
        except DatabaseError as error:
            self.source.put_back(heard)
            log.warning("drift.write.failed", extra={"error": repr(error)})
        except Exception:  # whatever is wrong with writing must not end the writing
            self.source.put_back(heard)
            log.exception("drift.write.broke")
