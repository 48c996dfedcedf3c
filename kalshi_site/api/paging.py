"""Lists in pages: `{"data": […], "next_cursor": …, "has_more": …}`, by an opaque, signed cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.errors import DeskError, FieldError

if TYPE_CHECKING:  # DRF loads this module while it loads its own views
    from rest_framework.views import APIView

DEFAULT: Final = 50
MOST: Final = 200
_SALT: Final = "api.cursor"

_Model = TypeVar("_Model", bound=Model)
_Row = TypeVar("_Row")


class SignedCursor(BasePagination):
    """Goes on after the last row seen, so that rows that arrive meanwhile are neither repeated nor skipped.

    A view may set `cursor_field`: a unique column, `-` for descending; default newest first.
    """

    def paginate_queryset(
        self,
        queryset: QuerySet[_Model, _Row] | Sequence[_Row],
        request: Request,
        view: APIView | None = None,
    ) -> list[_Row]:
        """One page of rows. Raises DeskError E011/E012 on `limit`, E015 on `cursor`."""
        assert isinstance(queryset, QuerySet)
        self.field = getattr(view, "cursor_field", "-pk")
        limit = _limit(request.query_params.get("limit"))
        rows = queryset.order_by(self.field)
        if cursor := request.query_params.get("cursor"):
            rows = rows.filter(**self._beyond(cursor))
        found = list(rows[: limit + 1])
        self.has_more = len(found) > limit
        self.page: list[Any] = found[:limit]
        return self.page

    def get_paginated_response(self, data: Any) -> Response:
        """The page in its envelope."""
        following = self._cursor_of(self.page[-1]) if self.has_more else None
        return Response({"data": data, "next_cursor": following, "has_more": self.has_more})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The envelope, for the schema."""
        return {
            "type": "object",
            "required": ["data", "next_cursor", "has_more"],
            "properties": {
                "data": schema,
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "Opaque; give it back as `cursor`.",
                },
                "has_more": {"type": "boolean"},
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """The query parameters, for the schema."""
        size = {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT}
        return [
            {"name": "limit", "in": "query", "required": False, "schema": size},
            {"name": "cursor", "in": "query", "required": False, "schema": {"type": "string"}},
        ]

    def _beyond(self, cursor: str) -> dict[str, Any]:
        try:
            field, last = signing.loads(cursor, salt=_SALT)
        except (signing.BadSignature, ValueError, TypeError) as error:
            raise _refused("cursor", "E015", "not a cursor of ours") from error
        if field != self.field:
            raise _refused("cursor", "E015", "a cursor of another list")
        return {f"{field.removeprefix('-')}__{'lt' if field.startswith('-') else 'gt'}": last}

    def _cursor_of(self, row: Model) -> str:
        return signing.dumps([self.field, getattr(row, self.field.removeprefix("-"))], salt=_SALT)


def _limit(given: str | None) -> int:
    if given is None:
        return DEFAULT
    if not given.isascii() or not given.isdigit() or len(given) > 6:
        raise _refused("limit", "E011", "a whole number")
    if not 1 <= int(given) <= MOST:
        raise _refused("limit", "E012", f"1 to {MOST}")
    return int(given)


def _refused(name: str, code: str, wanted: str) -> DeskError:
    return DeskError(f"{name}: {wanted}", code=code, errors=[FieldError(f"#/query/{name}", code, wanted)])
