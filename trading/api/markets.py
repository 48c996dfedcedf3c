"""Markets and their books, as the feed last proved them. A price that is not proven is null."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.errors import UnknownTicker
from kalshi_site.identity import Right
from trading.domain.markets import MarketStatus
from trading.models import Market, Quote

READ = Right.of("trading.view_market", "read")


class MarketOut(serializers.ModelSerializer[Market]):
    """A market's definition and touch. Prices are dollars on the YES scale; `as_of` is when it was last proven."""

    status = serializers.ChoiceField(choices=[status.value for status in MarketStatus])
    settlement_value = serializers.DecimalField(max_digits=9, decimal_places=6, allow_null=True)
    last_price = serializers.DecimalField(max_digits=9, decimal_places=4, allow_null=True)
    volume = serializers.DecimalField(max_digits=18, decimal_places=2, allow_null=True)
    volume_24h = serializers.DecimalField(max_digits=18, decimal_places=2, allow_null=True)
    open_interest = serializers.DecimalField(max_digits=18, decimal_places=2, allow_null=True)
    yes_bid = serializers.DecimalField(
        max_digits=9, decimal_places=4, source="quote.top.yes_bid", default=None, allow_null=True
    )
    yes_ask = serializers.DecimalField(
        max_digits=9, decimal_places=4, source="quote.top.yes_ask", default=None, allow_null=True
    )
    as_of = serializers.DateTimeField(source="quote.proven_at", default=None, allow_null=True)
    price_ranges = serializers.ListField(child=serializers.DictField(child=serializers.CharField()))

    class Meta:
        model = Market
        fields = (
            *("ticker", "event_ticker", "series_ticker", "category", "title", "yes_sub_title", "rules_text"),
            *("status", "open_at", "close_at", "result", "settlement_value", "mutually_exclusive"),
            *("price_ranges", "fee_type", "fee_multiplier", "yes_bid", "yes_ask", "as_of", "last_price"),
            *("volume", "volume_24h", "open_interest", "updated_at"),
        )
        read_only_fields = fields


class LevelOut(serializers.Serializer[Any]):
    price = serializers.DecimalField(max_digits=9, decimal_places=4)
    quantity = serializers.DecimalField(max_digits=18, decimal_places=2)


class BookOut(serializers.Serializer[Any]):
    """The top levels on the YES scale, best first: an ask at p is a bid for NO at 1 - p."""

    ticker = serializers.CharField()
    trusted = serializers.BooleanField()
    as_of = serializers.DateTimeField(allow_null=True)
    bids = LevelOut(many=True)
    asks = LevelOut(many=True)


class MarketFilter(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=[status.value for status in MarketStatus], required=False)
    event_ticker = serializers.CharField(max_length=120, required=False)
    series_ticker = serializers.CharField(max_length=120, required=False)


class _Markets(GenericAPIView[Market]):
    serializer_class = MarketOut
    lookup_field = "ticker"
    cursor_field = "ticker"
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    def get_queryset(self) -> QuerySet[Market]:
        """The catalogue."""
        return Market.objects.select_related("quote")

    def get_object(self) -> Market:
        """Raises UnknownTicker."""
        ticker = self.kwargs["ticker"]
        found = self.get_queryset().filter(ticker=ticker).first()
        if found is None:
            raise UnknownTicker(f"no market has the ticker {ticker}")
        return found


class MarketList(_Markets, ListAPIView[Market]):
    """The markets that the desk knows, by ticker."""

    def get_queryset(self) -> QuerySet[Market]:
        """Raises ValidationError on an unknown status."""
        wanted = MarketFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        return super().get_queryset().filter(**wanted.validated_data)

    @extend_schema(operation_id="list_markets", parameters=[MarketFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class MarketDetail(_Markets, RetrieveAPIView[Market]):
    """One market."""

    @extend_schema(operation_id="get_market")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class MarketBook(_Markets):
    """One market's order book."""

    serializer_class = BookOut  # type: ignore[assignment]

    @extend_schema(operation_id="get_orderbook", responses=BookOut)
    def get(self, request: Request, ticker: str) -> Response:
        """Empty while it is not trusted: between a gap in the stream and the next snapshot."""
        quote: Quote | None = getattr(self.get_object(), "quote", None)
        trusted = quote is not None and quote.trusted
        levels = quote.levels if quote is not None and trusted else {}
        book = {
            "ticker": ticker,
            "trusted": trusted,
            "as_of": quote.proven_at if quote is not None else None,
            "bids": _levels(levels.get("bids", [])),
            "asks": _levels(levels.get("asks", [])),
        }
        return Response(BookOut(book).data)


def _levels(levels: list[list[str]]) -> list[dict[str, Decimal]]:
    return [{"price": Decimal(price), "quantity": Decimal(count)} for price, count in levels]
