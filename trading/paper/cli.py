"""The command line of the paper exchange: options, the banner, signals, and one line per reason why it cannot run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from trading.paper.accounts import AccountsUnreadable
from trading.paper.homes import HomeTaken, occupied
from trading.paper.journal import JournalDamaged, JournalFailed
from trading.paper.limits import TIERS
from trading.paper.replay import ReplayWorld
from trading.paper.server import PaperServer, WorldEnded
from trading.paper.simulate import SimulatedWorld
from trading.paper.world import World

READY_FILE = "ready.json"
CANNOT_START, FAILED = 2, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, for `python -m trading.paper` and for `manage.py paper_exchange`."""
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 chooses a free one")
    parser.add_argument("--home", type=Path, default=Path("var/paper"), help="accounts, keys and journal")
    parser.add_argument("--tier", choices=sorted(TIERS), default="advanced", help="rate limits (API.md 7)")
    worlds = parser.add_mutually_exclusive_group()
    worlds.add_argument("--simulate", action="store_true", help="a seeded simulation (the default)")
    worlds.add_argument("--replay", type=Path, metavar="DIR", help="a folder of recordings")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation")
    parser.add_argument("--speed", type=float, default=1.0, help="of the replay: 10 plays ten times as fast")
    parser.add_argument(
        "--market", action="append", default=[], help="replay this market only (may be repeated)"
    )
    parser.add_argument("--faults", action="store_true", help="for tests: offer POST /__faults")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trading.paper", description="The paper exchange.")
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


def serve(options: argparse.Namespace) -> int:
    """Run one exchange. 0 after a signal, 2 when it cannot start, 1 when it fails later."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    try:
        with occupied(options.home):
            asyncio.run(_serve(options))
    except (AccountsUnreadable, JournalDamaged, HomeTaken, OSError, ValueError) as error:
        return _say(f"the paper exchange cannot start: {error}", CANNOT_START)
    except (JournalFailed, WorldEnded) as error:
        return _say(f"the paper exchange stops: {error}", FAILED)
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    world = _world(options)
    server = PaperServer(options.home, world, options.port, options.tier, with_faults=options.faults)
    ready_file = options.home / READY_FILE
    try:
        await server.start()
        _announce(server, world, ready_file)
        await server.run(stop)
    finally:
        ready_file.unlink(missing_ok=True)
        await server.stop()


def _world(options: argparse.Namespace) -> World:
    if options.replay is not None:
        return ReplayWorld(options.replay, options.speed, options.market)
    return SimulatedWorld(options.seed)


def _announce(server: PaperServer, world: World, ready_file: Path) -> None:
    """Both base URLs for people, and `ready.json` (complete when it appears) for the supervisor."""
    ready = {
        "rest_url": server.rest_url,
        "ws_url": server.ws_url,
        "port": server.port,
        "pid": os.getpid(),
        "world": world.describe(),
        "tier": server.tier,
        "accounts": str(server.home / "accounts.json"),
    }
    partial = ready_file.with_suffix(".tmp")
    partial.write_text(json.dumps(ready) + "\n", encoding="utf-8")
    partial.rename(ready_file)
    lines = [
        f"REST {server.rest_url}",
        f"WS {server.ws_url}",
        f"WORLD {world.describe()}",
        f"READY {json.dumps(ready)}",
    ]
    with contextlib.suppress(BrokenPipeError):  # whoever started us may not read
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code
