"""Frames in, commands out: the union of all that the exchange may say over the websocket (API.md 14)."""

from __future__ import annotations

from typing import Any, Final, Union, get_args

import msgspec

from trading.exchange import private_frames as private
from trading.exchange import public_frames as public
from trading.exchange.public_frames import Frame


class SubscribedBody(msgspec.Struct):
    channel: str
    sid: int


class Subscribed(Frame, tag="subscribed"):
    msg: SubscribedBody
    id: int = 0
    sending_ts_ms: int = 0


class Unsubscribed(Frame, tag="unsubscribed"):
    sid: int
    seq: int = 0
    id: int = 0
    sending_ts_ms: int = 0


class Ok(Frame, tag="ok"):
    """The reply to an update; the reply to `list_subscriptions` carries a list and no `sid`."""

    sid: int = 0
    seq: int = 0
    id: int = 0
    msg: Any = None
    sending_ts_ms: int = 0


class ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


class Error(Frame, tag="error"):
    msg: ErrorBody
    sid: int = 0
    seq: int = 0
    id: int = 0
    sending_ts_ms: int = 0


class Envelope(msgspec.Struct):
    """What every frame has, for frames whose content is not read."""

    type: str
    sid: int = 0
    seq: int = 0


class _Sent(msgspec.Struct):
    sending_ts_ms: int = 0


_Control = Subscribed | Unsubscribed | Ok | Error
_Public = (
    public.Snapshot
    | public.Delta
    | public.Ticker
    | public.Trade
    | public.Lifecycle
    | public.MultivariateLifecycle
    | public.EventLifecycle
    | public.EventFee
    | public.IndexValue
    | public.QuickIndexValue
    | public.IndexList
    | public.QuickIndexList
    | public.PythValue
    | public.UnderlyingList
)
_Private = private.Fill | private.UserOrder | private.MarketPosition | private.OrderGroupUpdate
AnyFrame = _Control | _Public | _Private | private.Communication

_KINDS: Final = (*get_args(_Control), *get_args(_Public), *get_args(_Private), *private.COMMUNICATIONS)
KNOWN_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in _KINDS)
_decoder: Final[msgspec.json.Decoder[AnyFrame]] = msgspec.json.Decoder(Union[_KINDS])  # noqa: UP007 - made of a table
decode: Final = _decoder.decode
decode_envelope: Final = msgspec.json.Decoder(Envelope).decode
_decode_sent: Final = msgspec.json.Decoder(_Sent).decode


def sent_ms(text: str | bytes) -> int:
    """When the exchange sent this frame (Unix ms); 0 where it does not say so in a number."""
    try:
        return _decode_sent(text).sending_ts_ms
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0


class Command(msgspec.Struct, omit_defaults=True):
    """A command; `id` is unique in its session and at least 1."""

    id: int
    cmd: str
    params: dict[str, Any] = {}
