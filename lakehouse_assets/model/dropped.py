"""What a dropped table is called while it can be had back. Pure.

Its name in the catalog says all that is known of it: where it was, when it was dropped, and whether its files are being
deleted. So there is no list beside the catalog that could be lost or disagree with it.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

DROPPED_NAMESPACE: Final = "lakehouse_dropped"
UNDO_TIME: Final = timedelta(days=1)

_STAMP = "%Y%m%dt%H%M%S"  # catalogs that know no upper case keep it as it is
_NAME = re.compile(r"(.+?)__(.+)__(\d{8}t\d{6})(__purging)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DroppedTable:
    """A table that was dropped.

    Attributes:
        original: namespace.name as which it was known.
        dropped_ms: When, ms since 1970; whole seconds.
        is_purging: Its files are being deleted, so there is no way back.
    """

    original: str
    dropped_ms: int
    is_purging: bool = False

    @property
    def name(self) -> str:
        """In the namespace of dropped tables."""
        namespace, _, name = self.original.rpartition(".")
        stamp = datetime.fromtimestamp(self.dropped_ms // 1000, UTC).strftime(_STAMP)
        return f"{namespace}__{name}__{stamp}{'__purging' if self.is_purging else ''}"

    @property
    def full_name(self) -> str:
        """namespace.name as which it is known now."""
        return f"{DROPPED_NAMESPACE}.{self.name}"

    @property
    def undo_until_ms(self) -> int:
        """Up to when it can be had back for certain, ms since 1970."""
        return self.dropped_ms + int(UNDO_TIME.total_seconds() * 1000)

    @property
    def can_be_named(self) -> bool:
        """Whether its name tells where it was: a namespace within another, or one with two underscores, would be mistaken."""
        is_nested = self.original.count(".") > 1
        return not is_nested and DroppedTable.parse(self.name) == replace(self, dropped_ms=self.dropped_ms // 1000 * 1000)

    def is_overdue(self, now_ms: int) -> bool:
        """Whether its files may go without being asked for."""
        return self.is_purging or now_ms >= self.undo_until_ms

    @classmethod
    def parse(cls, name: str) -> "DroppedTable | None":
        """From its name in the namespace of dropped tables; None for what somebody else put there."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        try:
            moment = datetime.strptime(found[3], _STAMP).replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(f"{found[1]}.{found[2]}", int(moment.timestamp()) * 1000, found[4] is not None)
