"""Every refusal and fault as `application/problem+json` (RFC 9457, UX.md 4.2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.db.models import Model
from django.http import Http404
from rest_framework import exceptions
from rest_framework.generics import GenericAPIView
from rest_framework.response import Response
from rest_framework.views import set_rollback

from kalshi_site.errors import REGISTRY, UNEXPECTED, ErrorKind, FieldError
from kalshi_site.observability import request_id
from portfolio.risk import Denied

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = {409: 1, 503: 5}  # seconds, where the error does not know better

# Faults of the framework and their codes; the first class that fits counts.
_FRAMEWORK: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (exceptions.ParseError, "E001"),
    (exceptions.UnsupportedMediaType, "E002"),
    (exceptions.MethodNotAllowed, "E003"),
    (exceptions.NotAcceptable, "E005"),
    (exceptions.NotFound, "E021"),
    (Http404, "E021"),
    (exceptions.NotAuthenticated, "E101"),
    (exceptions.AuthenticationFailed, "E101"),
    (exceptions.Throttled, "E108"),
    (exceptions.PermissionDenied, "E104"),
    (PermissionDenied, "E104"),
    (SuspiciousOperation, "E001"),
    (OperationalError, "E801"),
)
_FIELD_CODES: Final = {
    "required": "E010",
    "null": "E010",
    "blank": "E010",
    "invalid_choice": "E012",
    "max_value": "E012",
    "min_value": "E012",
    "max_length": "E012",
    "min_length": "E012",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer of refusal, before it is JSON."""

    kind: ErrorKind
    detail: str
    errors: tuple[FieldError, ...] = ()
    current: Mapping[str, Any] | None = None
    numbers: Mapping[str, Any] | None = None
    retry_after: int | None = None

    def document(self) -> dict[str, Any]:
        """The problem document of UX.md 4.2. `current`, `errors`, `numbers` only where there are any."""
        kind, trace = self.kind, request_id.get()
        body: dict[str, Any] = {
            "type": f"/help/errors/{kind.code}",
            "title": kind.title,
            "status": kind.status,
            "code": kind.code,
            "detail": _sentence(self.detail) or kind.title,
            "instance": f"urn:request:{trace}",
            "request_id": trace,
            "retryable": kind.retryable,
            "hint": kind.recovery,
        }
        if self.errors:
            body["errors"] = [{"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in self.errors]
        if self.numbers:
            body["numbers"] = {name: _plain(value) for name, value in self.numbers.items()}
        if self.current is not None:
            body["current"] = self.current
        return body

    def response(self) -> Response:
        """The document with its status and headers."""
        headers = {}
        if self.kind.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="kalshi-ops"'
        wait = self.retry_after or (RETRY_AFTER.get(self.kind.status) if self.kind.retryable else None)
        if wait is not None:
            headers["Retry-After"] = str(wait)
        return Response(self.document(), status=self.kind.status, headers=headers, content_type=MEDIA_TYPE)


def handle(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler: expected refusals by their code, everything else logged once and shown as E901."""
    set_rollback()
    problem = problem_of(error)
    current = getattr(error, "current", None)
    view = context.get("view")
    if isinstance(current, Model) and isinstance(view, GenericAPIView):
        problem = replace(problem, current=view.get_serializer(current).data)
    elif isinstance(current, Mapping):
        problem = replace(problem, current=current)
    return problem.response()


def problem_of(error: Exception) -> Problem:
    """The problem behind an exception."""
    code = getattr(error, "code", None)
    if isinstance(error, Denied):
        faults = tuple(
            FieldError(f"#/checks/{c.name}", c.code, f"{c.label}: {c.text}") for c in error.report.blocks
        )
        return Problem(REGISTRY[error.code], str(error), faults)
    if isinstance(code, str) and code in REGISTRY:
        return Problem(
            REGISTRY[code],
            str(error),
            errors=tuple(getattr(error, "errors", ())),
            numbers=getattr(error, "numbers", None),
        )
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error)
    return _from_framework(error)


def _from_framework(error: Exception) -> Problem:
    code = next((code for kind, code in _FRAMEWORK if isinstance(error, kind)), UNEXPECTED)
    detail = str(getattr(error, "detail", "") or error)
    match code:
        case "E901":
            log.error("api.unexpected", exc_info=error)
            return Problem(REGISTRY[code], "the fault stands in the log under this request id")
        case "E801":
            log.warning("api.database.busy", exc_info=error)
            return Problem(REGISTRY[code], "nothing was changed")
        case "E108":
            wait = math.ceil(getattr(error, "wait", None) or 1)
            return Problem(REGISTRY[code], f"try again in {wait} s", retry_after=wait)
        case "E021":
            return Problem(REGISTRY[code], "there is nothing under this address")
        case "E104" if detail.startswith("CSRF"):
            return Problem(REGISTRY["E106"], detail)
    return Problem(REGISTRY[code], detail)


def _invalid(error: exceptions.ValidationError) -> Problem:
    faults = tuple(_faults(error.get_full_details(), ""))
    detail = "; ".join(f"{fault.pointer.lstrip('/') or 'body'}: {fault.detail}" for fault in faults)
    return Problem(REGISTRY[faults[0].code if faults else "E011"], detail, faults)


def _faults(detail: Any, pointer: str) -> Iterator[FieldError]:
    if isinstance(detail, Mapping) and "message" in detail and "code" in detail:
        yield FieldError(pointer, _FIELD_CODES.get(str(detail["code"]), "E011"), str(detail["message"]))
    elif isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _faults(inner, pointer if name == "non_field_errors" else f"{pointer}/{name}")
    elif isinstance(detail, list):
        for inner in detail:
            yield from _faults(inner, pointer)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | str | list | dict | None) else str(value)


def _sentence(text: str) -> str:
    text = text.strip()
    return text and f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.!?' else '.'}"
