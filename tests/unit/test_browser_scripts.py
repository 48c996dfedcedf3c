"""Our browser scripts against the Python side: what is packed here is read there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "static" / "js"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="no node here: the set-up brings one, or install nodejs")

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1),
    *(-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**53) + 1),
    *(0.5, -1.25, 1e300, "", "38.5¢ – ünïcode 🂡", "x" * 31, "x" * 32, "x" * 300, "x" * 70_000),
    *([], list(range(15)), list(range(16)), list(range(70_000)), {}, {"a": {"b": [1, None, "c"]}}),
    {f"key{n}": n for n in range(15)},
    {f"key{n}": n for n in range(16)},
    {"t": "market:SIMX", "k": "tick", "ts": 1_795_392_000_123, "d": {"yes_bid": "0.5450", "yes_ask": None}},
]


def run(script: str, text: str) -> str:
    """Run a module text in node with `text` on standard input."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", script],
        input=text,
        capture_output=True,
        text=True,
        cwd=SCRIPTS,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
import { readFileSync } from "node:fs";
const { decode } = await import(process.cwd() + "/msgpack.js");
const frames = JSON.parse(readFileSync(0, "utf-8"));
const out = frames.map((hex) => { try { return [decode(Buffer.from(hex, "hex"))]; } catch (e) { return e.name; } });
console.log(JSON.stringify(out));
"""


def decoded(*frames: bytes) -> list[Any]:
    return list(json.loads(run(READ, json.dumps([frame.hex() for frame in frames]))))


def test_the_decoder_reads_what_python_packs() -> None:
    assert decoded(*(msgpack.packb(value) for value in VALUES)) == [[value] for value in VALUES]


def test_the_decoder_refuses_cut_off_and_doubled_frames() -> None:
    frame = msgpack.packb({"k": "ping"})
    assert decoded(frame[:-1], frame + frame, b"\xc1", b"\xa2\xff\xfe") == [
        "RangeError",
        "RangeError",
        "TypeError",
        "TypeError",
    ]


CENTS = """
globalThis.document = { body: { dataset: {} }, documentElement: { dataset: {} } };
globalThis.PerformanceNavigationTiming = class {};
const { cents } = await import(process.cwd() + "/quotes.js");
console.log(JSON.stringify(["0.5450", "0.0100", "1.0000", "0.9999", null, "nonsense"].map(cents)));
"""


def test_prices_read_the_same_in_script_and_template() -> None:
    assert json.loads(run(CENTS, "")) == ["54.5¢", "1.0¢", "100.0¢", "99.99¢", "–", "–"]


LEFT = """
globalThis.document = { documentElement: { dataset: {} } };
globalThis.PerformanceNavigationTiming = class {};
const { leftText } = await import(process.cwd() + "/countdown.js");
console.log(JSON.stringify([-3, 0, 9, 84, 600, 3725].map(leftText)));
"""


def test_a_countdown_ends_at_zero() -> None:
    assert json.loads(run(LEFT, "")) == ["0:00", "0:00", "0:09", "1:24", "10:00", "1:02:05"]
