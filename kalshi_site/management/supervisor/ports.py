"""Loopback ports."""

from __future__ import annotations

import socket

TRIES = 100


class NoPort(Exception):
    """None of the ports tried is free."""


def is_free(port: int) -> bool:
    """Whether nobody listens on it, on IPv4 and IPv6: browsers may try `localhost` as ::1 first."""
    if any(_answers(family, host, port) for family, host in _LOOPBACKS):
        return False
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def first_free(wanted: int) -> int:
    """`wanted`, or the next port that is free. Raises NoPort after a hundred."""
    for port in range(wanted, min(wanted + TRIES, 65_536)):
        if is_free(port):
            return port
    raise NoPort(f"no free port from {wanted} on; choose one with PORT=")


def free_port() -> int:
    """Any free port, chosen by the kernel."""
    with socket.socket(socket.AF_INET) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def _answers(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((host, port)) == 0
    except OSError:
        return False
