"""Requests that come late or twice: `If-Match` names the version that was seen, a key makes the repeat harmless.

The effect and the answer are committed in one transaction, so a crash leaves both or neither, and an attempt that never
finished can safely be made again. Expected refusals are kept like answers; server faults are not (UX.md 4.1).

    PreconditionRequired   E203  no If-Match
    KeyRequired            E205  no Idempotency-Key, or not a usable one
    OtherRequest           E206  the key came first with another request
    StillRunning           E207  the first request with this key has not finished
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site import prepared
from kalshi_site.errors import DeskError, FieldError
from kalshi_site.hasty import hasty
from kalshi_site.models import IdempotencyRecord, User

KEPT: Final = timedelta(hours=24)
# No attempt takes this long: the database gives up on a lock after 30 s.
ABANDONED_AFTER: Final = timedelta(seconds=60)
REPLAYED: Final = "Idempotency-Replayed"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_VERSION: Final = re.compile(r'"v([1-9][0-9]{0,17})"')

P = ParamSpec("P")
View = TypeVar("View", bound=APIView)
Method = Callable[Concatenate[View, Request, P], Response]


class PreconditionRequired(DeskError):
    code = "E203"


class KeyRequired(DeskError):
    code = "E205"


class OtherRequest(DeskError):
    code = "E206"


class StillRunning(DeskError):
    code = "E207"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: `body` is plain JSON. `lasting` is False when a repeat should be tried anew."""

    status: int
    body: Any
    headers: Mapping[str, str]
    lasting: bool = True


class Refused(Exception):
    """Carries the answer to an attempt that changed nothing, through the transaction that it rolls back."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def etag(version: int) -> str:
    """The entity tag of a versioned row."""
    return f'"v{version}"'


def version_seen(headers: Mapping[str, str]) -> int:
    """The version in `If-Match: "v<version>"`. Raises PreconditionRequired; DeskError E001 when it is unreadable.

    `*` is refused: deciding on whatever stands there now is what the version exists to prevent.
    """
    given = headers.get("If-Match", "").strip()
    if not given:
        raise PreconditionRequired('send If-Match: "v<version>" with the version that you saw')
    match = _VERSION.fullmatch(given)
    if match is None:
        fault = FieldError("#/headers/If-Match", "E001", 'must be one strong tag such as "v3"')
        raise DeskError('If-Match must be one tag such as "v3"', code="E001", errors=[fault])
    return int(match[1])


def once(*, required: bool = True, versioned: bool = False) -> Callable[[Method[View, P]], Method[View, P]]:
    """Decorate a state-changing method of an API view: the same key and request have one effect and one answer.

    `required=False` is for deeds that are harmless to repeat; a key that is sent is honoured all the same.
    `versioned` asks for If-Match first, so that a decision without it is refused whatever else is missing.
    """

    def decorate(method: Method[View, P]) -> Method[View, P]:
        @functools.wraps(method)
        def guarded(view: View, request: Request, /, *args: P.args, **kwargs: P.kwargs) -> Response:
            if versioned:
                version_seen(request.headers)
            key = request.headers.get("Idempotency-Key", "")
            if not key and not required:
                return method(view, request, *args, **kwargs)
            if not _KEY.fullmatch(key):
                raise KeyRequired(
                    "send Idempotency-Key: 1 to 128 printable characters, fresh for each new request"
                )
            assert isinstance(request.user, User)
            answer, replayed = answer_once(
                owner=request.user,
                key=key,
                request_hash=request_hash(request),
                attempt=lambda: _attempt(view, request, lambda: method(view, request, *args, **kwargs)),
            )
            return _response(answer, replayed=replayed)

        # The schema reads these.
        guarded.__dict__.update(idempotency_key="required" if required else "optional", versioned=versioned)
        return cast("Method[View, P]", guarded)

    return decorate


def _response(answer: Answer, *, replayed: bool) -> Response:
    headers = {**answer.headers, **({REPLAYED: "true"} if replayed else {})}
    kind = headers.pop("Content-Type", None)
    return Response(answer.body, status=answer.status, headers=headers, content_type=kind)


def request_hash(request: Request) -> str:
    """SHA-256 over what makes two requests the same: method, address, precondition and the body's meaning."""
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"), default=str)
    parts = (request.method or "", request.get_full_path(), request.headers.get("If-Match", ""), body)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _attempt(view: APIView, request: Request, run: Callable[[], Response]) -> Answer:
    """Run the method. A refusal becomes an answer that rolls back what was written."""
    try:
        return _answer(request, run())
    except Exception as error:  # the view's own handler tells a refusal from a fault
        raise Refused(_answer(request, view.handle_exception(error))) from error


