"""An answer that is waited for until one moment in all: a socket's own timeout begins anew with every byte."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any


class Answering(http.client.HTTPResponse):
    """Reads from the socket until `until` (`time.monotonic()`), waiting at most `patience` seconds for its next bytes.

    Later, or after longer silence, reading raises TimeoutError: a server that drips holds nobody for ever.
    """

    def __init__(self, sock: socket.socket, *args: Any, until: float, patience: float, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_Reader(sock, self.fp, until, patience))


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, kept: io.BufferedReader, until: float, patience: float) -> None:
        self._sock = sock
        self._kept = kept  # a connection that is closed meanwhile lives until this is closed too
        self._until, self._patience = until, patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(min(left, self._patience))
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        self._kept.close()
        super().close()
