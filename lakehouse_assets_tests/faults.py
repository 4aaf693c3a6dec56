"""Faults, caused on purpose: at every effect of a run on storage and catalog, before, in the middle of, or after it.

`FaultyFileIO` and `FaultyCatalog` are PyIceberg's own with a count of effects in front. They are named in catalog properties,
so that the code under test meets them wherever it opens a catalog, in this process or in another.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import ENOSPC
from typing import Any, Literal, NoReturn

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import CommitTableResponse, Table

When = Literal["before", "half", "after"]

FAULTY_FILES = {"py-io-impl": "lakehouse_assets_tests.faults.FaultyFileIO"}
FAULTY = {**FAULTY_FILES, "py-catalog-impl": "lakehouse_assets_tests.faults.FaultyCatalog"}


class Crash(BaseException):
    """Stands for the end of the process where a test wants to go on in it: nothing in the code under test catches it."""


def crash(effect: str) -> NoReturn:
    """End as a process does that is interrupted here; what cleans up behind it still has effects."""
    raise Crash(effect)


def die(effect: str) -> NoReturn:
    """End as if the process had been killed here: nothing that follows has an effect."""
    EFFECTS.is_dead = True
    raise Crash(effect)


def kill(effect: str) -> None:
    """End this process at once, with nothing cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def halt(effect: str) -> None:
    """Stop this process until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def fill_disk(effect: str) -> NoReturn:
    """Answer as a full disk does."""
    raise OSError(ENOSPC, "No space left on device", effect)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at effect number `at` (from 0), or at the first one of a `kind`, and at all later ones if `lasting`."""

    at: int | str
    when: When
    act: Callable[[str], None]
    lasting: bool = False


@dataclass(slots=True)
class Effects:
    """The effects so far, as `kind path`, and the fault that waits among them."""

    seen: list[str] = field(default_factory=list)
    fault: Fault | None = None
    is_dead: bool = False
    _spent: bool = False

    def arm(self, fault: Fault | None) -> None:
        """Begin to count anew."""
        self.seen, self.fault, self._spent, self.is_dead = [], fault, False, False

    def step(
        self, kind: str, path: str, effect: Callable[[], Any], half: Callable[[], Any] = lambda: None
    ) -> Any:
        """Do one effect, with the fault around it if it is its turn."""
        if self.is_dead:
            raise Crash(f"{kind} {path} after death")
        self.seen.append(f"{kind} {path.rpartition('/')[2]}")
        fault = self.fault if self._is_due(kind) else None
        if fault is not None and fault.when == "before":
            fault.act(self.seen[-1])
        if fault is not None and fault.when == "half":
            half()
            fault.act(self.seen[-1])
        answer = effect()
        if fault is not None and fault.when == "after":
            fault.act(self.seen[-1])
        return answer

    def _is_due(self, kind: str) -> bool:
        if self.fault is None or (self._spent and not self.fault.lasting):
            return False
        number, at = len(self.seen) - 1, self.fault.at
        due = kind == at if isinstance(at, str) else number >= at
        self._spent = self._spent or due
        return due


EFFECTS = Effects()


class _Stream:
    """A file being written; its first write can end half way."""

    def __init__(self, stream: Any, path: str) -> None:
        self._stream, self._path, self._begun = stream, path, False

    def write(self, data: Any) -> int:
        if self._begun:
            return int(self._stream.write(data))
        self._begun = True
        return int(
            EFFECTS.step(
                "write", self._path, lambda: self._stream.write(data), lambda: self._write_half(data)
            )
        )

    def _write_half(self, data: Any) -> None:
        self._stream.write(bytes(data)[: len(data) // 2])
        self._stream.flush()

    def close(self) -> None:
        if not self._stream.closed:
            EFFECTS.step("close", self._path, self._stream.close)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Output:
    def __init__(self, output: OutputFile) -> None:
        self._output = output

    def create(self, overwrite: bool = False) -> _Stream:
        path = self._output.location
        return EFFECTS.step("create", path, lambda: _Stream(self._output.create(overwrite=overwrite), path))  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._output)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


class FaultyFileIO(PyArrowFileIO):
    """PyIceberg's file access, every effect counted."""

    def new_output(self, location: str) -> Any:
        return _Output(super().new_output(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        path = location if isinstance(location, str) else location.location
        EFFECTS.step("delete", path, lambda: super(FaultyFileIO, self).delete(location))


class FaultyCatalog(SqlCatalog):
    """PyIceberg's SQL catalog: effects counted, and scripts that are called one by one around loads and commits."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self.before_load: list[Callable[[], None]] = []
        self.before_commit: list[Callable[[], None]] = []
        self.after_commit: list[Callable[[], None]] = []
        self.commit_count = 0

    def load_table(self, identifier: Any) -> Table:
        _next(self.before_load)
        return super().load_table(identifier)

    def create_table(self, *args: Any, **kwargs: Any) -> Table:
        return EFFECTS.step(  # type: ignore[no-any-return]
            "create-table", "", lambda: super(FaultyCatalog, self).create_table(*args, **kwargs)
        )

    def rename_table(self, from_identifier: Any, to_identifier: Any) -> Table:
        return EFFECTS.step(  # type: ignore[no-any-return]
            "rename-table", "", lambda: super(FaultyCatalog, self).rename_table(from_identifier, to_identifier)
        )

    def drop_table(self, identifier: Any) -> None:
        EFFECTS.step("drop-table", "", lambda: super(FaultyCatalog, self).drop_table(identifier))

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        self.commit_count += 1
        _next(self.before_commit)
        answer = EFFECTS.step(
            "commit", "", lambda: super(FaultyCatalog, self).commit_table(table, requirements, updates)
        )
        _next(self.after_commit)
        return answer  # type: ignore[no-any-return]


def _next(script: list[Callable[[], None]]) -> None:
    if script:
        script.pop(0)()


def pass_by() -> None:
    """A step of a script at which nothing happens."""


def raising(error: Exception) -> Callable[[], None]:
    """A step of a script that raises."""

    def step() -> None:
        raise error

    return step
