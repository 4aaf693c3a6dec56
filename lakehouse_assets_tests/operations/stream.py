"""A table of Debezium's changes, as a test sends them and looks at what came of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.change_streams import Message, Values, debezium, key_of
from lakehouse_assets_tests.operations.lake import Lake, hours_ago


@dataclass
class Stream:
    """A table of Debezium's changes. `whole`: all that is sent is read at once; else each message by itself."""

    lake: Lake
    whole: bool = True
    position: int = 1000
    stamp: int = field(default_factory=lambda: hours_ago(0))

    def change(
        self, op: str, identity: int, name: str | None = None, n: int = 0, *, old: int | None = None, position: int | None = None
    ) -> Message:
        """One change; of a deletion, name and number say nothing."""
        self.position += 1
        values: Values | None = None if op == "d" else (name, n)
        headers = () if old is None else (("__debezium.oldkey", key_of(old) or b""),)
        return Message(key_of(identity), debezium(op, position or self.position, identity, values), headers)

    def send(self, *messages: Message, partition: int = 0) -> None:
        """Send, and bring the table forward."""
        for part in [list(messages)] if self.whole else [[one] for one in messages]:
            self.lake.broker.send(self.lake.topic, part, partition, self.stamp)
            self.lake = self.lake.reopened()
            self.lake.ingest()

    @property
    def rows(self) -> dict[int, Values]:
        """Name and number by key, of which each is there once in every snapshot."""
        table = self.lake.table
        for snapshot in table.snapshots():
            ((count, keys),) = judge.query(table, "SELECT count(*), count(DISTINCT id) FROM {table}", snapshot.snapshot_id)
            assert count == keys
        if table.current_snapshot() is None:
            return {}
        return {key: (name, n) for key, name, n in judge.query(table, "SELECT id, name, n FROM {table}")}  # type: ignore[misc]


MakeStream = Callable[..., Stream]


def gone(identity: int | None) -> Message:
    """A tombstone."""
    return Message(key_of(identity), None)
