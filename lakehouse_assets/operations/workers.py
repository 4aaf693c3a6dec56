"""Staging in one process or in several: the topic partitions are dealt out, the commits stay in the caller's hands.

A worker is a fresh process with its own clients; it hands over staged batches through a pipe, says when its logs are quiet, and
stops at a commit boundary when told to, or when its parent is gone. All stop together once all are quiet. What was handed over
but not published is deleted.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Literal

from pyiceberg.table import Table

from lakehouse_assets.model.errors import LakehouseError, TooManyBadRecordsError, WorkerLostError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.bad_share import BadShare
from lakehouse_assets.operations.intake import open_intake
from lakehouse_assets.operations.quarantine import quarantine_stager
from lakehouse_assets.operations.staging import StagedBatch, Stager
from lakehouse_assets.operations.systems import Systems, SystemSettings, open_systems
from lakehouse_assets.systems.catalog import require_table
from lakehouse_assets.systems.messages import Ranges
from lakehouse_assets.systems.parquet import delete_staged

_GATHER_SECONDS = 1.0  # a batch waits so long for the other workers' share of the same commit
_END_SECONDS = 30.0
_QUIET: Literal["quiet"] = "quiet"  # nothing came for as long as it is patient

_Said = StagedBatch | Literal["quiet"] | LakehouseError | None  # what a worker says; None at its end


@dataclass(frozen=True, slots=True)
class _Share:
    """What one worker does."""

    settings: SystemSettings
    spec: TableSpec
    ledger: Ledger
    ranges: Ranges
    slowdown: int
    patience: timedelta | None


def stage_batches(
    systems: Systems,
    spec: TableSpec,
    table: Table,
    ledger: Ledger,
    ranges: Ranges,
    stop: Callable[[], bool],
    now_ms: Callable[[], int],
    slowdown: int,
    patience: timedelta | None = None,
) -> Iterator[StagedBatch]:
    """Stage `ranges` with as many processes as the spec says, one batch for each commit. `ledger`: what the table has.

    Commits lie `slowdown` times the declared interval apart. The end: when nothing came for the `patience`, see `Stager`.

    Raises:
        WorkerLostError: a worker process died.
        LakehouseError: whatever staging raises, here or in a worker.
    """
    shares = deal_out(ranges, spec.workers)
    if len(shares) <= 1:
        intake, quarantine = open_intake(systems, spec, table, spec.buffer_size), quarantine_stager(systems, spec, ledger)
        stager = Stager(spec, ledger.newest_ms, now_ms, intake, quarantine, slowdown, patience, share=BadShare(spec))
        with systems.source.reader(spec.table, ranges) as reader:
            yield from stager.stage(reader, stop)
        return
    crew = _Crew(spec, [_Share(systems.settings, spec, ledger, share, slowdown, patience) for share in shares])
    try:
        yield from crew.batches(table, stop)
    finally:
        crew.dismiss(table)


def deal_out(ranges: Ranges, workers: int) -> list[dict[TopicPartition, tuple[int, int | None]]]:
    """Share topic partitions among at most `workers`, as evenly as their number allows. Pure."""
    shares: list[dict[TopicPartition, tuple[int, int | None]]] = [{} for _ in range(min(workers, len(ranges)))]
    for i, log in enumerate(sorted(ranges)):
        shares[i % len(shares)][log] = ranges[log]
    return shares


class _Crew:
    """The worker processes of one plan."""

    def __init__(self, spec: TableSpec, shares: list[_Share]) -> None:
        self._spec, self._share = spec, BadShare(spec)
        context = multiprocessing.get_context("spawn")
        self._stop: Event = context.Event()
        self._members: dict[Connection, BaseProcess] = {}
        self._quiet: set[Connection] = set()
        for share in shares:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(share, theirs, self._stop, os.getpid()), daemon=True)
            process.start()
            theirs.close()
            self._members[ours] = process

    def batches(self, table: Table, stop: Callable[[], bool]) -> Iterator[StagedBatch]:
        """One batch per commit: the shares of all workers that are ready at about the same time.

        Raises:
            TooManyBadRecordsError: nothing of the batch lands.
            LakehouseError: whatever staging raises.
        """
        working = dict(self._members)
        while working:
            if stop() or self._quiet >= working.keys():
                self._stop.set()
            gathered: dict[Connection, StagedBatch] = {}
            failure = self._gather(working, gathered)
            if gathered:
                first, *rest = gathered.values()
                for other in rest:
                    first = first.joined(other)
                try:
                    self._share.judge(first.bad.count, first.wanted_count, first.example)
                except TooManyBadRecordsError:
                    delete_staged(table.io, first.locations)
                    raise
                yield first
            if failure is not None:
                raise failure

    def _gather(
        self, working: dict[Connection, BaseProcess], gathered: dict[Connection, StagedBatch]
    ) -> LakehouseError | None:
        """Fill `gathered`; take out of `working` who is done. The error of a worker waits until the others' batches landed."""
        deadline = time.monotonic() + _GATHER_SECONDS
        while working.keys() - gathered.keys():
            # Who is quiet has nothing to hand over, and is not waited for.
            if gathered and not working.keys() - gathered.keys() - self._quiet:
                break
            for connection in wait(list(working.keys() - gathered.keys()), timeout=max(0.0, deadline - time.monotonic())):
                assert isinstance(connection, Connection)  # noqa: S101 - nothing else was waited for
                said = self._receive(connection, working[connection])
                if isinstance(said, LakehouseError):
                    return said
                if said is None:
                    del working[connection]
                elif isinstance(said, StagedBatch):
                    self._quiet.discard(connection)
                    gathered[connection] = said
                else:
                    self._quiet.add(connection)
            if time.monotonic() >= deadline:
                break
        return None

    def _receive(self, connection: Connection, process: BaseProcess) -> _Said:
        try:
            said: _Said = connection.recv()
        except EOFError:
            process.join(_END_SECONDS)
            return WorkerLostError(self._spec.table, process.exitcode)
        return said

    def dismiss(self, table: Table) -> None:
        """End every worker; delete what was handed over and not taken."""
        self._stop.set()
        for connection, process in self._members.items():
            while process.is_alive() or connection.poll():
                if not connection.poll(_END_SECONDS):
                    process.terminate()
                    break
                try:
                    said = connection.recv()
                except EOFError:
                    break
                if isinstance(said, StagedBatch):
                    delete_staged(table.io, said.locations)
            process.join(_END_SECONDS)
            connection.close()


