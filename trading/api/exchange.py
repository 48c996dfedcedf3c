"""What the exchange says of itself, as scripts that follow the topic `trading` get it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from trading.models import ExchangeState


class ShardOut(serializers.Serializer[Any]):
    exchange_index = serializers.IntegerField()
    is_active = serializers.BooleanField()
    is_trading = serializers.BooleanField()


class WindowOut(serializers.Serializer[Any]):
    start_at = serializers.DateTimeField()
    end_at = serializers.DateTimeField()


class ExchangeStateOut(serializers.ModelSerializer[ExchangeState]):
    """Not active takes nothing, not even cancels; not trading takes cancels only. `as_of`: when it was last asked."""

    shards = ShardOut(many=True, source="facts.shards")
    maintenance = WindowOut(many=True, source="facts.maintenance")

    class Meta:
        model = ExchangeState
        fields = (
            *("venue", "version", "is_active", "is_trading", "resumes_at"),
            *("shards", "maintenance", "weekly", "as_of"),
        )
        read_only_fields = fields
