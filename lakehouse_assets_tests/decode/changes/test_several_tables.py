"""A topic with the changes of several tables: whose they are is said, and only those of the tables that are meant are taken."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets_tests.decode.avro.messages import body_of, framed, registered
from lakehouse_assets_tests.decode.changes.envelopes import MYSQL, Stream, envelope, row
from lakehouse_assets_tests.decode.changes.streams import Message, bad_of, declare, decode

FORMATS = ("debezium-json", "debezium-avro", "canal-json", "maxwell-json")
_FULL = ("id", "long"), ("name", ["null", "string"])
# Another table's rows, which no row of ours can be read of.
_OTHER_VALUE = row(("id", "string"), ("name", ["null", "string"]))
_SHOP, _OTHER = Stream(row(*_FULL), source=MYSQL), envelope(_OTHER_VALUE, MYSQL)
_OTHER_ID = 77
_WORDS = {
    "canal-json": {"c": "INSERT", "d": "DELETE", "t": "TRUNCATE"},
    "maxwell-json": {"c": "insert", "d": "delete"},
}
_MYSQL_SOURCE = {"version": "3", "connector": "mysql", "name": "shop", "ts_ms": 1, "server_id": 1, "file": "b.000001", "pos": 4, "row": 0}


def write(kind: str, table: str | None, op: str, identity: Any = None) -> Message:
    """A change of a row of `shop.<table>`, as the format has it."""
    image = None if identity is None else {"id": identity, "name": "n"}
    after, before = (None, image) if op == "d" else (image, None)
    if kind == "debezium-json":
        return {"op": op, "after": after, "before": before, "source": {**_MYSQL_SOURCE, "db": "shop", "table": table}}
    if kind == "debezium-avro":
        if isinstance(identity, str):
            source = {**_MYSQL_SOURCE, "db": "shop", "table": table}
            return framed(body_of(_OTHER, {"op": op, "after": after, "before": before, "source": source}), _OTHER_ID)
        return _SHOP.change(op, after, before, table=table, file="b.000001", pos=4, row=0)
    if kind == "canal-json":
        data = None if image is None else [{name: str(value) for name, value in image.items()}]
        return {"database": "shop", "table": table, "type": _WORDS[kind][op], "isDdl": op == "t", "data": data, "old": None}
    return {"database": "shop", "table": table, "type": _WORDS[kind][op], "data": image, "ts": 1}


def read(
    kind: str, values: Sequence[Message], tables: Sequence[str] = (), keys: Sequence[bytes | None] | None = None
) -> DecodedChanges:
    """Decode for a table of `id` and `name`."""
    spec = declare(kind, {"id": "long", "name": "string"}, tables=tables)
    if kind != "debezium-avro":
        return decode(spec, values, keys)
    schemas: Mapping[int, Any] = {**_SHOP.schemas, _OTHER_ID: registered(_OTHER)}
    found: list[bytes | None] = [value if isinstance(value, bytes) else None for value in values]
    return build_change_decoder(spec, schemas.get).decode(ChangeMessages(found, keys or [None] * len(found), [None] * len(found)))


@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize("kind", FORMATS)
def test_whose_changes_they_are_is_said(kind: str, times: int) -> None:
    batch = [write(kind, "orders", "c", 1), write(kind, "lines", "d", 2), write(kind, "orders", "c", 3)]
    assert read(kind, batch * times).tables == {"shop.orders", "shop.lines"}
    assert read(kind, batch[:1] * times).tables == {"shop.orders"}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_bad_or_skipped_says_no_table(kind: str) -> None:
    found = read(kind, [write(kind, "orders", "c", 1), write(kind, "other", "c", "x")])
    assert (found.tables, [one.index for one in found.bad]) == ({"shop.orders"}, [1])
    assert read(kind, [write(kind, "orders", "c", 1), write(kind, "other", "c", 2)], ["shop.orders"]).tables == {"shop.orders"}


@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize("tables", [["shop.orders"], ["*.orders"], ["x.y", "sh*.orders"]])
@pytest.mark.parametrize("kind", FORMATS)
def test_only_the_tables_that_are_meant_are_taken(kind: str, tables: Sequence[str], times: int) -> None:
    batch = [
        write(kind, "orders", "c", 1),
        write(kind, "other", "c", 1),
        write(kind, "other", "c", "x"),  # would be bad
        write(kind, "Orders", "d", 1),
        write(kind, "orders", "d", 1),
    ]
    found = read(kind, batch * times, tables)
    assert found.tables == {"shop.orders"}
    assert found.bad == ()
    assert found.skipped.tolist() == [5 * i + place for i in range(times) for place in (1, 2, 3)]
    assert found.messages.tolist() == [5 * i + place for i in range(times) for place in (0, 4)]
    assert found.table.column("id").to_pylist() == [1, 1] * times


@pytest.mark.parametrize("kind", ["debezium-json", "debezium-avro", "canal-json"])
def test_the_truncation_of_another_table_empties_nothing(kind: str) -> None:
    batch = [write(kind, "other", "t"), write(kind, "orders", "t")]
    found, unasked = read(kind, batch, ["shop.orders"]), read(kind, batch)
    assert ([one.message for one in found.truncations], found.skipped.tolist(), found.tables) == ([1], [0], {"shop.orders"})
    assert ([one.message for one in unasked.truncations], unasked.tables) == ([0, 1], {"shop.orders", "shop.other"})


@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_change_without_a_tables_name_is_bad_only_where_it_is_asked_for(kind: str, times: int) -> None:
    batch = [write(kind, None, "c", 1), write(kind, "orders", "c", 2)] * times
    assert bad_of(read(kind, batch, ["shop.orders"])) == [(2 * i, "no_table_name") for i in range(times)]
    assert (read(kind, batch).bad, read(kind, batch).tables) == ((), {"shop.orders"})


@pytest.mark.parametrize("kind", ["debezium-json", "debezium-avro", "canal-json"])
def test_tombstones_name_no_table_and_are_taken(kind: str) -> None:
    found = read(kind, [write(kind, "orders", "c", 1), None], ["shop.orders"], [None, b'{"id": 1}'])
    assert (found.messages.tolist(), found.deletes.tolist(), found.bad) == ([0, 1], [False, True], ())


def test_maxwells_tombstones_name_their_table() -> None:
    keys = [b'{"database":"shop","table":"%s","pk.id":1}' % name for name in (b"orders", b"other")]
    keys += [b'["shop","other",[{"id":1}]]', b'["shop","orders",[{"id":1}]]']
    found = read("maxwell-json", [None] * 4, ["shop.orders"], keys)
    assert (found.messages.tolist(), found.skipped.tolist(), found.tables) == ([0, 3], [1, 2], {"shop.orders"})
    assert read("maxwell-json", [None] * 4, (), keys).tables == {"shop.orders", "shop.other"}


def test_tables_of_sources_with_schemas_are_named_by_them() -> None:
    source = {"schema": "public", "db": "shop", "table": "orders"}
    assert read("debezium-json", [{"op": "c", "after": {"id": 1}, "source": source}]).tables == {"public.orders"}


@pytest.mark.parametrize(
    ("wanted", "name", "is_left_out"),
    [
        ([], "a.b", False), (["a.b"], "a.b", False), (["a.b"], "aXb", True), (["a.b"], "a.bc", True), (["a.?"], "a.b", True),
        (["a.*"], "a.", False), (["*"], "a\nb", False), (["[ab].c"], "a.c", True), (["x", "a*c*"], "abcd", False), (["a.b"], None, False),
    ],
)  # fmt: skip
def test_a_star_stands_for_anything_and_all_else_for_itself(wanted: Sequence[str], name: str | None, is_left_out: bool) -> None:
    assert TableNames(wanted).leave_out(name) is is_left_out
