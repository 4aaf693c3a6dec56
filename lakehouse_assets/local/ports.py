"""Finds TCP ports of this machine that nobody listens on."""

import socket

from lakehouse_assets.local.errors import LocalPlatformError

HOST = "127.0.0.1"
_TRIED_PORTS = 200
_CONNECT_SECONDS = 0.5


def is_port_open(port: int) -> bool:
    """Whether something listens there. Read-only."""
    with socket.socket() as probe:
        probe.settimeout(_CONNECT_SECONDS)
        return probe.connect_ex((HOST, port)) == 0


def find_free_port(preferred: int) -> int:
    """`preferred`, or the next port after it that is free. Somebody else may take it before it is used.

    Raises:
        LocalPlatformError: a long row of ports is taken.
    """
    for port in range(preferred, min(preferred + _TRIED_PORTS, 65536)):
        if not is_port_open(port) and _can_bind(port):
            return port
    raise LocalPlatformError(
        "find a free port",
        f"ports {preferred} to {preferred + _TRIED_PORTS - 1} are taken",
        "Free one of them.",
    )


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that connections of a server that ended a moment ago don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
