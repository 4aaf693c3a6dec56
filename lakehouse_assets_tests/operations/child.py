"""Runs of a table in processes of their own, which can be killed, halted and started by the dozen.

A fork server has the imports done, so that a process starts in milliseconds; it opens its own clients.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.operations.deriving_slices import run_sql
from lakehouse_assets_tests import faults
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.faults import Fault
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, never
from lakehouse_assets_tests.upkeep.operations import maintain
from lakehouse_assets_tests.waiting import wait_until

DEADLINE_SECONDS = 60.0
FAILED = 3  # exit code of a run that failed and may be tried again

_LOOK_SECONDS = 0.01

# The end of a process can be read once. Whoever starts another one reads it for all, so two threads must not ask at once: one
# of them would hear 255.
_asking = threading.Lock()
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["lakehouse_assets_tests.operations.child"])


@dataclass(frozen=True)
class Meeting:
    """`count` processes wait for each other in a folder, each just before its first commit."""

    folder: Path
    count: int

    def wait(self) -> None:
        """Until all are here."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / str(os.getpid())).touch()
        wait_until(lambda: len(list(self.folder.iterdir())) >= self.count, DEADLINE_SECONDS)


@dataclass(frozen=True)
class Order:
    """What a process shall do: ingest, materialize the slices of `keys`, compute them by SQL, or an `operation` of maintenance.

    `seen` takes the list of its effects, the folder `failures` the error of a run that can't just be tried again.
    """

    folder: Path
    servers: str
    spec: TableSpec | SqlTableSpec
    catalog: Mapping[str, str]
    keys: Sequence[str] = ()
    operation: str | None = None
    fault: Fault | None = None
    seen: Path | None = None
    meeting: Meeting | None = None
    failures: Path | None = None

    @classmethod
    def of(
        cls, lake: Lake, *keys: str, fault: Fault | None = None, seen: Path | None = None, meeting: Meeting | None = None
    ) -> "Order":
        """A run of `lake`'s table."""
        catalog = dict(lake.catalog)
        servers = lake.broker.bootstrap_servers
        return cls(lake.folder, servers, lake.spec, catalog, keys, fault=fault, seen=seen, meeting=meeting)


def start(order: Order) -> BaseProcess:
    """Begin a run in a process of its own."""
    process = _context.Process(target=_work, args=(order,))
    with _asking:
        process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    """Wait for its end; its exit code, which is -9 where it was killed."""
    until = time.monotonic() + DEADLINE_SECONDS
    while (code := _exit_code(process)) is None:
        if time.monotonic() > until:
            process.kill()
            raise AssertionError(f"process {process.pid} did not end within {DEADLINE_SECONDS} s")
        time.sleep(_LOOK_SECONDS)
    return code


def _exit_code(process: BaseProcess) -> int | None:
    with _asking:
        return process.exitcode


def is_halted(process: BaseProcess) -> bool:
    """Whether SIGSTOP took effect."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def halt(process: BaseProcess) -> None:
    """Stop it until somebody wakes it, unless it has ended by now."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGSTOP)


def wake(process: BaseProcess) -> None:
    """Let a halted process go on, unless it has ended by now."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)


def _work(order: Order) -> None:
    if order.failures is None:
        _run(order)
        return
    try:
        _run(order)
    except Exception as error:  # noqa: BLE001 - what may pass by itself is the next run's; the rest is somebody's to judge
        if not (isinstance(error, LakehouseError) and error.retryable):
            (order.failures / str(os.getpid())).write_text(traceback.format_exc())
        sys.exit(FAILED)


def _run(order: Order) -> None:
    systems = make_systems(order.folder, order.servers, **order.catalog)
    faults.EFFECTS.arm(order.fault)
    try:
        if order.operation is not None:
            maintain(order.operation, systems.catalog, order.spec.table, now_ms=clock_ms)
        elif isinstance(order.spec, SqlTableSpec):
            hear = {"on_slice": lambda _key, _report: None, "on_retry": lambda _error, _seconds: None}
            run_sql(systems.catalog, order.spec, order.keys, run_id=str(os.getpid()), stop=never, **hear)
        else:
            _fill(Lake(order.folder, Broker(order.servers), order.spec, systems, order.catalog), order)
    finally:
        if order.seen is not None:
            order.seen.write_text("\n".join(faults.EFFECTS.seen))


def _fill(lake: Lake, order: Order) -> None:
    if order.meeting is not None:
        lake.around_first_commit(before=order.meeting.wait)
    if order.keys:
        lake.materialize(*order.keys)
    else:
        lake.ingest()
