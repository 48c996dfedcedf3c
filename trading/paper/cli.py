"""The command line of the paper exchange: options, the banner, signals, and one line per reason why it cannot run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import uvloop

from trading.exchange.errors import KeyFileRefused
from trading.paper.accounts import AccountsUnreadable
from trading.paper.conduct import Conduct
from trading.paper.fill_models import FillModel
from trading.paper.frontdoor import IDENTITIES, Frontdoor
from trading.paper.homes import HomeTaken, occupied
from trading.paper.journal import JournalDamaged, JournalFailed
from trading.paper.limits import TIERS
from trading.paper.mirror import open_mirror
from trading.paper.replay import ReplayWorld
from trading.paper.server import PaperServer, WorldEnded
from trading.paper.simulate import SimulatedWorld
from trading.paper.stream_limits import StreamLimits
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
    worlds.add_argument(
        "--mirror",
        nargs=2,
        metavar=("REST_URL", "WS_URL"),
        help="another exchange as it is now; needs a read-only key, and --series or --market",
    )
    parser.add_argument("--mirror-key-id", default="", help="key id for the mirrored exchange")
    parser.add_argument("--mirror-key-file", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument(
        "--series", action="append", default=[], help="mirror the markets of this series (may be repeated)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the simulation")
    parser.add_argument("--speed", type=float, default=1.0, help="of the replay: 10 plays ten times as fast")
    parser.add_argument(
        "--market", action="append", default=[], help="replay or mirror this market only (may be repeated)"
    )
    parser.add_argument(
        "--fill",
        choices=sorted(FillModel),
        default=FillModel.PESSIMISTIC.value,
        help="of recorded or mirrored size that left without a print, what stood ahead of our orders",
    )
    parser.add_argument(
        "--shards", type=int, default=1, metavar="N", help="matching engines; cash is held per shard"
    )
    parser.add_argument("--faults", action="store_true", help="for tests: offer POST /__faults")
    _add_conduct_arguments(parser)
    _add_door_arguments(parser)


def _add_conduct_arguments(parser: argparse.ArgumentParser) -> None:
    usual = Conduct()
    spans = {
        "--read-lag": (
            usual.read_lag,
            "reads of balance, orders, fills and positions stay so far behind writes",
        ),
        "--archive-orders-after": (usual.order_horizon, "when ended orders leave for the historical tier"),
        "--archive-after": (usual.horizon, "when markets, trades, fills and settled positions do"),
    }
    for name, (span, meaning) in spans.items():
        default = span.total_seconds()
        parser.add_argument(name, type=float, metavar="SECONDS", default=default, help=meaning)
    parser.add_argument(
        "--maintenance",
        action="store_true",
        help="announce and keep the weekly trading pause, Thursday 03:00 to 05:00 Eastern Time",
    )


def _conduct(options: argparse.Namespace) -> Conduct:
    return Conduct(
        read_lag=timedelta(seconds=options.read_lag),
        order_horizon=timedelta(seconds=options.archive_orders_after),
        horizon=timedelta(seconds=options.archive_after),
        maintenance=options.maintenance,
    )


def _add_door_arguments(parser: argparse.ArgumentParser) -> None:
    usual = StreamLimits()
    parser.add_argument(
        "--identity",
        choices=sorted(IDENTITIES),
        default="paper",
        help="the environment it introduces itself as",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM chain: serve https and wss")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM key of --tls-cert")
    parser.add_argument(
        "--stream-markets",
        type=int,
        default=usual.subscription_markets,
        metavar="N",
        help="markets of one subscription (error 26 beyond)",
    )
    parser.add_argument(
        "--stream-commands",
        type=int,
        default=usual.commands_a_second,
        metavar="N",
        help="stream commands a second (error 27 beyond)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trading.paper", description="The paper exchange.")
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


def serve(options: argparse.Namespace) -> int:
    """Run one exchange. 0 after a signal, 2 when it cannot start, 1 when it fails later."""
    _tune()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    try:
        with occupied(options.home), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options))
    except (AccountsUnreadable, JournalDamaged, HomeTaken, KeyFileRefused, OSError, ValueError) as error:
        return _say(f"the paper exchange cannot start: {error}", CANNOT_START)
    except (JournalFailed, WorldEnded) as error:
        return _say(f"the paper exchange stops: {error}", FAILED)
    return 0


def _tune() -> None:
    """For a process that keeps a hundred thousand records and answers in milliseconds: look for garbage rarely, and
    give the journal's thread its turn soon after the disk has answered (the usual 5 ms are whole answers late)."""
    gc.set_threshold(100_000, 50, 100)
    sys.setswitchinterval(0.0005)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    world = _world(options)
    server = PaperServer(
        options.home,
        world,
        options.port,
        options.tier,
        with_faults=options.faults,
        shards=options.shards,
        conduct=_conduct(options),
        stream_limits=StreamLimits(
            subscription_markets=options.stream_markets, commands_a_second=options.stream_commands
        ),
        fill_model=FillModel(options.fill),
        door=Frontdoor(options.identity, options.tls_cert, options.tls_key),
    )
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
    if options.mirror is not None:
        rest_url, ws_url = options.mirror
        return open_mirror(
            rest_url,
            ws_url,
            options.mirror_key_id,
            options.mirror_key_file,
            series=options.series,
            markets=options.market,
        )
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
        "identity": server.door.identity,
        "accounts": str(server.home / "accounts.json"),
    }
    partial = ready_file.with_suffix(".tmp")
    partial.write_text(json.dumps(ready) + "\n", encoding="utf-8")
    partial.rename(ready_file)
    lines = [
        f"REST {server.rest_url}",
        f"WS {server.ws_url}",
        f"IDENTITY {IDENTITIES[server.door.identity]}",
        f"WORLD {world.describe()}",
        f"READY {json.dumps(ready)}",
    ]
    with contextlib.suppress(BrokenPipeError):  # whoever started us may not read
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code
