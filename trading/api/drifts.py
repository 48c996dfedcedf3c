"""What changed at the exchange, over REST: the list, and the acknowledgement that resuming waits for."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.idempotency import once, version_seen
from kalshi_site.identity import Right
from trading.exchange.conformity import DriftKind
from trading.market_data import drift
from trading.models import DriftNote

READ = Right.of("trading.view_driftnote", "read")
ACKNOWLEDGE = Right.of("trading.acknowledge_drift", "trade", "risk")


class DriftOut(serializers.ModelSerializer[DriftNote]):
    """One departure from the agreed contract. `sample` shows the form alone where the data is the account's own."""

    id = serializers.CharField(source="pk")
    kind = serializers.ChoiceField(choices=[kind.value for kind in DriftKind])

    class Meta:
        model = DriftNote
        fields = (
            *("id", "version", "kind", "place", "field", "found", "sample", "is_money", "count"),
            *("first_at", "last_at", "first_process"),
            *("acknowledged_at", "acknowledged_by", "acknowledged_reason"),
        )
        read_only_fields = fields


class DriftFilter(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["standing", "acknowledged"], required=False)
    is_money = serializers.BooleanField(required=False, allow_null=True, default=None)


class AcknowledgeReason(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300)


class _Drifts(GenericAPIView[DriftNote]):
    serializer_class = DriftOut
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    def get_queryset(self) -> QuerySet[DriftNote]:
        """The departures of this profile's exchange."""
        return DriftNote.objects.filter(venue=settings.KALSHI_PROFILE)


class DriftList(_Drifts, ListAPIView[DriftNote]):
    """What the exchange said that was not agreed, newest first. `status=standing` is what nobody has acknowledged."""

    def get_queryset(self) -> QuerySet[DriftNote]:
        """Raises ValidationError on a status that does not exist."""
        wanted = DriftFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        found = super().get_queryset()
        if status := wanted.validated_data.get("status"):
            found = found.filter(acknowledged_at__isnull=status == "standing")
        is_money = wanted.validated_data["is_money"]
        return found if is_money is None else found.filter(is_money=is_money)

    @extend_schema(operation_id="list_drifts", parameters=[DriftFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class DriftAcknowledge(_Drifts):
    """Answer for one departure."""

    rights: ClassVar[dict[str, Right]] = {"POST": ACKNOWLEDGE}
    accepts = frozenset({"reason"})

    @extend_schema(operation_id="acknowledge_drift", request=AcknowledgeReason, responses=DriftOut)
    @once(versioned=True)
    def post(self, request: Request, pk: str) -> Response:
        """Trading is not resumed by this; it may be resumed once no departure that money depends on stands."""
        body = AcknowledgeReason(data=request.data)
        body.is_valid(raise_exception=True)
        done = drift.acknowledge(
            note=self.get_object(),
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
            version=version_seen(request.headers),
        )
        return Response(self.get_serializer(done).data)
