"""Change streams of a small database, and what a table of them must be: a fold over the raw messages that shares no code with
the package. `Shop` makes the messages of what happens to its rows, as Debezium sends them or as plain JSON."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PLACEHOLDER = "__debezium_unavailable_value"
COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "name", "type": "string"},
    {"name": "n", "type": "long"},
]

Headers = tuple[tuple[str, bytes], ...]
Values = tuple[str | None, int | None]  # name and n


@dataclass(frozen=True, slots=True)
class Message:
    """What a producer sends."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that Kafka holds."""

    partition: int
    offset: int
    timestamp_ms: int
    message: Message


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table, with the position of the change that it is from. `deleted`: it is only marked as such."""

    name: str | None
    n: int | None
    partition: int | None
    offset: int | None
    deleted: bool = False


def key_of(identity: int | None) -> bytes | None:
    """A message's key."""
    return None if identity is None else json.dumps({"id": identity}).encode()


@dataclass
class Shop:
    """A database of one table. Its topic has `partitions`; a key's messages go to one of them.

    `hot`: so many of the keys change more often than the others. `rekeys_whole`: a row that gets another key is sent whole.
    """

    rng: random.Random
    format: str
    partitions: int
    keys: int
    hot: int = 6
    rows: dict[int, Values] = field(default_factory=dict)
    position: int = 1000
    rekeys_whole: bool = False

    def partition_of(self, identity: int) -> int:
        """Where the messages of a key go."""
        return identity % self.partitions

    def happen(self) -> Iterable[tuple[int, list[Message]]]:
        """Something happens to a row, or to all; the messages of it by their topic partition, in their order."""
        events = {"put": 10, "delete": 4, "again": 2, "burst": 2, "tombstone": 1, "bad": 1}
        if self.format == "debezium-json":
            events |= {"put_unavailable": 4, "rekey": 2, "read": 2, "noise": 1}
            if self.partitions == 1:
                events |= {"truncate": 1}  # in one of several logs, nothing says what it came after in the others
        event = self.rng.choices(list(events), list(events.values()))[0]
        return getattr(self, event)()  # type: ignore[no-any-return]

    def _next(self) -> int:
        self.position += 1
        return self.position

    def _draw(self) -> tuple[int, int]:
        identity = self.rng.randrange(self.hot if self.rng.random() < 0.7 else self.keys)
        return identity, self.partition_of(identity)

    def change(self, op: str, identity: int, values: Values | None, headers: Headers = ()) -> Message:
        """One change; `values` None: the row goes."""
        if self.format == "json":
            return Message(key_of(identity), None if values is None else _row(identity, values), headers)
        return Message(key_of(identity), debezium(op, self._next(), identity, values), headers)

    def fill(self) -> list[tuple[int, list[Message]]]:
        """Every row comes; the messages as of `happen`."""
        self.rows = {identity: (f"name {identity}", 0) for identity in range(self.keys)}
        return [(self.partition_of(identity), [self.change("c", identity, values)]) for identity, values in self.rows.items()]

    # What can happen.

    def put(self) -> list[tuple[int, list[Message]]]:
        """A row comes, or gets other values."""
        identity, p = self._draw()
        op = "u" if identity in self.rows else "c"
        self.rows[identity] = (self.rng.choice([None, f"name {self._next()}"]), self._next())
        return [(p, [self.change(op, identity, self.rows[identity])])]

    def put_unavailable(self) -> list[tuple[int, list[Message]]]:
        """An update that leaves a large value as it was, which the message therefore does not hold."""
        identity, p = self._draw()
        if identity not in self.rows:
            return self.put()
        self.rows[identity] = (self.rows[identity][0], self._next())
        return [(p, [self.change("u", identity, (PLACEHOLDER, self.rows[identity][1]))])]

    def delete(self) -> list[tuple[int, list[Message]]]:
        """A row goes, or one that is not there; mostly with a tombstone behind it."""
        identity, p = self._draw()
        self.rows.pop(identity, None)
        messages = [self.change("d", identity, None)]
        if self.rng.random() < 0.7:
            messages.append(Message(key_of(identity), None))
        return [(p, messages)]

    def tombstone(self) -> list[tuple[int, list[Message]]]:
        """All that log compaction leaves of a deletion."""
        identity, p = self._draw()
        self.rows.pop(identity, None)
        return [(p, [Message(key_of(identity), None)])]

    def rekey(self) -> list[tuple[int, list[Message]]]:
        """A row gets another key. Its new topic partition may be read before its old one."""
        if not self.rows:
            return self.put()
        old = self.rng.choice(sorted(self.rows))
        new = self.rng.choice([i for i in range(self.keys) if i != old])
        if new in self.rows:
            return self.put_unavailable()
        values = self.rows[new] = self.rows.pop(old)
        p, q = self.partition_of(old), self.partition_of(new)
        name = PLACEHOLDER if p == q and not self.rekeys_whole and self.rng.random() < 0.5 else values[0]
        to, of = (("__debezium.newkey", key_of(new) or b""),), (("__debezium.oldkey", key_of(old) or b""),)
        gone = [self.change("d", old, None, to), Message(key_of(old), None, to)]
        come = self.change("c", new, (name, values[1]), of)
        return [(p, [*gone, come])] if p == q else [(p, gone), (q, [come])]

    def read(self) -> list[tuple[int, list[Message]]]:
        """A snapshot of the source reads rows while the stream goes on."""
        return [(self.partition_of(i), [self.change("r", i, values)]) for i, values in sorted(self.rows.items())[:3]]

    def burst(self) -> list[tuple[int, list[Message]]]:
        """Insert, update, delete and insert of one key, one right behind the other."""
        identity, p = self._draw()
        self.rows[identity] = last = (f"name {self._next()}", self._next())
        steps: list[tuple[str, Values | None]] = [("c", ("first", 1)), ("u", ("second", 2)), ("d", None), ("c", last)]
        return [(p, [self.change(op, identity, values) for op, values in steps])]

    def truncate(self) -> list[tuple[int, list[Message]]]:
        """Every row goes."""
        self.rows.clear()
        return [(0, [Message(None, debezium("t", self._next(), None, None))])]

    def noise(self) -> list[tuple[int, list[Message]]]:
        """Messages that say nothing of rows."""
        begin = {"status": "BEGIN", "id": f"571:{self._next()}", "event_count": None, "data_collections": None, "ts_ms": 1}
        beat = Message(b'{"serverName":"shop"}', b'{"ts_ms":1795446514100}')
        return [(self.rng.randrange(self.partitions), [beat, Message(b'{"id":"571"}', json.dumps(begin).encode())])]

    def bad(self) -> list[tuple[int, list[Message]]]:
        """What can't be read, or names no row."""
        without_id = b'{"name":"x"}'
        if self.format == "debezium-json":
            without_id = json.dumps({"op": "c", "before": None, "after": {"name": "x"}, "source": {"lsn": self._next()}}).encode()
        chosen = self.rng.choice([Message(key_of(1), b"no JSON"), Message(None, without_id), Message(None, None)])
        return [(self.rng.randrange(self.partitions), [chosen])]

    def again(self) -> list[tuple[int, list[Message]]]:
        """Nothing new: the walk sends what it sent last once more."""
        return []


