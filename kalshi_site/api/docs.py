"""The API's description as a file and as a page, and the answer to addresses that do not exist."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site.api.schema import openapi_document
from kalshi_site.errors import DeskError
from kalshi_site.identity import Right


class OpenApi(APIView):
    """The API's description."""

    schema = None
    rights: ClassVar[dict[str, Right]] = {"GET": Right.of("trading.view_market", "read")}

    def get(self, request: Request) -> Response:
        """OpenAPI 3.1 as JSON."""
        return Response(openapi_document())


class Docs(SpectacularSwaggerSplitView):
    """The description as a page. The split form: scripts and styles come from files, as the content policy wants."""

    url_name = "openapi"
    template_name = "api/docs.html"  # the package's own has a style element
    schema = None
    permission_classes = ()  # `login_required` stands around it, as around every page
    throttle_classes = ()


class Unknown(APIView):
    """Everything that has no address."""

    schema = None
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Raises DeskError E004, whatever the method."""
        raise DeskError(f"there is no {request.path}", code="E004")
