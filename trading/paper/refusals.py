"""Refusals in the exchange's own shapes and codes (API.md 3 and 5).

Refused                     any answer that is not a success
├─ nested(...)              {"error": {"code", "message", "details"?}}   auth, exchange and order errors
├─ flat(...)                {"code", "message", "details"?}              undecodable bodies
├─ bare(...)                {"msg"}                                      parameter validation
└─ too_many_requests()      {"error": "too many requests"}               HTTP 429
"""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """An answer to be sent as it is: HTTP status and JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body = status, body


def nested(status: int, code: str, message: str, details: str = "") -> Refused:
    error = {"code": code, "message": message}
    return Refused(status, {"error": {**error, "details": details} if details else error})


def flat(status: int, code: str, message: str, details: str = "") -> Refused:
    body = {"code": code, "message": message}
    return Refused(status, {**body, "details": details} if details else body)


def bare(message: str) -> Refused:
    return Refused(400, {"msg": message})


def too_many_requests() -> Refused:
    return Refused(429, {"error": "too many requests"})


def not_found(what: str) -> Refused:
    return nested(404, "not_found", f"{what} not found")


def bad_request(details: str) -> Refused:
    return nested(400, "bad_request", "bad request", details)


def invalid_order(details: str) -> Refused:
    return nested(400, "invalid_order", "invalid order", details)
