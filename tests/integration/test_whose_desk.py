"""A command of a second terminal acts on the desk that runs: a stop must not stop another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = {
    "KALSHI_PROFILE": "demo",
    "KALSHI_REST_URL": "https://external-api.demo.kalshi.co/trade-api/v2",
    "REDIS_URL": "redis://127.0.0.1:9/0",
}
READ = """
from django.conf import settings as s
print(s.KALSHI_PROFILE, s.STATED_PROFILE, s.REDIS_URL == "redis://127.0.0.1:9/0", [p.code for p in s.CONFIG_PROBLEMS])
"""


def whose(var: Path, dotenv: str, **stated: str) -> str:
    """Profile of a command, profile of the next start, whether its Redis is the demo desk's, faults found."""
    (var / ".env").write_text(dotenv, encoding="utf-8")
    passed = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    told = {
        "VAR_DIR": str(var),
        "KALSHI_ENV_FILE": str(var / ".env"),
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=ROOT, env={**passed, **told, **stated},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("dotenv", "stated", "expected"),
    [
        ("", {}, "demo paper True []"),
        ("KALSHI_PROFILE=paper\n", {}, "demo paper True []"),
        ("KALSHI_PROFILE=demo\n", {}, "demo demo True []"),
        ("", {"KALSHI_PROFILE": "paper"}, "paper paper False []"),
    ],
)
def test_the_desk_that_runs_counts_more_than_what_the_next_start_would_be(
    tmp_path: Path, dotenv: str, stated: dict[str, str], expected: str
) -> None:
    """Naive: `make run MODE=demo`, then `manage.py trade halt` halts the paper desk and the demo's orders work on."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "runtime.json").write_text(json.dumps(DEMO), encoding="utf-8")
    assert whose(tmp_path, dotenv, **stated) == expected


def test_with_no_desk_a_command_goes_by_what_is_stated(tmp_path: Path) -> None:
    assert whose(tmp_path, "") == "paper paper False []"
    assert whose(tmp_path, "KALSHI_PROFILE=demo\n") == "demo demo False []"
