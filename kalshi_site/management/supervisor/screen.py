"""What a person sees while the desk starts: one line each, then the box."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from kalshi_site.identity import issue_entry_code
from kalshi_site.management.supervisor.people import Login
from kalshi_site.models import User

_TITLE_WIDTH = 15


class Screen:
    """Plain lines; colour only on a terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._tick = "\033[32m✓\033[0m" if self._out.isatty() else "✓"

    def done(self, title: str, detail: str = "") -> None:
        """One thing is ready."""
        self.plain(f"  {self._tick} {title:<{_TITLE_WIDTH}} {detail}".rstrip())

    def plain(self, line: str) -> None:
        """A line as it is. A reader that went away, as `| head` does, must not end the desk."""
        with contextlib.suppress(BrokenPipeError):
            self._out.write(f"{line}\n")
            self._out.flush()

    def box(self, url: str, profile: str, logins: list[Login]) -> None:
        """Where to go and how to come in."""
        mode = "PAPER exchange, offline analyst, no keys needed" if profile == "paper" else profile.upper()
        lines = ["", f"  Kalshi Ops is running — {mode}", ""]
        link = _entry_link(url, logins)
        if link:
            lines += [f"  Open    {link}", "          (one-time sign-in link, 10 min)"]
        else:
            lines += [f"  Open    {url}"]
        lines += [
            f"  {'Or' if number == 0 else '':<7} {line}"
            for number, line in enumerate(_login_lines(url, logins))
        ]
        lines += [f"  API     {url}/api/docs      Health  {url}/health", ""]
        lines += [
            "  Logs var/log/   Stop Ctrl+C or make stop   Start over: make demo-reset   Problems: make doctor",
            "",
        ]
        self.plain("\n".join(lines))


def _login_lines(url: str, logins: list[Login]) -> list[str]:
    return [url, *(f"{login['username']:<9} {login['password']}" for login in logins)] if logins else []


def _entry_link(url: str, logins: list[Login]) -> str:
    approver = (
        User.objects.filter(username="approver", is_demo=True, is_active=True).first() if logins else None
    )
    return f"{url}/enter/{issue_entry_code(approver)}" if approver else ""
