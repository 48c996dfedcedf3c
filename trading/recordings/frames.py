"""A frame as a line of a recording, without a loss: the text lies in the line as it came."""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec


class _Body(msgspec.Struct):
    market_ticker: str = ""


class _Frame(msgspec.Struct):
    msg: _Body | list[Any] | None = None


_frame: Final = msgspec.json.Decoder(_Frame).decode
# JSON allows these between its words and nowhere within them, so a space says the same. A line must not hold them.
_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


def as_line(recv_ms: int, raw: str | bytes) -> tuple[str, bytes]:
    """The frame's market ("" for none) and its line.

    What is no JSON object is kept as text under the type `unreadable_frame`, as base64 when it is not even text.
    """
    try:
        frame = (raw if isinstance(raw, str) else raw.decode()).encode()
        body = _frame(frame).msg
    except (msgspec.DecodeError, UnicodeError):
        return "", b'{"recv_ms":%d,"event":%b}\n' % (recv_ms, msgspec.json.encode(_unreadable(raw)))
    if b"\n" in frame or b"\r" in frame:
        frame = frame.strip().translate(_BREAKS)
    return body.market_ticker if isinstance(body, _Body) else "", b'{"recv_ms":%d,"event":%b}\n' % (
        recv_ms,
        frame,
    )


def _unreadable(raw: str | bytes) -> dict[str, str]:
    told = {"type": "unreadable_frame"}
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        text.encode()
    except UnicodeError:
        data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        return told | {"base64": base64.b64encode(data).decode()}
    return told | {"text": text}
