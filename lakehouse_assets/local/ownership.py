"""One owner per folder: a lock that the operating system takes back from whoever dies."""

import fcntl
import os
from pathlib import Path
from typing import IO

from lakehouse_assets.local.errors import AlreadyRunningError


class FolderLock:
    """Owned by one living process at most. A file that a dead owner left behind means nothing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "owner.lock"
        self._file: IO[str] | None = None

    def acquire(self, action: str) -> None:
        """Take the folder; safe to repeat by its owner.

        Raises:
            AlreadyRunningError: a living process has it, with what that process said about itself.
        """
        if self._file:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise AlreadyRunningError(
                action,
                f"{owner} runs it already in {self._path.parent}",
                "Use that one, or stop it first, or choose another folder with LAKEHOUSE_HOME.",
            ) from error
        self._file = file
        self.describe(f"process {os.getpid()}")

    def describe(self, owner: str) -> None:
        """Say in a few words who has the folder, for whoever wants it too."""
        if self._file:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(owner)
            self._file.flush()

    def release(self) -> None:
        """Give it back. Safe to repeat."""
        if self._file:
            self._file.close()
            self._file = None
