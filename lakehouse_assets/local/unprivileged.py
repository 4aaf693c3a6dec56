"""Runs a program that refuses to be root for who is: `python -m lakehouse_assets.local.unprivileged PROGRAM …`.

Hides how Linux lets it: the program becomes user nobody and keeps one capability, to pass by the permissions of files. Without
that it could reach neither a home folder nor an installed package of root's.
"""

import ctypes
import os
import struct
import sys

NOBODY = 65534
PREFIX = (sys.executable, "-m", "lakehouse_assets.local.unprivileged")

_DAC_OVERRIDE = 1
_CAPABILITY_VERSION = 0x20080522
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2


def become_nobody() -> None:
    """Give up everything that root may do but to reach files.

    Raises:
        OSError: the kernel does not let us.
    """
    library = ctypes.CDLL(None, use_errno=True)
    _require(library.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    kept = 1 << _DAC_OVERRIDE
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _require(library.capset(header, struct.pack("6I", kept, kept, kept, 0, 0, 0)))  # effective, permitted, inheritable
    _require(library.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _DAC_OVERRIDE, 0, 0))  # so that `exec` keeps it


def _require(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    become_nobody()
    os.execv(sys.argv[1], sys.argv[1:])
