"""GETs that may be repeated: retried with growing pauses, decoded into the wire's words, paged to the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

import msgspec
import stamina

from trading.exchange.auth import Signer
from trading.exchange.conformity import PAGING
from trading.exchange.errors import (
    IncompleteList,
    NoAnswer,
    RateLimited,
    SwitchedOff,
    TimestampExpired,
    Unavailable,
    Unreachable,
    UnreadableAnswer,
    read_error,
    refusal,
)
from trading.exchange.link import Link
from trading.exchange.transport import Answer, Parameters, Timeouts, Transport, counted

log = logging.getLogger(__name__)

_PASSING: Final = (Unreachable, NoAnswer, RateLimited, Unavailable)
_MOST_PAGES: Final = 1_000
MOST_IN_A_FILTER: Final = 100

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
        """One answer as `kind`. Raises an ExchangeError once no repeat helps.

        When the exchange refuses the time that we signed with, its answer has just told us the right one: once more.
        """
        try:
            return self._patiently(resource, kind, parameters)
        except TimestampExpired as error:
            self._transport.link.clock.trust_newest()
            log.warning("exchange.clock.resigned", extra={"resource": resource, "error": str(error)})
            return self._patiently(resource, kind, parameters)

    def _patiently(self, resource: str, kind: type[Wire], parameters: Parameters | None) -> Wire:
        retrying = stamina.retry_context(
            on=_PASSING, attempts=self._attempts, timeout=self._patience, wait_initial=0.2, wait_max=3.0
        )
        for attempt in retrying:
            with attempt:
                return _decode(self._fetch(resource, parameters), kind, resource)
        raise AssertionError("a retry context returns or raises")

    def _fetch(self, resource: str, parameters: Parameters | None) -> Answer:
        """One GET past the breaker. Raises SwitchedOff while it is open."""
        breaker = self._transport.link.reads
        if not breaker.allows():
            raise SwitchedOff(f"{resource}: reading has failed in a row and is left alone for a while")
        return counted(breaker, lambda: self._transport.get(resource, parameters))

    def status(self, resource: str, kind: type[Wire]) -> Wire:
        """One answer that keeps its form with 500, 503 and 504, as the exchange's status does (API.md 5).

        It goes past an open breaker: whether the exchange is back is what it asks.
        """
        answer = counted(self._transport.link.reads, lambda: self._transport.get(resource))
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


def quick_reads(rest_url: str, signer: Signer | None = None, *, link: Link | None = None) -> Reads:
    """Reads for a caller that has something more urgent to do: one attempt, three seconds in all."""
    limits = Timeouts(connect=1.0, read=2.0, total=3.0, budget=1.5)
    return Reads(Transport(rest_url, signer, timeouts=limits, link=link), attempts=1)


def _decode(answer: Answer, kind: type[Wire], resource: str) -> Wire:
    if answer.status != HTTPStatus.OK:
        if answer.status < HTTPStatus.BAD_REQUEST:
            raise UnreadableAnswer(f"{resource}: HTTP {answer.status} where 200 is agreed")
        raise refusal(read_error(answer.status, answer.body))
    try:
        told = msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("exchange.contract.drift", extra={"resource": resource, "error": str(error)})
        raise UnreadableAnswer(f"{resource}: {error}") from error
    if getattr(told, "cursor", None) == "" and b'"cursor"' not in answer.body:
        _require_no_other_cursor(answer.body, kind, resource)
    return told


def _require_no_other_cursor(body: bytes, kind: type[Any], resource: str) -> None:
    """A page without a cursor is the last one (API.md 6), unless its cursor has a new name: raises IncompleteList."""
    names = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).keys() - set(kind.__struct_fields__)
    if strange := sorted(name for name in names if PAGING.search(name)):
        raise IncompleteList(
            f"{resource}: no cursor, but {', '.join(strange)}: this may be a part of the list"
        )


def given(**filters: str | int | bool | list[str] | None) -> dict[str, str | int | list[str]]:
    """Query parameters without those that were not given; true and false in the wire's form."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in filters.items()
        if value is not None and value != []
    }


def joined(words: Sequence[str]) -> str | None:
    """Up to 100 words as one parameter, separated by commas, or None without any. Raises ValueError for more."""
    if len(words) > MOST_IN_A_FILTER:
        raise ValueError(f"{len(words)} names in one filter; the exchange takes {MOST_IN_A_FILTER}")
    return ",".join(words) or None


def seconds(at: datetime | None) -> int | None:
    """A moment as the wire's whole Unix seconds."""
    return None if at is None else int(at.timestamp())
