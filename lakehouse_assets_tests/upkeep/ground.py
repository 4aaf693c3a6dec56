"""A table that has been through much, what else can happen to it, and a model of its rows in a few lines."""

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFileContent, ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from lakehouse_assets.model.errors import LedgerLostError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests.builders import make_ranges, make_systems, roll_back
from lakehouse_assets_tests.faults import FAULTY, FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_by_equality, delete_rows
from lakehouse_assets_tests.systems.merges import NAME, Merger, make_changes, make_upsert_spec
from lakehouse_assets_tests.upkeep.operations import EAGER, maintain
from lakehouse_assets_tests.upkeep.times import Times
from lakehouse_assets_tests.upkeep.truth import (
    Rows,
    age_files,
    assert_replaced_purely,
    assert_whole,
    read_rows,
)

_COLUMNS = "id, text"
_FOREIGN = 10_000  # ids from here on are of others, who append what nobody else has
_PATIENT = {
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "5",
    "commit.retry.max-wait-ms": "50",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """What the table holds at some snapshot: the text of each id, and how many commits of ours."""

    rows: dict[int, str | None]
    held: int

    def sorted(self) -> Rows:
        return sorted(self.rows.items())


@dataclass
class Ground:
    """`others` is the catalog of everybody but the operation that is looked at, who gets one in which faults wait."""

    folder: Path
    rng: random.Random
    merger: Merger
    now: Moment
    heads: dict[int, Moment] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    extra_id: int = _FOREIGN
    on_branch: set[int] = field(default_factory=set)
    times: Times = field(default_factory=Times)
    _seen: dict[tuple[int, int], Rows] = field(default_factory=dict)
    was_cut_by_others: bool = False  # by somebody's expiry, which knows nothing of ledgers

    @classmethod
    def open(cls, folder: Path, seed: int = 0, **declared: object) -> "Ground":
        """An empty table with a key."""
        properties = {**EAGER, **_PATIENT}
        spec = make_upsert_spec(**({"partition_by": ["bucket(2, id)"], "properties": properties} | declared))
        return cls(folder, random.Random(seed), Merger(make_systems(folder).catalog, spec), Moment({}, 0))

    @classmethod
    def trodden(cls, folder: Path, seed: int = 0, **declared: object) -> "Ground":
        """A table with small files, delete files of ours and of others, and a branch; everything is old."""
        ground = cls.open(folder, seed, **declared)
        for act in (
            ground.put,
            ground.append,
            ground.put,
            ground.mark,
            ground.put,
            ground.append,
            ground.put,
            ground.delete,
        ):
            act()
        ground.write_branch()
        ground.lose_a_file()
        age_files(ground.table, days=5)
        return ground

    @property
    def others(self) -> Catalog:
        return self.merger.catalog

    @property
    def table(self) -> Table:
        return self.others.load_table(NAME)

    @property
    def exists(self) -> bool:
        return bool(self.others.table_exists(NAME))

    def close(self) -> None:
        self.others.close()

    # What maintenance does.

    def faulty(self) -> FaultyCatalog:
        """The catalog as somebody opens it who may die of it."""
        catalog = make_systems(self.folder, **FAULTY).catalog
        assert isinstance(catalog, FaultyCatalog)
        return catalog

    def maintain(self, operation: str, catalog: Catalog | None = None, **parts: object) -> MaintenanceReport:
        """Run one operation."""
        return maintain(operation, catalog or self.others, NAME, **parts)

    # What others do, and our own runs beside it. Each says what the table holds then.

    def _is(self, rows: dict[int, str | None], *, ours: bool = False) -> None:
        self.now = Moment(rows, self.now.held + ours)
        self.note()

    def note(self) -> None:
        """Remember what the current snapshot holds."""
        if self.exists and (current := self.table.current_snapshot()) is not None:
            self.heads[current.snapshot_id] = self.now

    def put(self) -> None:
        """Our own merge: rows come, change and go."""
        known = [key for key in self.now.rows if key < _FOREIGN]
        changed = self.rng.sample(known, min(3, len(known)))
        new = [max(known, default=-1) + 1 + i for i in range(8)]
        batch: dict[int, str | None] = dict.fromkeys((*changed, *new), f"put {self.merger.offset}")
        batch |= dict.fromkeys(changed[:1], None)
        merge = self.merger.plan(make_changes(batch))
        merge.prepare(self.table)
        self.merger.publish(merge, **self.times.move(self.rng))
        self.times.note(self.table)
        self._is({key: text for key, text in (self.now.rows | batch).items() if text is not None}, ours=True)

    def append(self) -> None:
        """Rows of somebody else, without a place in Kafka."""
        self._append(self.table)
        self._is(self.now.rows | {self.extra_id: "of others"})

    def _append(self, table: Table, **where: str) -> None:
        self.extra_id += 1
        schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])
        table.append(pa.table({"id": [self.extra_id], "text": ["of others"]}, schema=schema), **where)

    def _choose(self, count: int = 2) -> list[int]:
        return self.rng.sample(sorted(self.now.rows), min(count, len(self.now.rows)))

    def _without(self, keys: list[int]) -> None:
        self._is({key: text for key, text in self.now.rows.items() if key not in keys})

    def delete(self) -> None:
        """PyIceberg's deletion, which writes files again."""
        keys = self._choose(1)
        self.table.delete(f"id == {keys[0]}" if keys else "id == -1")
        self._without(keys)

    def mark(self) -> None:
        """Position deletes of another engine, for a whole partition in one file."""
        keys = self._choose()
        delete_rows(self.others, NAME, "id", keys)
        self._without(keys)

    def mark_and_append(self) -> None:
        """The same, and something else on top, behind which a look at the head alone does not see it."""
        self.mark()
        self.append()

    def delete_by_key(self) -> None:
        """An equality delete, as Flink writes it."""
        keys = self._choose()
        delete_by_equality(self.others, NAME, "id", keys)
        self._without(keys)

    def compact(self) -> None:
        """Another machine compacts too."""
        self.maintain("compact")
        self.note()

    def change_spec(self) -> None:
        """New files are partitioned in another way from now on."""
        fields = {one.name for one in self.table.spec().fields}
        count = next(n for n in (3, 4, 5) if f"id_{n}" not in fields)
        with self.table.update_spec() as update:
            for name in fields:
                update.remove_field(name)
            update.add_field("id", BucketTransform(count), f"id_{count}")

    def change_schema(self) -> None:
        """A column more."""
        with self.table.update_schema() as update:
            update.add_column(f"more_{len(self.table.schema().fields)}", StringType())

    def tag(self) -> None:
        """Somebody wants to keep the oldest snapshot there is."""
        name, oldest = (
            f"tag-{len(self.tags)}",
            min(self.table.snapshots(), key=lambda one: one.sequence_number).snapshot_id,
        )
        self.table.manage_snapshots().create_tag(oldest, name).commit()
        self.tags[name] = oldest

    def roll_back(self) -> None:
        """To some snapshot that was current once."""
        known = [one.snapshot_id for one in self.table.snapshots() if one.snapshot_id in self.heads]
        current = self.table.current_snapshot()
        older = [
            one
            for one in known
            if one not in self.on_branch and (current is None or one != current.snapshot_id)
        ]
        if not older:
            return
        target = self.rng.choice(older)
        roll_back(self.table, target)
        self.now = self.heads[target]
        self.merger.offset = self.now.held

    def write_branch(self) -> None:
        """Rows that are on a branch only."""
        table = self.table
        current = table.current_snapshot()
        if current is not None and "side" not in table.refs():
            table.manage_snapshots().create_branch(current.snapshot_id, "side").commit()
        if "side" in self.table.refs():
            before = self.heads.get(self.table.refs()["side"].snapshot_id)
            self._append(self.table, branch="side")
            if before is not None:
                side = Moment(before.rows | {self.extra_id: "of others"}, before.held)
                self.heads[self.table.refs()["side"].snapshot_id] = side
                self.on_branch.add(self.table.refs()["side"].snapshot_id)

    def lose_a_file(self) -> None:
        """A run dies before its commit."""
        place = self.table.location().removeprefix("file://")
        (Path(place) / "data" / f"lost-{len(self.heads)}.parquet").write_bytes(b"rows")

    def drop(self) -> None:
        """Somebody drops the table; its files stay where they are."""
        self.others.drop_table(NAME)

    # What must be true.

    def judge(self) -> None:
        """Look at everything.

        Raises:
            AssertionError
        """
        table = self.table
        assert read_rows(table, _COLUMNS) == self.now.sorted()
        if not self.has_equality_deletes:  # PyIceberg refuses these
            found = table.scan(selected_fields=("id", "text")).to_arrow().to_pylist()
            assert sorted((row["id"], row["text"]) for row in found) == self.now.sorted()
        self._judge_ledger(table, self.now)
        self.times.judge(table)
        assert_whole(table)
        for snapshot in table.snapshots():
            rows = self._read(table, snapshot)
            if (moment := self.heads.get(snapshot.snapshot_id)) is not None:
                assert rows == moment.sorted(), f"snapshot {snapshot.snapshot_id} changed"
                self._judge_rollback(_rolled_back(table, snapshot.snapshot_id), moment)
        assert_replaced_purely(table, self._known_rows)
        assert {name: ref.snapshot_id for name, ref in table.refs().items() if name in self.tags} == self.tags
        if "side" in table.refs():
            assert table.refs()["side"].snapshot_id in self.heads

    def _read(self, table: Table, snapshot: Snapshot) -> Rows:
        """Read once under each schema: that the files are there, none of which ever changes, is looked at each time."""
        key = snapshot.snapshot_id, table.metadata.current_schema_id
        if key not in self._seen:
            self._seen[key] = read_rows(table, _COLUMNS, snapshot.snapshot_id)
        return self._seen[key]

    def _known_rows(self, snapshot_id: int) -> Rows | None:
        """Of a snapshot that is there or was; None where it went before anybody looked at it."""
        if (moment := self.heads.get(snapshot_id)) is not None:
            return moment.sorted()
        snapshot = self.table.metadata.snapshot_by_id(snapshot_id)
        return self._read(self.table, snapshot) if snapshot is not None else None

    def _judge_rollback(self, table: Table, moment: Moment) -> None:
        """The ledger is found after a rollback too. Where others cut history, it may be refused, but never be a wrong one."""
        try:
            self._judge_ledger(table, moment)
        except LedgerLostError:
            assert self.was_cut_by_others

    def _judge_ledger(self, table: Table, moment: Moment) -> None:
        """Each commit of ours brings one offset."""
        ledger = read_ledger(table)
        assert ledger is not None
        assert ledger.held == make_ranges({0: [(0, moment.held)]} if moment.held else {}), self._recent()

    def _recent(self) -> str:
        """The last snapshots, for who has to find out what went wrong."""
        known = {snapshot_id: moment.held for snapshot_id, moment in self.heads.items()}
        lines = [
            f"{one.snapshot_id} on {one.parent_snapshot_id}: {known.get(one.snapshot_id)} {one.summary}"
            for one in self.table.snapshots()
        ]
        return "\n".join(
            [f"held {self.now.held}", *lines, str(self.table.properties.get("lakehouse.ledger"))]
        )

    @property
    def has_equality_deletes(self) -> bool:
        """Whether the current snapshot reads some."""
        return any(
            entry.data_file.content == DataFileContent.EQUALITY_DELETES
            for entry in list_live_files(self.table, ManifestContent.DELETES)
        )

    def data_files(self) -> int:
        """How many the current snapshot reads."""
        return len(self.table.inspect.data_files())


