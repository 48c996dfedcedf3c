"""GETs that may be repeated: retried with growing pauses, decoded into the wire's words, paged to the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

import msgspec
import stamina

from trading.exchange.auth import Signer
from trading.exchange.errors import (
    IncompleteList,
    NoAnswer,
    RateLimited,
    Unavailable,
    Unreachable,
    UnreadableAnswer,
    read_error,
    refusal,
)
from trading.exchange.transport import Answer, Parameters, Timeouts, Transport

log = logging.getLogger(__name__)

_PASSING: Final = (Unreachable, NoAnswer, RateLimited, Unavailable)
_MOST_PAGES: Final = 1_000

Wire = TypeVar("Wire")


class Page(Protocol):
    """An answer that is one page of a list."""

    @property
    def cursor(self) -> str: ...


SomePage = TypeVar("SomePage", bound=Page)


class Reads:
    """Reads through one transport. `attempts` bounds the repeats of a failed GET, `patience` (s) their whole time."""

    def __init__(self, transport: Transport, *, attempts: int = 3, patience: float = 20.0) -> None:
        self._transport = transport
        self._attempts = attempts
        self._patience = patience

    def get(self, resource: str, kind: type[Wire], parameters: Parameters | None = None) -> Wire:
        """One answer as `kind`. Raises an ExchangeError once no repeat helps."""
        retrying = stamina.retry_context(
            on=_PASSING, attempts=self._attempts, timeout=self._patience, wait_initial=0.2, wait_max=3.0
        )
        for attempt in retrying:
            with attempt:
                return _decode(self._transport.get(resource, parameters), kind, resource)
        raise AssertionError("a retry context returns or raises")

    def status(self, resource: str, kind: type[Wire]) -> Wire:
        """One answer that keeps its form with 500, 503 and 504, as the exchange's status does (API.md 5)."""
        answer = self._transport.get(resource)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _decode(answer, kind, resource)

    def pages(
        self, resource: str, kind: type[SomePage], parameters: Parameters | None = None
    ) -> Iterator[SomePage]:
        """Every page of a list. Raises IncompleteList when a cursor comes again: the exchange accepts a bad cursor and
        starts from the beginning (API.md 6), so the list would never end."""
        filters = dict(parameters or {})
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            page = self.get(resource, kind, filters)
            yield page
            if not page.cursor:
                return
            if page.cursor in seen:
                raise IncompleteList(f"{resource}: the cursor came a second time after {len(seen)} pages")
            seen.add(page.cursor)
            filters["cursor"] = page.cursor
        raise IncompleteList(f"{resource}: no end after {_MOST_PAGES} pages")

    def all(
        self,
        resource: str,
        kind: type[SomePage],
        items: Callable[[SomePage], list[Wire]],
        parameters: Parameters | None = None,
    ) -> list[Wire]:
        """The items of all pages, complete or not at all."""
        return [item for page in self.pages(resource, kind, parameters) for item in items(page)]

    def close(self) -> None:
        self._transport.close()


def quick_reads(rest_url: str, signer: Signer | None = None) -> Reads:
    """Reads for a caller that has something more urgent to do: one attempt, three seconds in all."""
    return Reads(Transport(rest_url, signer, timeouts=Timeouts(connect=1.0, read=2.0, total=3.0)), attempts=1)


def _decode(answer: Answer, kind: type[Wire], resource: str) -> Wire:
    if answer.status != HTTPStatus.OK:
        if answer.status < HTTPStatus.BAD_REQUEST:
            raise UnreadableAnswer(f"{resource}: HTTP {answer.status} where 200 is agreed")
        raise refusal(read_error(answer.status, answer.body))
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("exchange.contract.drift", extra={"resource": resource, "error": str(error)})
        raise UnreadableAnswer(f"{resource}: {error}") from error


def given(**filters: str | int | bool | list[str] | None) -> dict[str, str | int | list[str]]:
    """Query parameters without those that were not given; true and false in the wire's form."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in filters.items()
        if value is not None and value != []
    }
