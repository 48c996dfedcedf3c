"""What connects one deed's traces: the request id, carried through threads and tasks by a context variable."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
