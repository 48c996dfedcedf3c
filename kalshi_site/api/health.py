"""How the desk is, for scripts that hold a token; `/readyz` and `/tradez` answer machines without one."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kalshi_site.identity import Right
from kalshi_site.views.health import READY, TRADING


class HealthOut(serializers.Serializer[Any]):
    """`ready`: pages can be served. `trading`: an approved order would go out now. `checks`: "ok" or what is wrong."""

    ready = serializers.BooleanField()
    trading = serializers.BooleanField()
    profile = serializers.CharField()
    checks = serializers.DictField(child=serializers.CharField())


class Health(APIView):
    """The checks behind `/readyz` and `/tradez`."""

    rights: ClassVar[dict[str, Right]] = {"GET": Right.of("portfolio.view_tradingstate", "read")}

    @extend_schema(operation_id="get_health", responses=HealthOut)
    def get(self, request: Request) -> Response:
        """Always 200: the answer itself says how things are."""
        faults = {name: check() for name, check in {**READY, **TRADING}.items()}
        health = {
            "ready": not any(faults[name] for name in READY),
            "trading": not any(faults.values()),
            "profile": settings.KALSHI_PROFILE,
            "checks": {name: fault or "ok" for name, fault in faults.items()},
        }
        return Response(HealthOut(health).data)
