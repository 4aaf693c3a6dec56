"""What can go wrong with the platform on a laptop. Nothing of this exists where Kafka and Dagster are run by others."""

from pathlib import Path

from lakehouse_assets.model.errors import LakehouseError

LEFT_OUT = 3
"""Exit code of a demo that can't run here, and would not if it were started again. It has said why."""


class LocalPlatformError(LakehouseError):
    """A part of the platform on this machine can't start, or died. `log_tail` holds the last lines of its log file."""

    def __init__(
        self, action: str, fact: str, remedy: str, log: Path | None = None, log_tail: str = ""
    ) -> None:
        self.action, self.fact, self.remedy, self.log, self.log_tail = action, fact, remedy, log, log_tail
        quoted = f"\nThe last lines of {log}:\n{_indent(log_tail)}" if log_tail else ""
        super().__init__(f"Cannot {action}: {fact}. {remedy}{quoted}")


class AlreadyRunningError(LocalPlatformError):
    """Another living process owns the folder."""


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
