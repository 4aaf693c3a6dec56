"""Keeps what was read of files that never change, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

_Part = TypeVar("_Part")


class FileCache:
    """Least recently used parts of immutable files, bounded by their bytes in memory. Safe to share between threads.

    With no bytes to keep it keeps nothing.
    """

    def __init__(self, capacity_bytes: int = 0) -> None:
        self.capacity_bytes = capacity_bytes
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, ...], tuple[int, Any]] = OrderedDict()
        self._bytes = 0

    def load(self, name: tuple[str, ...], read: Callable[[], _Part], size_of: Callable[[_Part], int]) -> _Part:
        """The part of this name: kind, path and whatever else makes it unique."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                found: _Part = self._kept[name][1]
                return found
        part = read()
        self.keep(name, part, size_of(part))
        return part

    def find(self, name: tuple[str, ...]) -> Any | None:
        """The part of this name, if it is kept."""
        with self._lock:
            if name not in self._kept:
                return None
            self._kept.move_to_end(name)
            return self._kept[name][1]

    def keep(self, name: tuple[str, ...], part: object, size_bytes: int) -> None:
        """Keep it, in the place of what was kept under this name."""
        with self._lock:
            replaced_bytes, _ = self._kept.pop(name, (0, None))
            self._bytes -= replaced_bytes
            if size_bytes > self.capacity_bytes:
                return
            self._kept[name] = (size_bytes, part)
            self._bytes += size_bytes
            while self._bytes > self.capacity_bytes:
                _, (dropped_bytes, _) = self._kept.popitem(last=False)
                self._bytes -= dropped_bytes
