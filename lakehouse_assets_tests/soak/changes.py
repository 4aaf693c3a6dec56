"""The upsert table of a soak: its topic, what is sent to it, and what the table must be at any moment."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from pyiceberg.table import Table

from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import HOUR_MS, make_spec
from lakehouse_assets_tests.change_streams import Message, key_of
from lakehouse_assets_tests.operations.lake import Lake

PARTITIONS, KEYS = 2, 200
# Properties of the tables: snapshots live for as long as a look at them takes, and manifests are written again all the time.
SHORT_LIVED = {"history.expire.max-snapshot-age-ms": "20000", "commit.manifest.target-size-bytes": "4000"}

Places = dict[int, tuple[int, int]]  # topic partition and offset of the change that a key's row is from


def read_places(table: Table) -> Places:
    """The rows of the current snapshot.

    Raises:
        AssertionError: a key is there twice, or a row that the ledger does not hold.
    """
    rows = judge.query(table, "SELECT id, _kafka_partition, _kafka_offset FROM {table}")
    places: Places = {key: (p, offset) for key, p, offset in rows}  # type: ignore[misc]
    assert len(places) == len(rows), f"{len(rows) - len(places)} keys twice, of {len(rows)}"
    ledger = read_ledger(table)
    assert ledger is not None
    held = {(log.partition, ranges.stop) for log, ranges in ledger.held.partitions.items()}
    stray = [place for place in places.values() if not any(p == place[0] and place[1] < stop for p, stop in held)]
    assert not stray, f"rows that the ledger does not hold: {sorted(stray)[:5]}"
    return places


@dataclass
class ChangingTable:
    """`lake` is reached through faults, `calm` is not. `sent`: by topic partition and offset, the key, and whether it has a row."""

    lake: Lake
    calm: Lake
    begins_ms: list[int]
    sent: list[dict[int, tuple[int, bool]]] = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])

    @classmethod
    def open(cls, folder: Path, broker: Broker, lake: Lake, calm: Lake, begins_ms: list[int]) -> "ChangingTable":
        """An empty topic, and no table yet; in the catalogs of these two."""
        topic = broker.create_topic("stock", PARTITIONS)
        declared = {"mode": "upsert", "key": ["id"], "partition_by": ["bucket(2, id)"], "properties": SHORT_LIVED}
        spec = make_spec(topic, table="ods.stock", **declared)
        lakes = [Lake(folder, broker, spec, one.systems, one.catalog) for one in (lake, calm)]
        return cls(*lakes, begins_ms)

    @property
    def table(self) -> Table | None:
        """As it is now, once it has a snapshot."""
        table = load_table(self.calm.systems.catalog, self.calm.spec.table)
        return table if table is not None and table.current_snapshot() is not None else None

    def produce(self, rng: random.Random) -> str:
        """Rows and tombstones of random keys; those of a key to one topic partition."""
        p, count = rng.randrange(PARTITIONS), rng.choice([1, 10, 200])
        drawn = [(rng.randrange(KEYS // PARTITIONS) * PARTITIONS + p, rng.random() < 0.8) for _ in range(count)]
        messages = [
            Message(key_of(key), json.dumps({"id": key, "text": str(i)}).encode() if is_row else None)
            for i, (key, is_row) in enumerate(drawn)
        ]
        stamp = rng.choice(self.begins_ms) + rng.randrange(HOUR_MS // 2)
        offsets = self.lake.broker.send(self.lake.topic, messages, p, stamp)
        self.sent[p].update(zip(offsets, drawn, strict=True))
        return f"{count} to {p}"

    def expected(self, table: Table) -> Places:
        """The fold of what the ledger holds."""
        ledger = read_ledger(table)
        assert ledger is not None
        places: Places = {}
        for p, sent in enumerate(self.sent):
            for offset in sorted(offset for offset in sent if offset < ledger.held[self.calm.log(p)].stop):
                key, is_row = sent[offset]
                if is_row:
                    places[key] = (p, offset)
                else:
                    places.pop(key, None)
        return places

    def judge(self) -> None:
        """Look at the table as it is now, whatever is going on.

        Raises:
            AssertionError: it is not the fold.
        """
        table = self.table
        if table is not None:
            found, expected = read_places(table), self.expected(table)
            wrong = {key: (found.get(key), expected.get(key)) for key in found.keys() | expected.keys()}
            wrong = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
            assert not wrong, f"{len(wrong)} keys are wrong (found, expected): {sorted(wrong.items())[:5]}"

    def come_to_rest(self) -> str:
        """Bring it to the end of its topic; what it holds then.

        Raises:
            AssertionError
        """
        self.calm.ingest()
        self.judge()
        assert self.calm.lag() == 0
        table = self.table
        return f"{sum(map(len, self.sent))} changes folded to {len(read_places(table)) if table is not None else 0} rows"
