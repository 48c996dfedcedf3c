"""The baseline of `paper_exchange.py`: the plainest honest way to take an order durably.

A bare aiohttp handler that parses the body, verifies the signature, appends one line to a file and syncs it before it
answers, one request after the other. It has no accounts, no book, no matching, no limits and no streams.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from uuid import uuid4

import uvloop
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from benchmarks.paper_load import CREATED, PATH

_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)


def application(key_file: Path, log: Path) -> web.Application:
    """The handler for one key."""
    public = serialization.load_pem_private_key(key_file.read_bytes(), None).public_key()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def create(request: web.Request) -> web.Response:
        text = f"{request.headers['KALSHI-ACCESS-TIMESTAMP']}POST{request.path}".encode()
        signature = base64.b64decode(request.headers["KALSHI-ACCESS-SIGNATURE"])
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, text, _PSS, hashes.SHA256())
        elif isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, text)
        order = json.loads(await request.read())
        order["order_id"] = str(uuid4())
        os.write(descriptor, json.dumps(order).encode() + b"\n")
        os.fdatasync(descriptor)
        return web.json_response(order, status=CREATED)

    app = web.Application()
    app.router.add_post(PATH, create)
    return app


async def serve(key_file: Path, log: Path) -> None:
    """Serve on a free loopback port, tell it on standard output, and go on until killed."""
    runner = web.AppRunner(application(key_file, log), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