def _work(share: _Share, connection: Connection, stop: Event, parent_pid: int) -> None:
    """The life of a worker: stage its share, say each batch, say None at the end, or the error."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)  # the parent decides when to stop: at a commit boundary
    try:
        _stage_share(share, connection, lambda: stop.is_set() or os.getppid() != parent_pid)
        connection.send(None)
    except LakehouseError as error:
        connection.send(error)
    except BrokenPipeError:
        pass  # the parent is gone, and with it everybody who would commit
    finally:
        connection.close()


def _stage_share(share: _Share, connection: Connection, stop: Callable[[], bool]) -> None:
    spec = share.spec
    systems = open_systems(share.settings)
    table = require_table(systems.catalog, spec.table)
    buffer_bytes = spec.buffer_size // spec.workers
    intake, quarantine = open_intake(systems, spec, table, buffer_bytes), quarantine_stager(systems, spec, share.ledger)
    now_ms, pace = (lambda: int(time.time() * 1000)), (share.slowdown, share.patience)
    stager = Stager(spec, share.ledger.newest_ms, now_ms, intake, quarantine, *pace, share=None)
    with systems.source.reader(spec.table, share.ranges) as reader:
        has_said_so = False

        def say_quiet() -> bool:
            nonlocal has_said_so
            if not has_said_so:
                connection.send(_QUIET)
                has_said_so = True
            return False  # the parent decides, when all are quiet

        for batch in stager.stage(reader, stop, ends_when_quiet=say_quiet):
            connection.send(batch)
            has_said_so = False
