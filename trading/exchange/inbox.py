"""What has come over a socket and waits to be followed: messages that came together are taken together.

Reading and following are two tasks of one event loop. Reading goes on for as long as the socket has something at
hand, then following takes all of it: under load a thousand frames share the cost of one turn, and in quiet times a
frame waits for nobody. A slow follower slows down the reading, and the exchange's own buffer with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Literal

import aiohttp
from aiohttp.http import WSMessageTextBytes

# Compared by identity, frame by frame: an enum's hash is computed in Python, which a set would ask for each time.
_TEXT: Final = aiohttp.WSMsgType.TEXT
_BINARY: Final = aiohttp.WSMsgType.BINARY
ALIVE: Final = frozenset({aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG})

Message = aiohttp.WSMessage | WSMessageTextBytes
Socket = aiohttp.ClientWebSocketResponse[Literal[False]]


class Inbox:
    """Run `fill` as a task; `take` what it brought."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._messages: list[Message] = []
        self._arrived = asyncio.Event()
        self._broke: Exception | None = None

    async def fill(self) -> None:
        """Read until the socket's end, which is the last message to be taken."""
        receive = self.socket.receive
        try:
            while True:
                message = await receive()
                messages = self._messages
                messages.append(message)
                if len(messages) == 1:
                    self._arrived.set()
                kind = message.type
                if kind is not _TEXT and kind is not _BINARY and kind not in ALIVE:
                    return
        except Exception as error:  # it is raised where the messages are taken
            self._broke = error
            self._arrived.set()

    async def take(self) -> list[Message]:
        """Everything that has come; waits for the first. Raises what the reading raised."""
        await self._arrived.wait()
        taken, self._messages = self._messages, []
        if self._broke is None:
            self._arrived.clear()
        elif not taken:
            raise self._broke
        return taken

    @staticmethod
    def parted(
        messages: list[Message],
    ) -> Iterator[tuple[list[str | bytes], Message | None]]:
        """The messages in order: runs of texts, each with the message of another kind that ends it."""
        texts: list[str | bytes] = []
        for message in messages:
            kind = message.type
            if kind is _TEXT or kind is _BINARY:
                texts.append(message.data)
            else:
                yield texts, message
                texts = []
        if texts:
            yield texts, None
