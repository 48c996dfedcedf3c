"""Whose desk a process belongs to: `var/run/runtime.json`, which `manage.py up` leaves while it runs, names it.

The supervisor gives each process that it starts its own environment; commands of a second terminal go by this file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from kalshi_site.env import PROFILES, RUNTIME, Settings


def settings_here(var_dir: Path, *, dotenv: Path | None, stated_profile: str) -> Settings:
    """What a process was given comes first, then `.env`, then the addresses of the desk that runs.

    A command acts on that desk, whatever profile `.env` names: a stop must not stop another one. Only the command's
    own environment chooses otherwise. With no desk, `stated_profile` counts. Raises ConfigError as `Settings` does.
    """
    left = _left(var_dir)
    given = dict(os.environ)
    if left and not given.get("KALSHI_PROFILE", "").strip():
        given["KALSHI_PROFILE"] = left["KALSHI_PROFILE"]
    profile = Settings(given, dotenv=dotenv).choice("KALSHI_PROFILE", stated_profile, PROFILES)
    same = left.get("KALSHI_PROFILE") == profile
    addresses: dict[str, str] = {name: left[name] for name in RUNTIME if same and name in left}
    return Settings(given, dotenv=dotenv, fallback=addresses)


def _left(var_dir: Path) -> dict[str, str]:
    """Profile and addresses left by a supervisor that runs, or was killed; empty after an orderly end."""
    try:
        left: dict[str, str] = json.loads((var_dir / "run" / "runtime.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return left if left.get("KALSHI_PROFILE") in PROFILES else {}
