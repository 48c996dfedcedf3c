"""A server that answers one websocket after another with the frames of the tape, encoded beforehand, as fast as it can.

Run as a process of its own: `python -m benchmarks.blaster COUNT`; the first line of its output is its port.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from typing import Final

from benchmarks.tape import Tape

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 4.2.2
_CHUNK: Final = 1 << 16


def frame(payload: bytes) -> bytes:
    """One text frame from a server: not masked (RFC 6455, 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes((0x81, length))
    elif length < 1 << 16:
        head = bytes((0x81, 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x81, 127)) + length.to_bytes(8, "big")
    return head + payload


def accept_of(request: bytes) -> bytes:
    """The answer to the client's key."""
    lines = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = next(value for name, value in lines.items() if name.lower() == b"sec-websocket-key")
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


async def serve(count: int) -> None:
    tape = Tape()
    stream = b"".join(map(frame, (*tape.opening(), *tape.changes(count))))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        told = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(told + b"Sec-WebSocket-Accept: " + accept_of(request) + b"\r\n\r\n")
        try:
            for start in range(0, len(stream), _CHUNK):
                writer.write(stream[start : start + _CHUNK])
                await writer.drain()
            await reader.read()
        except ConnectionError:
            pass  # the client has all that it wants
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
