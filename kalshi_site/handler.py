"""How the web process answers: each request in one thread from its first middleware to its last, of threads that last.

Django's own ASGI handler takes a new thread for each request, which opens the database anew, and changes threads
wherever a middleware that could be asynchronous meets one that cannot. All of ours is synchronous (ADR 0014).
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# So many requests may wait for the database's lock at once before the next one waits for them.
THREADS: Final = 24
# What stops, cancels or reduces, and the sign of life, wait for none of those.
WAY_OUT: Final = re.compile(
    r"/(?:cancel|cancel-all|decrease|close|halt|pause|liquidate)$|^/trading/state$|^/livez$"
)
THREADS_OUT: Final = 8
# What Django does at a request's start, in a thread that it makes for that: here it is done in the request's own.
_BEFORE: Final = (reset_queries, close_old_connections)


class DeskHandler(ASGIHandler):
    """Runs the whole chain of middleware and view as one call, in a thread that keeps its database connection."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._threads_out = ThreadPoolExecutor(THREADS_OUT, thread_name_prefix="way-out")
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the chain in its synchronous form."""
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """The answer of the chain. Whoever hangs up while a request waits for its thread has asked all the same."""
        threads = self._threads_out if WAY_OUT.search(request.path) else self._threads
        run = contextvars.copy_context().run
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(threads, run, self._answer, request)
        )

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        for each in _BEFORE:
            each()
        try:
            return self.get_response(request)
        finally:
            close_old_connections()


def application() -> DeskHandler:
    """The one of this process, with all apps loaded."""
    django.setup(set_prefix=False)
    from kalshi_site import live  # its models stand only now

    for each in _BEFORE:
        request_started.disconnect(each)
    if settings.KALSHI_PROCESS == "web":
        live.announce_in_background()
        gc.collect()
        gc.freeze()  # a whole collection of what stands for good takes as long as many requests
    return DeskHandler()
