"""The profile that a command was asked for by name: `--mode demo`."""

from __future__ import annotations

import os
import sys
from typing import Final

from django.conf import settings

MODES: Final = ("paper", "demo")  # live is not offered (E954)


def enter_mode(mode: str | None) -> None:
    """Go on in this profile. Settings are read once, before any command: another profile needs the process anew."""
    if mode is None or mode == settings.KALSHI_PROFILE:
        return
    os.environ["KALSHI_PROFILE"] = mode
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  # the same program, the same words
