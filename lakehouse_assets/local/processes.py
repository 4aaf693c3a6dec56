"""Child processes that end when their owner ends, however it ends.

Every child carries a mark in its environment that its own children inherit. A watchdog, which holds one end of a pipe to the
owner, ends all marked processes when the owner is gone, `kill -9` included; what survives even that (both killed at once, a
power cut of a container) is found by the same mark and ended at the next start. No list of process ids is kept anywhere.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.environment import child_variables

_MARK = "LAKEHOUSE_SESSION"
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 15.0  # a run may finish its commit, Kafka writes its clean-shutdown mark
_KILL_SECONDS = 5.0
_LOG_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class MarkedProcess:
    """A process that carries a mark of ours, and its command line."""

    pid: int
    command: str


class ProcessGroup:
    """The child processes of this process for one folder. `start` as many as needed, then `stop`."""

    def __init__(self, folder: Path) -> None:
        self._mark = _folder_mark(folder) + uuid.uuid4().hex
        self._folder = folder
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    def start(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a child whose output goes to `log`, which is emptied first.

        It leads a session of its own, so a Ctrl-C in the terminal reaches only the owner, who then stops it in order.
        """
        self._ensure_watchdog()
        self._children = [child for child in self._children if child.poll() is None]
        self._children.append(self._open(command, log, environment))
        return self._children[-1]

    def list_processes(self) -> list[MarkedProcess]:
        """Children, and children of children, that live now; the watchdog is left out. Read-only."""
        watchdog_pid = self._watchdog.pid if self._watchdog else None
        return [found for found in list_marked(self._mark) if found.pid != watchdog_pid]

    def stop(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """End every process of the group: asked first, after `grace_seconds` made to. Safe to repeat."""
        end_processes(self.list_processes, grace_seconds)
        for child in self._children:
            child.wait()
        self._children = []
        if self._watchdog and self._watchdog.stdin:
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None

    def end_leftovers(self, grace_seconds: float = 3.0) -> list[MarkedProcess]:
        """End what an earlier owner of this folder left behind, and say what it was.

        The caller must hold the folder, so that no other living owner exists.
        """
        folder_mark = _folder_mark(self._folder)

        def list_foreign() -> list[MarkedProcess]:
            own = {found.pid for found in list_marked(self._mark)}
            return [found for found in list_marked(folder_mark) if found.pid not in own]

        found = list_foreign()
        end_processes(list_foreign, grace_seconds)
        return found

    def _ensure_watchdog(self) -> None:
        if self._watchdog and self._watchdog.poll() is None:
            return
        command = [sys.executable, "-m", "lakehouse_assets.local.processes", self._mark]
        self._watchdog = self._open(command, None, None, stdin=subprocess.PIPE)

    def _open(
        self,
        command: Sequence[str],
        log: Path | None,
        environment: Mapping[str, str] | None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        output = log.open("wb") if log else None
        try:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=output or subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                env=child_variables({**(environment or {}), _MARK: self._mark}),
                start_new_session=True,
            )
        finally:
            if output:
                output.close()


def list_marked(mark: str) -> list[MarkedProcess]:
    """Living processes of this user whose mark begins with `mark`, the asking one left out. Read-only."""
    entry = f"{_MARK}={mark}"
    listing = _list_by_proc(entry) if Path("/proc/self/environ").exists() else _list_by_ps(entry)
    return [found for found in listing if found.pid != os.getpid()]


def end_processes(list_living: Callable[[], Sequence[MarkedProcess]], grace_seconds: float) -> None:
    """Send SIGTERM to each process once, and SIGKILL to those that still live after `grace_seconds`.

    The list is asked again and again, because a process that ends may have started another one meanwhile.
    """
    asked: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    while (living := list_living()) and time.monotonic() < deadline:
        for pid in {found.pid for found in living} - asked:
            _send(pid, signal.SIGTERM)
            asked.add(pid)
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + _KILL_SECONDS
    while (living := list_living()) and time.monotonic() < deadline:
        for found in living:
            _send(found.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def end_process(process: "subprocess.Popen[bytes]", grace_seconds: float, signal_: signal.Signals = signal.SIGTERM) -> None:
    """End one child: asked first, after `grace_seconds` made to. Safe to repeat."""
    process.send_signal(signal_)
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_log_tail(log: Path) -> str:
    """The last lines of a log file, for an error message; empty where there is none."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def watch(mark: str) -> None:
    """Wait until standard input ends, which is when the owner is gone; then end what carries its mark.

    The owner was killed without mercy, so nobody waits for anything either: only brokers and databases get the second in which
    they leave their logs in order. What the others had not committed is read again.
    """
    while os.read(0, 1024):
        pass
    end_processes(lambda: [found for found in list_marked(mark) if not _is_server(found)], 0)
    end_processes(lambda: list_marked(mark), _GRACE_SECONDS)


def _is_server(found: MarkedProcess) -> bool:
    return Path(found.command.split(" ")[0]).name in ("java", "postgres")


def _folder_mark(folder: Path) -> str:
    return f"{folder.resolve()}:"


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended meanwhile, which is what we want
        os.kill(pid, number)


def _list_by_proc(entry: str) -> Iterator[MarkedProcess]:
    wanted = entry.encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        # A process that ends while we look, or that is somebody else's, is none of ours.
        with suppress(OSError):
            if any(
                variable.startswith(wanted) for variable in (folder / "environ").read_bytes().split(b"\0")
            ):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield MarkedProcess(int(folder.name), command.strip())


def _list_by_ps(entry: str) -> Iterator[MarkedProcess]:
    # macOS has no /proc; `-E` appends the environment to the command line there.
    listing = subprocess.run(
        ["ps", "-axEww", "-o", "pid=,command="], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        if entry in line:
            pid, _, command = line.strip().partition(" ")
            yield MarkedProcess(int(pid), command)


if __name__ == "__main__":
    watch(sys.argv[1])