def _rolled_back(table: Table, snapshot_id: int) -> Table:
    """The table as it would be, if somebody made this snapshot the current one."""
    metadata = table.metadata.model_copy(update={"current_snapshot_id": snapshot_id})
    return Table(table.name(), metadata, table.metadata_location, table.io, table.catalog)


class Backup:
    """The ground as it is now, to come back to as often as one likes."""

    def __init__(self, ground: Ground) -> None:
        self._folder, self._kept = ground.folder, ground.folder.with_name(f"{ground.folder.name}-kept")
        self._state = (
            ground.now,
            dict(ground.heads),
            dict(ground.tags),
            ground.extra_id,
            set(ground.on_branch),
            ground.rng.getstate(),
            ground.times.copy(),
        )
        self._offset, self._spec = ground.merger.offset, ground.merger.spec
        shutil.copytree(self._folder, self._kept)

    def restore(self) -> Ground:
        """Another ground in the same place."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)
        now, heads, tags, extra_id, on_branch, state, times = self._state
        merger = Merger(make_systems(self._folder).catalog, self._spec)
        merger.offset = self._offset
        rng = random.Random()
        rng.setstate(state)
        return Ground(self._folder, rng, merger, now, dict(heads), dict(tags), extra_id, set(on_branch), times.copy())