def _row(identity: int, values: Values) -> bytes:
    return json.dumps({"id": identity, "name": values[0], "n": values[1]}).encode()


def debezium(op: str, position: int, identity: int | None, values: Values | None) -> bytes:
    """The value of Debezium's message of a change; `values` None: none after it."""
    row = None if values is None else {"id": identity, "name": values[0], "n": values[1]}
    # What a deleted row held is made up where the source does not log it.
    before = {"id": identity, "name": "", "n": 0} if op in "ud" else None
    source = {"version": "3.6.3.Final", "connector": "postgresql", "name": "shop", "ts_ms": position, "snapshot": "false"}
    source |= {"db": "shop", "schema": "public", "table": "customers", "txId": 5, "lsn": position, "xmin": None}
    message = {"before": before, "after": row, "source": source, "transaction": None, "op": op, "ts_ms": position}
    return json.dumps(message).encode()


def fold(messages: Iterable[Sent], *, marks: bool = False) -> dict[int, Row]:
    """What a table of these messages holds: each topic partition in the order of its offsets, one after the other.

    With `marks`, rows that are deleted stay, marked.
    """
    rows: dict[int, Row] = {}
    last: dict[int, Row] = {}  # also those that went: a row whose key changed keeps what its change leaves out
    for sent in sorted(messages, key=lambda one: (one.partition, one.offset)):
        for identity, values, old in read_changes(sent.message):
            if identity is None:
                rows.clear()
            elif values is None:
                row = rows.pop(identity, None)
                if marks and row is not None:
                    rows[identity] = Row(row.name, row.n, sent.partition, sent.offset, deleted=True)
            else:
                name = values[0]
                if name == PLACEHOLDER:
                    is_new = identity not in rows or rows[identity].deleted
                    name = last[old if old is not None and is_new else identity].name
                rows[identity] = last[identity] = Row(name, values[1], sent.partition, sent.offset)
    return rows


def read_changes(message: Message) -> list[tuple[int | None, Values | None, int | None]]:
    """What a message says: key, values (None: the row goes) and the key before. No key: every row goes. Bad ones say nothing."""
    key = json.loads(message.key).get("id") if message.key is not None else None
    if message.value is None:
        return [(key, None, None)] if key is not None else []
    try:
        value: dict[str, Any] = json.loads(message.value)
    except ValueError:
        return []
    if "op" not in value:
        return [(value["id"], (value["name"], value["n"]), None)] if "id" in value and "name" in value else []
    if value["op"] == "t":
        return [(None, None, None)]
    if value["op"] == "d":
        return [(key, None, None)]
    after: Mapping[str, Any] = value["after"]
    if "id" not in after:
        return []
    old = next((json.loads(text)["id"] for name, text in message.headers if name == "__debezium.oldkey"), None)
    return [(after["id"], (after["name"], after["n"]), old)]


def is_bad(message: Message) -> bool:
    """Whether it belongs into quarantine."""
    if message.value is None:
        return message.key is None
    try:
        value = json.loads(message.value)
    except ValueError:
        return True
    if value.get("op") == "t":
        return False
    return "id" not in (value.get("after") or {"id": 0}) if "op" in value else value.keys() == {"name"}


def touched_keys(messages: Sequence[Sent]) -> set[int | None]:
    """Keys of which any of them says something; None among them: of all."""
    return {identity for sent in messages for identity, _, _ in read_changes(sent.message)}
