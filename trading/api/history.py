"""A market's candles, as the feed made them of trades and best prices. What is not known is null."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.errors import UnknownTicker
from kalshi_site.identity import Right
from trading.domain.candles import MINUTES, Candle, Span
from trading.market_data.charts import history
from trading.models import Market

MOST = 1_000
READ = Right.of("trading.view_market", "read")


class SpanOut(serializers.Serializer[Any]):
    """Open, high, low and close in dollars on the YES scale."""

    open = serializers.DecimalField(max_digits=9, decimal_places=4)
    high = serializers.DecimalField(max_digits=9, decimal_places=4)
    low = serializers.DecimalField(max_digits=9, decimal_places=4)
    close = serializers.DecimalField(max_digits=9, decimal_places=4)


class CandleOut(serializers.Serializer[Any]):
    """One period up to `end_at`. `price` is of trades, null without one; `previous` the last price before it.

    A missing bid counts as 0 and a missing ask as 1. `whole` is false where part of the period was not heard.
    """

    end_at = serializers.DateTimeField()
    yes_bid = SpanOut()
    yes_ask = SpanOut()
    price = SpanOut(allow_null=True)
    mean = serializers.DecimalField(max_digits=9, decimal_places=4, allow_null=True)
    previous = serializers.DecimalField(max_digits=9, decimal_places=4, allow_null=True)
    volume = serializers.DecimalField(max_digits=18, decimal_places=2)
    open_interest = serializers.DecimalField(max_digits=18, decimal_places=2, allow_null=True)
    whole = serializers.BooleanField()


class HistoryOut(serializers.Serializer[Any]):
    """The last candles up to now, oldest first, quiet periods included, the running one not."""

    ticker = serializers.CharField()
    minutes = serializers.IntegerField()
    candles = CandleOut(many=True)


class HistoryFilter(serializers.Serializer[Any]):
    minutes = serializers.ChoiceField(choices=list(MINUTES), required=False, default=1)
    limit = serializers.IntegerField(min_value=1, max_value=MOST, required=False, default=120)


class MarketHistory(GenericAPIView[Market]):
    """One market's candles."""

    serializer_class = HistoryOut
    queryset = Market.objects.all()
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    @extend_schema(operation_id="get_market_history", parameters=[HistoryFilter], responses=HistoryOut)
    def get(self, request: Request, ticker: str) -> Response:
        """Empty before the first whole period that the feed has heard. Raises ValidationError, UnknownTicker."""
        wanted = HistoryFilter(data=request.query_params)
        wanted.is_valid(raise_exception=True)
        if not Market.objects.filter(ticker=ticker).exists():
            raise UnknownTicker(f"no market has the ticker {ticker}")
        minutes = int(wanted.validated_data["minutes"])
        found = history(ticker, minutes, timezone.now(), wanted.validated_data["limit"])
        told = {"ticker": ticker, "minutes": minutes, "candles": [_candle(each) for each in found]}
        return Response(HistoryOut(told).data)


def _candle(candle: Candle) -> dict[str, Any]:
    return {
        "end_at": datetime.fromtimestamp(candle.end_ms / 1000, UTC),
        "yes_bid": _span(candle.bid),
        "yes_ask": _span(candle.ask),
        "price": None if candle.traded is None else _span(candle.traded),
        "mean": candle.mean,
        "previous": candle.previous,
        "volume": candle.volume,
        "open_interest": candle.open_interest,
        "whole": candle.is_whole,
    }


def _span(span: Span) -> dict[str, Any]:
    return {"open": span.open, "high": span.high, "low": span.low, "close": span.close}
