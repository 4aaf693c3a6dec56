"""What the step that is running has read of tables, so that what it writes can say from what it was computed.

Reading and writing are two calls of Dagster, or of the asset itself, that know nothing of each other but the step.
"""

import weakref
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.orchestration.partitions import read_clock

if TYPE_CHECKING:
    import duckdb

    from lakehouse_assets.operations.table_views import TableView
    from lakehouse_assets.systems.scanning import TableDataset


@dataclass(eq=False, slots=True, weakref_slot=True)
class StepEngine:
    """One DuckDB, so that its relations can be joined; opened when it is needed, closed when nobody has this any more."""

    _connection: "duckdb.DuckDBPyConnection | None" = None
    _shown: Counter[str] = field(default_factory=Counter)

    def relate(self, table: str, dataset: "TableDataset") -> "duckdb.DuckDBPyRelation":
        """A table as a relation that reads it when rows are asked for. SQL finds it as `namespace.name` too, the first time."""
        from lakehouse_assets.expressions import quote
        from lakehouse_assets.operations.engine import create_view, open_engine

        if self._connection is None:
            stack = ExitStack()
            self._connection = stack.enter_context(open_engine())
            weakref.finalize(self, stack.close)
        namespace, _, name = table.partition(".")
        self._shown[table] += 1
        view = name if self._shown[table] == 1 else f"{name} {self._shown[table]}"
        create_view(self._connection, namespace, view, dataset)
        return self._connection.sql(f"SELECT * FROM {quote(namespace)}.{quote(view)}")


@dataclass(eq=False, slots=True)
class StepReads:
    """Of one step: the tables that it read, and its DuckDB."""

    views: "list[TableView]" = field(default_factory=list)
    engine: StepEngine = field(default_factory=StepEngine)


_reads: weakref.WeakKeyDictionary[Any, StepReads] = weakref.WeakKeyDictionary()
_outside = StepEngine()


def reads_of(step: object) -> StepReads:
    """What a step has read; of None, which is no step, nothing."""
    return StepReads(engine=_outside) if step is None else _reads.setdefault(step, StepReads())


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """The step that is running here, or none: what it has read, and of an asset with partitions in UTC their slices."""

    reads: StepReads
    run_id: str = ""
    clock: SliceClock | None = None

    @classmethod
    def find(cls) -> "CurrentStep":
        """As Dagster knows it."""
        try:
            context = dg.OpExecutionContext.get()
        except dg.DagsterInvariantViolationError:
            return cls(reads_of(None))
        partitions = context.assets_def.partitions_def if context.has_assets_def else None
        return cls(reads_of(context.get_step_execution_context()), context.run_id, read_clock(partitions))
