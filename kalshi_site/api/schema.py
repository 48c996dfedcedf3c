"""The API's description (OpenAPI 3.1), made from the views and the registry of errors."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from kalshi_site.api.authentication import BearerToken, PageSession
from kalshi_site.api.throttling import is_counted
from kalshi_site.errors import REGISTRY
from kalshi_site.identity import Right

PREFIX: Final = "/api/v1"
_STRING: Final = {"type": "string"}

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457. The codes stand in docs/reference/errors.md.",
    "required": ["type", "title", "status", "code", "detail", "instance", "request_id", "retryable", "hint"],
    "properties": {
        "type": _STRING,
        "title": _STRING,
        "status": {"type": "integer"},
        "code": {"$ref": "#/components/schemas/ErrorCode"},
        "detail": _STRING,
        "instance": _STRING,
        "request_id": _STRING,
        "retryable": {"type": "boolean", "description": "The same request may succeed later."},
        "hint": _STRING,
        "current": {"type": "object", "description": "The object as it stands now, with E204."},
        "numbers": {"type": "object", "description": "The numbers behind the refusal."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": _STRING,
                    "code": {"$ref": "#/components/schemas/ErrorCode"},
                    "detail": _STRING,
                },
            },
        },
    },
    "example": {
        "type": "/help/errors/E204",
        "title": REGISTRY["E204"].title,
        "status": 412,
        "code": "E204",
        "detail": "You saw version 3; it is now version 4.",
        "instance": "urn:request:01J9ZK4Q6T8W2X5Y7A9C1E3G5J",
        "request_id": "01J9ZK4Q6T8W2X5Y7A9C1E3G5J",
        "retryable": False,
        "hint": REGISTRY["E204"].recovery,
        "current": {"id": "prop_01J9ZK4Q6T8W2X5Y7A9C1E3G5J", "version": 4, "status": "approved"},
    },
}

# What may go wrong at a door, by what the door is.
_ALWAYS: Final = ("E101", "E103", "E104", "E108", "E901")
_QUERIES: Final = ("E011", "E012")
_ONE: Final = ("E020", "E021")
_WRITES: Final = ("E001", "E002", "E011", "E012", "E013", "E106", "E801")
_ONCE: Final = ("E205", "E206", "E207")
_VERSIONED: Final = (
    "E107",
    "E203",
    "E204",
    "E210",
    "E212",
    "E301",
    "E305",
    "E306",
    "E310",
    "E311",
    "E312",
    "E313",
)


class DeskSchema(AutoSchema):
    """Adds what the doors have in common: scopes, preconditions, keys, problem documents."""

    def get_tags(self) -> list[str]:
        """The first part of the path after the version."""
        return [self.path.removeprefix(PREFIX).strip("/").split("/")[0]]

    def get_override_parameters(self) -> list[Any]:
        """Nothing beyond what the views name; headers are added in `get_operation`."""
        return []

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """The operation with its rights, headers and refusals."""
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        method = getattr(self.view, self.method.lower())
        right = getattr(self.view, "rights", {}).get(self.method)
        if isinstance(right, Right):
            scopes = " or ".join(f"`{scope}`" for scope in sorted(right.scopes))
            operation["description"] = f"{operation.get('description', '')}\n\nScope: {scopes}.".strip()
        parameters = operation.setdefault("parameters", [])
        asked = {each["name"] for each in parameters if each["in"] == "query"}
        parameters.extend(_headers(method))
        operation["responses"].update(_refusals(self._codes(method, asked)))
        return operation

    def _codes(self, method: Any, asked: set[str]) -> set[str]:
        codes = {code for code in _ALWAYS if code != "E108" or is_counted(self.view, self.method)}
        if "{" in self.path:
            codes.update(_ONE)
        if self.method == "GET":
            codes.update(_QUERIES if asked else ())
            codes.update({"E015"} if "cursor" in asked else ())
        else:
            codes.update(_WRITES)
        if hasattr(method, "idempotency_key"):
            codes.update(_ONCE)
        if getattr(method, "versioned", False):
            codes.update(_VERSIONED)
        codes.update(getattr(method, "refusals", ()))
        if self.path.endswith("/close"):
            codes.update(("E212", "E310", "E313"))
        elif self.path.endswith(("/cancel", "/pause", "/resume")):
            codes.update(("E204", "E212"))
        if self.path.endswith("/resume"):
            codes.update(("E010", "E308", "E309"))
        return codes


def _headers(method: Any) -> list[dict[str, Any]]:
    found = []
    if getattr(method, "versioned", False):
        text = "The version that you saw; without it E203, when it is stale E204 with `current`."
        found.append(
            _header("If-Match", text, {**_STRING, "pattern": '^"v[1-9][0-9]*"$', "example": '"v1"'}, True)
        )
    if key := getattr(method, "idempotency_key", ""):
        text = "Fresh for each new request, the same for its repeats; kept 24 h."
        shape = {**_STRING, "minLength": 1, "maxLength": 128, "example": "approve-prop_01J9"}
        found.append(_header("Idempotency-Key", text, shape, key == "required"))
    return found


def _header(name: str, text: str, shape: dict[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "description": text, "schema": shape}


def _refusals(codes: set[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(REGISTRY[code].status, []).append(code)
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {
            "description": "; ".join(f"{code} {REGISTRY[code].title}" for code in found),
            "content": content,
        }
        for status, found in sorted(by_status.items())
    }


@functools.cache
def openapi_document() -> dict[str, Any]:
    """The whole description, sorted by path; the same for every caller."""
    generator = SchemaGenerator(api_version="1")  # type: ignore[no-untyped-call]
    document: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    document["paths"] = {
        path: item for path, item in sorted(document["paths"].items()) if path.startswith(f"{PREFIX}/")
    }
    schemas = document["components"].setdefault("schemas", {})
    schemas["ErrorCode"] = {"type": "string", "enum": list(REGISTRY)}
    schemas["Problem"] = PROBLEM
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


class BearerTokenInSchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerToken
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        """How the schema names a token."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `manage.py token create` or of var/demo-credentials.json.",
        }


class PageSessionInSchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = PageSession
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        """How the schema names a session."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


def openapi_text() -> str:
    """The description as it stands in `docs/reference/openapi.json`."""
    return json.dumps(openapi_document(), indent=1, ensure_ascii=False) + "\n"
