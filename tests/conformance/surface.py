"""The surface that a trading desk needs: the operations which the paper exchange and our client must offer, by room."""

from __future__ import annotations

SURFACE: dict[str, tuple[str, ...]] = {
    "Exchange": ("GetExchangeStatus", "GetExchangeSchedule", "GetUserDataTimestamp"),
    "Series": ("GetSeriesList", "GetSeries", "GetSeriesFeeChanges"),
    "Events": ("GetEvents", "GetMultivariateEvents", "GetEvent", "GetEventMetadata", "GetEventFeeChanges"),
    "Markets": (
        *("GetMarkets", "GetMarket", "GetMarketOrderbook", "GetMarketOrderbooks", "GetTrades"),
        *("GetMarketCandlesticks", "BatchGetMarketCandlesticks", "GetMarketCandlesticksByEvent"),
    ),
    "Historical": (
        *("GetHistoricalCutoff", "GetHistoricalMarkets", "GetHistoricalMarket", "GetTradesHistorical"),
        *("GetMarketCandlesticksHistorical", "GetFillsHistorical", "GetHistoricalOrders"),
        "GetHistoricalPositions",
    ),
    "Orders": (
        *("CreateOrderV2", "AmendOrderV2", "DecreaseOrderV2", "CancelOrderV2", "CancelAllOrders"),
        *("BatchCreateOrdersV2", "BatchCancelOrdersV2", "GetOrders", "GetOrder"),
        *("GetOrderQueuePositions", "GetOrderQueuePosition"),
    ),
    "Order groups": (
        *(
            "CreateOrderGroup",
            "GetOrderGroups",
            "GetOrderGroup",
            "UpdateOrderGroupLimit",
            "TriggerOrderGroup",
        ),
        *("ResetOrderGroup", "DeleteOrderGroup"),
    ),
    "Portfolio": (
        *("GetBalance", "GetPositions", "GetFills", "GetSettlements", "GetDeposits", "GetWithdrawals"),
        "GetPortfolioRestingOrderTotalValue",
    ),
    "Subaccounts": (
        *("CreateSubaccount", "ApplySubaccountTransfer", "GetSubaccountBalances", "GetSubaccountTransfers"),
        *("UpdateSubaccountNetting", "GetSubaccountNetting"),
    ),
    "Shards": (
        *(
            "IntraExchangeInstanceTransfer",
            "GetIntraExchangeInstanceTransfers",
            "GetIntraExchangeInstanceTransfer",
        ),
        *("GetTargetBalanceAllocation", "SetTargetBalanceAllocation"),
    ),
    "Account": ("GetAccountApiLimits", "GetAccountEndpointCosts"),
    "API keys": ("GetApiKeys", "CreateApiKey", "GenerateApiKey", "DeleteApiKey"),
}
ALL = frozenset(name for names in SURFACE.values() for name in names)
