"""Ports for the brokers of tests, so that no two of them, of whatever test process, ever want the same one."""

import os

from lakehouse_assets.local.ports import find_free_port

_FIRST = 23092  # apart from the ports of `make dev`, so that its clients never find these brokers, and from ephemeral ones
_PER_PROCESS = 500

SESSION = 0
CHANGING_LOGS = 100
LOCAL_KAFKA = 200
REST_CATALOG = 300
OBJECT_STORE = 350
SECURED_KAFKA = 400
REGISTRY = 450
POSTGRES = 450
LOCAL_POSTGRES = 455
SOURCE = 460
CONNECT = 465
SOAK = 470
WEB_SERVER = 490


def port_of(purpose: int) -> int:
    """The port where a broker of this test process may be, for one of the purposes above."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return _FIRST + _PER_PROCESS * process + purpose


def free_port_of(purpose: int) -> int:
    """The same for a server that does not look for a free one itself."""
    return find_free_port(port_of(purpose))
