"""What every server on this machine has in common: one owner, a log, an address that is kept, an end in order.

Hides how a server is started on a free port, waited for and ended; which program it is, its module says.
"""

import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM, Signals
from types import TracebackType
from typing import ClassVar, Self

from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.java import Report
from lakehouse_assets.local.ownership import FolderLock
from lakehouse_assets.local.ports import HOST, find_free_port
from lakehouse_assets.local.processes import ProcessGroup, end_process, read_log_tail

_START_SECONDS = 90.0  # after a kill -9 logs are read through first
_POLL_SECONDS = 0.05


class LocalServer(ABC):
    """One server in one folder: `start`, `stop`, `kill`, `start` again, on the same port with the same data.

    A context manager: entering starts, leaving stops.
    """

    title: ClassVar[str]
    """Name and version, for a person."""
    _address_name: ClassVar[str]  # of the file with the address
    _kept: ClassVar[str]  # what the folder holds, for a person
    _passing: ClassVar[tuple[str, ...]]  # what the log of one that ended says where another start helps, as of a taken port
    _stop_seconds: ClassVar[float] = 15.0
    _stop_signal: ClassVar[Signals] = SIGTERM

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        processes: ProcessGroup | None = None,
        log: Path | None = None,
        report: Report | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Keeps data, address and lock.
            port: Wished for at the first start; the next free one is taken, and remembered.
            processes: The group to belong to; its own group by default, which ends with this process.
            log: Where the server's output goes; a file in the folder by default.
            report: Is told what happens while it takes long.
        """
        self.folder = folder.absolute()
        self.log = (log or self.folder / "server.log").absolute()
        self._port = port
        self._processes = processes or ProcessGroup(self.folder)
        self._owns_processes = processes is None
        self._report: Report = report or (lambda _: None)
        self._lock = FolderLock(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients find it. The same after a restart, unless another process took the port."""

    @abstractmethod
    def _prepare(self) -> None:
        """Fetch what it needs and lay out its folder; before each start."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What runs it on `self._port`; files of settings are written here."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves already."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the server while it lives."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def has_died(self) -> bool:
        """Whether it was started and has ended without being told to."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start and return when it answers; what was there before is there again. Does nothing while it lives.

        Raises:
            AlreadyRunningError: another living process runs one in this folder.
            LocalPlatformError: it can't be fetched or does not start.
        """
        if self.pid:
            return
        self._lock.acquire(f"start {self.title}")
        try:
            if self._owns_processes:
                self._processes.end_leftovers()
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
            self._start_on_free_port()
            self._remember_address()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it in order, so that the next start need not repair anything. Safe to repeat."""
        if self._process:
            end_process(self._process, self._stop_seconds, self._stop_signal)
        self._process = None
        if self._owns_processes:
            self._processes.stop()
        self._lock.release()

    def kill(self) -> None:
        """End it as `kill -9` does. `start` brings it back."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _start_on_free_port(self) -> None:
        """Again while only a passing trouble is in the way: a port may be taken between the look and the start."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._port = find_free_port(self._remembered_port())
            process = self._process = self._processes.start(self._command(), log=self.log)
            if self._comes_up(deadline):
                return
            ended = process.poll()
            log = self.log.read_text(errors="replace")
            if ended is None or time.monotonic() > deadline or not any(words in log for words in self._passing):
                break
            time.sleep(_POLL_SECONDS)
        raise LocalPlatformError(
            f"start {self.title} at {self.address}",
            f"no answer after {_START_SECONDS:.0f} s" if ended is None else f"its process ended with {ended}",
            f"Its {self._kept} are in {self.folder}; with that folder removed it starts empty.",
            self.log,
            read_log_tail(self.log),
        )

    def _comes_up(self, deadline: float) -> bool:
        """Wait until it answers; False where its process ends or the time is over."""
        while self.pid and time.monotonic() < deadline:
            if self._answers() and self.pid:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _remembered_port(self) -> int:
        address = self.folder / self._address_name
        found = re.search(rf"{re.escape(HOST)}:(\d+)", address.read_text()) if address.is_file() else None
        return int(found[1]) if found else self._port

    def _remember_address(self) -> None:
        address = self.folder / self._address_name
        fresh = address.with_suffix(".new")
        fresh.write_text(f"{self.address}\n")
        fresh.replace(address)
