"""Every change as a row: what it says, what it was, and of which message it is."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges, Truncation
from lakehouse_assets.decode.changes.log import ChangeLogDecoder, list_changes
from lakehouse_assets.decode.decoded import Decoded, Messages
from lakehouse_assets.decode.fitting import FittingDecoder
from lakehouse_assets_tests.decode.changes.captures import read_capture
from lakehouse_assets_tests.decode.changes.streams import declare

CUSTOMERS = {"id": "long", "email": "string", "balance": {"type": "decimal(20,4)", "encoding": "base64"}, "tags": "list<string>"}


def read(spec: Any, messages: ChangeMessages) -> Decoded:
    """As the intake of the log hands messages over: without tombstones."""
    there = [i for i, value in enumerate(messages.values) if value is not None]
    columns = ([column[i] for i in there] for column in (messages.values, messages.keys, messages.headers))
    return ChangeLogDecoder(build_change_decoder(spec, lambda _: None), spec.key).decode(Messages(*columns))  # type: ignore[arg-type]


def test_each_change_of_a_stream_is_a_row_with_the_sources_word_for_it() -> None:
    messages = read_capture("schemaless_precise_adaptive", "customers")

    decoded = read(declare("debezium-json", CUSTOMERS), messages)

    assert decoded.bad == ()
    count = sum(value is not None for value in messages.values)
    assert decoded.rows(count).tolist() == sorted(set(range(count)) - set(decoded.filtered.tolist()))
    words = decoded.table.column("_operation").to_pylist()
    assert set(words) == {"insert", "update", "delete", "read"}
    for row in decoded.table.to_pylist():
        assert row["_source_position"] is not None
        if row["_operation"] == "delete":
            assert (row["id"] is not None, row["email"], row["balance"], row["tags"]) == (True, None, None, None)


def test_a_message_of_several_rows_is_several_rows_and_fits_or_is_bad_as_a_whole() -> None:
    spec = declare("canal-json", {"id": "long", "name": "string"})
    two = b'{"type":"INSERT","isDdl":false,"data":[{"id":"1","name":"a"},{"id":"2","name":null}],"pkNames":["id"]}'
    one = b'{"type":"DELETE","isDdl":false,"data":[{"id":"1","name":"b"}],"pkNames":["id"]}'
    ddl = b'{"type":"ALTER","isDdl":true,"data":null}'
    values = [two, ddl, one, b"{"]
    decoder = ChangeLogDecoder(build_change_decoder(spec, lambda _: None), spec.key)

    decoded = decoder.decode(Messages(values, [None] * 4, [None] * 4))

    assert decoded.rows(4).tolist() == [0, 0, 2]
    assert [(row["_operation"], row["id"], row["name"]) for row in decoded.table.to_pylist()] == [
        ("insert", 1, "a"), ("insert", 2, None), ("delete", 1, None),
    ]  # fmt: skip
    assert (decoded.filtered.tolist(), [bad.index for bad in decoded.bad]) == ([1], [3])

    # A table that has not got the column yet: the message with a value for it is bad, with both of its rows.
    table_schema = pa.schema([field for field in decoded.table.schema if field.name != "name"])
    fitted = FittingDecoder(decoder, table_schema).decode(Messages(values, [None] * 4, [None] * 4))
    assert fitted.rows(4).tolist() == [2]
    assert [(bad.index, bad.code) for bad in fitted.bad] == [(0, "schema_changed"), (3, "invalid_json")]


@pytest.mark.parametrize("words", [None, pa.array(["insert", "update", "delete"])])
def test_what_a_change_does_not_say_is_null_and_a_truncation_is_a_row(words: pa.Array | None) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("big", pa.map_(pa.string(), pa.string()))])
    table = pa.table({"id": [1, 2, 3], "big": [[("k", "x")], [("k", "?")], [("k", "?")]]}, schema=schema)
    decoded = DecodedChanges(
        table=table,
        messages=np.array([0, 2, 3]),
        deletes=np.array([False, False, True]),
        truncations=(Truncation(1, 77),),
        unavailable={"big": np.array([False, True, False])},
        operations=words,
    )

    rows, places = list_changes(decoded, ["id"])

    assert places.tolist() == [0, 1, 2, 3]
    assert rows.select(["id", "big", "_source_position"]).to_pylist() == [
        {"id": 1, "big": [("k", "x")], "_source_position": None},
        {"id": None, "big": None, "_source_position": 77},
        {"id": 2, "big": None, "_source_position": None},
        {"id": 3, "big": None, "_source_position": None},
    ]
    plain = ["upsert", "upsert", "delete"] if words is None else words.to_pylist()
    assert rows.column("_operation").to_pylist() == [plain[0], "truncate", *plain[1:]]