def _answer(request: Request, response: Response) -> Answer:
    body = json.loads(request.accepted_renderer.render(response.data) or b"null")
    retryable = isinstance(body, dict) and bool(body.get("retryable"))
    # Until it is rendered a response carries Django's default type, which is not the answer's.
    headers = {name: str(value) for name, value in response.headers.items() if name != "Content-Type"}
    if response.content_type:
        headers["Content-Type"] = response.content_type
    return Answer(response.status_code, body, headers, lasting=response.status_code < 500 and not retryable)


def answer_once(
    *, owner: User, key: str, request_hash: str, attempt: Callable[[], Answer]
) -> tuple[Answer, bool]:
    """The answer to this key, and whether it is a replay. Exactly one caller runs `attempt` to its commit.

    1. Insert the record, committed: the unique constraint picks the one who runs.
    2. Run the attempt and write its answer in one transaction. Who was overtaken meanwhile rolls back.
    3. A refusal is rolled back, then kept; a fault is forgotten, so that a repeat runs again.

    Raises OtherRequest, StillRunning.
    """
    record = _begin(owner, key, request_hash)
    if record.finished_at is not None:
        return Answer(record.status or 500, json.loads(record.body), record.headers), True
    try:
        with transaction.atomic():
            answer = attempt()
            _finish(record, answer)
    except Refused as refused:
        answer = refused.answer
        if answer.lasting:
            _finish(record, answer)
        else:
            _forget(record)
    except StillRunning:
        raise
    except BaseException:
        _forget(record)
        raise
    return answer, False


def _begin(owner: User, key: str, request_hash: str) -> IdempotencyRecord:
    """Our own new record, a finished one to replay, or an abandoned one taken over."""
    now = timezone.now()
    row = IdempotencyRecord(owner=owner, key=key, request_hash=request_hash, created_at=now)
    try:
        with hasty():  # the attempt's own commit brings it to the disk, and without one nothing was done
            return prepared.insert(row)
    except IntegrityError:
        first = IdempotencyRecord.objects.filter(owner=owner, key=key).first()
    if first is None:
        raise StillRunning("the first request with this key has just failed; repeat it")
    if first.created_at <= now - KEPT:
        first.delete()
        return _begin(owner, key, request_hash)
    if first.request_hash != request_hash:
        raise OtherRequest("this key came first with another request; use a fresh one")
    if first.finished_at is None and not _take_over(first, now):
        raise StillRunning("the first request with this key has not finished")
    return first


def _take_over(record: IdempotencyRecord, now: datetime) -> bool:
    """Claim an attempt whose process died: nothing of it was committed. One of several callers wins."""
    if record.created_at > now - ABANDONED_AFTER:
        return False
    mine = IdempotencyRecord.objects.filter(pk=record.pk, created_at=record.created_at, finished_at=None)
    won = mine.update(created_at=now) == 1
    record.created_at = now
    return won


def _finish(record: IdempotencyRecord, answer: Answer) -> None:
    unfinished = {"pk": record.pk, "created_at": record.created_at, "finished_at": None}
    told = {"status": answer.status, "body": json.dumps(answer.body), "headers": dict(answer.headers)}
    changes = {**told, "finished_at": timezone.now()}
    if prepared.update(IdempotencyRecord, where=unfinished, changes=changes) != 1:
        raise StillRunning("another attempt with this key has taken over")


def _forget(record: IdempotencyRecord) -> None:
    IdempotencyRecord.objects.filter(pk=record.pk, created_at=record.created_at, finished_at=None).delete()


def forget_old(now: datetime) -> int:
    """Delete records older than KEPT; returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lt=now - KEPT).delete()[0]
