"""What the exchange has agreed to send, read from `contract.toml`, and what of it money depends on.

The table is made from the published contract (`ops/exchange_contract.py`) and knows every field, also those that we do
not read: that is what makes a new one visible. The three lists below are ours and stand here by hand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_TABLE: Final = Path(__file__).with_name("contract.toml")

# Fields by which we price, count, book, find or end something: if one of these changes its meaning, we lose money or
# sight. Named once for all messages, because the exchange uses a name for one thing only.
MONEY_FIELDS: Final = frozenset(
    """
    yes_bid_dollars yes_ask_dollars no_bid_dollars no_ask_dollars yes_price_dollars no_price_dollars price_dollars
    last_price_dollars previous_price_dollars previous_yes_bid_dollars previous_yes_ask_dollars
    yes_bid_size_fp yes_ask_size_fp yes_dollars no_dollars yes_dollars_fp no_dollars_fp orderbook_fp orderbooks
    delta_fp count_fp last_trade_size_fp volume_fp volume_24h_fp open_interest_fp
    open_dollars low_dollars high_dollars close_dollars mean_dollars yes_bid yes_ask price candlesticks
    notional_value_dollars settlement_value_dollars settlement_value settlement_floor_dollars settlement_bounds_type
    settlement_timer_seconds value revenue
    price_ranges start end step fee_type fee_multiplier fee_type_override fee_multiplier_override fee_cost
    fee_waiver_expiration_time series_fee_change_arr event_fee_changes scheduled_ts
    balance balance_dollars portfolio_value balance_breakdown position_fp post_position_fp market_positions
    market_exposure_dollars total_traded_dollars realized_pnl_dollars fees_paid_dollars position_cost_dollars
    fills settlements orders order markets market events event series trades cursor error
    yes_count_fp no_count_fp yes_total_cost_dollars no_total_cost_dollars
    initial_count_fp remaining_count_fp fill_count_fp fill_count remaining_count reduced_by queue_position_fp
    queue_positions contracts_limit_fp
    taker_fill_cost_dollars maker_fill_cost_dollars taker_fees_dollars maker_fees_dollars
    average_fill_price average_fee_paid
    status result market_result outcome_side book_side side taker_outcome_side taker_book_side event_type is_taker
    collateral_return_type mutually_exclusive market_type is_deactivated
    exchange_active trading_active exchange_index exchange_index_statuses
    trade_id fill_id order_id client_order_id order_group_id id ticker market_ticker event_ticker series_ticker
    ts_ms open_time close_time open_ts close_ts as_of_time created_time settled_time last_updated_ts
    sid seq msg clock channel
    """.split()
)

# Error codes of API.md 3 and 5, the engine's reasons as words, and in the last lines what the paper exchange says where
# the sources name no code. Matched by their beginning, because some carry dynamic endings.
ERROR_CODES: Final = tuple(
    """
    bad_request invalid_order invalid_price invalid_content_type insufficient_balance available_balance_too_low
    order_id_and_client_order_id_mismatch order_side_mismatch order_ticker_mismatch
    market_inactive market_not_active market_already_closed market_not_found
    header_timestamp_expired authentication_error signature_is_missing_from_headers
    not_found order_already_exists trading_is_paused trading_paused exchange_paused exchange_is_paused
    fill_or_kill_insufficient_resting_volume fok_insufficient_volume deprecated_v1_order_endpoint
    service_unavailable internal_server_error too_many_requests
    self_cross_attempt exceeded_order_group_risk_limit order_group_not_found exceeded_per_market_risk_limit
    exceeded_sell_position_floor invalid_amend_qty_for_order cannot_update_filled_order post_only_cross
    exchange_unavailable
    invalid_parameter invalid_json forbidden insufficient_scope subaccount_forbidden
    too_many_subaccounts transfer_already_exists transfers_are_paused
    """.split()
)

# Endpoints without which we trade on all the same: their end is noted and reduces nothing.
_DISPENSABLE: Final = ("/account/", "/api_keys", "/historical/", "/events/{event_ticker}/metadata")
_PRIVATE_PATHS: Final = ("/portfolio", "/account", "/api_keys", "/historical/fills", "/historical/orders")
_PRIVATE_FRAMES: Final = frozenset({"fill", "user_order", "market_position", "order_group_updates"})


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be. `name` is a plain kind, "words", "list" or "shape" (a nested object)."""

    name: str
    words: frozenset[str] = frozenset()
    item: Kind | None = None
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One agreed field. `may_lack` is also said of fields on their way out; their end is no surprise."""

    name: str
    kind: Kind
    may_lack: bool
    may_be_null: bool
    is_money: bool


Shape = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Operation:
    """One REST operation: `answer` names the shape of its success, "" where that has no body."""

    method: str
    path: str
    answer: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_private(self) -> bool:
        """Whether its answers tell of the account."""
        return self.path.startswith(_PRIVATE_PATHS)

    @property
    def is_needed(self) -> bool:
        """Whether we could not trade without it."""
        return not self.path.startswith(_DISPENSABLE)

    @property
    def must_exist(self) -> bool:
        """Whether 404 can only mean that the endpoint is gone, for it names nothing that could be unknown."""
        return "{" not in self.path and self.method == "GET"


@dataclass(frozen=True, slots=True)
class Contract:
    """The whole table."""

    operations: tuple[Operation, ...]
    shapes: Mapping[str, Shape]
    frames: frozenset[str]
    stream_errors: frozenset[int]
    by_form: Mapping[tuple[str, int], tuple[tuple[list[str], Operation], ...]]

    def operation(self, method: str, resource: str) -> Operation | None:
        """The operation of a request to `resource` (below the base path, no query); None for one outside the table."""
        segments = resource.split("/")
        for path, operation in self.by_form.get((method, len(segments)), ()):
            if all(name[:1] == "{" or name == part for name, part in zip(path, segments, strict=True)):
                return operation
        return None


@cache
def contract() -> Contract:
    """The committed table, read once."""
    read = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    texts: dict[str, str] = {**read["answers"], **read["bodies"]}
    texts |= {frame_shape(name): fields for name, fields in read["frames"].items()}
    operations = tuple(_operation(name, answer) for name, answer in read["operations"].items())
    return Contract(
        operations=operations,
        shapes={name: _shape(text) for name, text in texts.items()},
        frames=frozenset(read["frames"]),
        stream_errors=frozenset(read["stream_errors"]),
        by_form=_by_form(operations),
    )


def frame_shape(type_: str) -> str:
    """The name of the shape of a whole frame, its envelope included."""
    return f"frame {type_}"


def is_private_frame(type_: str) -> bool:
    """Whether a frame tells of the account."""
    return type_ in _PRIVATE_FRAMES


def is_known_code(code: str) -> bool:
    """Whether an error code is one of the table, compared by its beginning."""
    return code.lower().startswith(ERROR_CODES)


def _operation(name: str, answer: str) -> Operation:
    method, _, path = name.partition(" ")
    return Operation(method, path, answer)


def _by_form(
    operations: tuple[Operation, ...],
) -> dict[tuple[str, int], tuple[tuple[list[str], Operation], ...]]:
    """Operations by method and number of path segments; literal paths come before those with names in braces."""
    found: dict[tuple[str, int], tuple[tuple[list[str], Operation], ...]] = {}
    for each in sorted(operations, key=lambda one: one.path.count("{")):
        path = each.path.split("/")
        form = (each.method, len(path))
        found[form] = (*found.get(form, ()), (path, each))
    return found


def _shape(text: str) -> Shape:
    fields = [_field(each) for each in text.split()]
    return {field.name: field for field in fields}


def _field(text: str) -> Field:
    name, _, told = text.partition(":")
    kind = told.rstrip("?~-")
    marks = told[len(kind) :]
    return Field(
        name=name,
        kind=_kind(kind),
        may_lack="?" in marks
        or "-" in marks
        or name == "cursor",  # absent or empty on the last page (API.md 6)
        may_be_null="~" in marks,
        is_money=name in MONEY_FIELDS and "-" not in marks,
    )


def _kind(text: str) -> Kind:
    if text.startswith("="):
        return Kind("words", words=frozenset(text[1:].split("|")))
    if text.startswith("["):
        return Kind("list", item=_kind(text[1:-1].rstrip("~")))
    plain = text in {
        "text",
        "id",
        "time",
        "decimal",
        "price",
        "int",
        "number",
        "bool",
        "object",
        "any",
        "level",
    }
    return Kind(text) if plain else Kind("shape", shape=text)
