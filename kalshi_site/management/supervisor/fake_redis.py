"""`python -m …fake_redis PORT`: the last resort where no Redis server can be had. Loopback only, nothing is kept."""

from __future__ import annotations

import sys

from fakeredis import TcpFakeServer


def main() -> None:
    """Serve until the process is ended."""
    server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])), server_type="redis", server_version=(7, 0))
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
