"""Tables that Flink wrote: their equality deletes become position deletes, and every reader sees the same rows as before."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
    UUIDType,
)

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.tidying_deletes import tidy_deletes
from lakehouse_assets.systems.equality_deletes import EqualityDeletes
from lakehouse_assets.systems.live_files import list_live
from lakehouse_assets.systems.position_deletes import is_of_one_file
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.foreign_upserts import commit, delete_keys, upsert, write_keys

NAME = "ods.clicks"
FIELDS = {"id": LongType(), "text": StringType()}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = make_systems(tmp_path).catalog
    opened.create_namespace("ods")
    yield opened
    opened.close()


def create(catalog: Catalog, spec: PartitionSpec | None = None, **fields: Any) -> Table:
    columns = [NestedField(at, name, kind, required=False) for at, (name, kind) in enumerate((fields or FIELDS).items(), 1)]
    return catalog.create_table(NAME, Schema(*columns), partition_spec=spec or PartitionSpec(), properties={"format-version": "2"})


def put(catalog: Catalog, rows: dict[Any, Any], key: str = "id", value: str = "text") -> None:
    """Flink's upsert, or delete where the value is None."""
    upsert(catalog, NAME, [key], [({key: k}, None if v is None else {value: v}) for k, v in rows.items()])


def tidy(catalog: Catalog) -> MaintenanceReport:
    return tidy_deletes(MaintenanceTask(catalog, NAME, MaintenanceSpec(), now_ms=lambda: 0))


def read(catalog: Catalog) -> list[tuple[Any, ...]]:
    """All rows, as DuckDB reads them."""
    return judge.query(catalog.load_table(NAME), "SELECT * FROM {table} ORDER BY ALL")


def read_tidied(catalog: Catalog) -> list[tuple[Any, ...]]:
    """All rows as they are after, to DuckDB and PyIceberg; no equality delete is left."""
    table = catalog.load_table(NAME)
    files = [entry.data_file for entry in list_live_files(table, ManifestContent.DELETES)]
    assert all(is_of_one_file(one) for one in files)
    rows = read(catalog)
    assert table.scan().to_arrow().num_rows == len(rows)
    return rows


def test_a_key_that_was_written_again_has_its_last_row(catalog: Catalog) -> None:
    create(catalog)
    put(catalog, {1: "a", 2: "a", 3: "a"})
    put(catalog, {2: "b", 3: None, 4: "b"})
    put(catalog, {2: "c", 5: None, 1: None})
    expected = [(2, "c"), (4, "b")]
    assert read(catalog) == expected

    report = tidy(catalog)

    assert read_tidied(catalog) == expected
    assert report.figures["equality_delete_files_before"] == 3
    assert report.figures["equality_delete_files_after"] == 0
    assert [row[0] for row in report.planned.rows] == ["turn equality deletes into position deletes", "remove those of nothing"]
    assert report.kept_back == []


def test_deletes_are_not_for_rows_of_their_own_commit(catalog: Catalog) -> None:
    create(catalog)
    put(catalog, {1: "a"})
    upsert(catalog, NAME, ["id"], [({"id": 1}, {"text": "b"}), ({"id": 2}, {"text": "b"}), ({"id": 1}, {"text": "c"})])
    expected = [(1, "c"), (2, "b")]
    assert read(catalog) == expected

    tidy(catalog)

    assert read_tidied(catalog) == expected


def test_deletes_of_a_partition_are_for_it_alone_and_those_of_no_partition_for_all(catalog: Catalog) -> None:
    create(catalog)
    put(catalog, dict.fromkeys(range(8), "a"))
    with catalog.load_table(NAME).update_spec() as update:
        update.add_field("id", BucketTransform(2), "bucket")
    put(catalog, dict.fromkeys(range(4, 12), "b"))
    put(catalog, {5: "c", 9: None})
    mixed = read(catalog)
    assert mixed == sorted([(k, "a") for k in range(8)] + [(k, "b") for k in (4, 6, 7, 8, 10, 11)] + [(5, "c")])
    with catalog.load_table(NAME).update_spec() as update:
        update.remove_field("bucket")
    put(catalog, {4: "d", 8: None})
    expected = [row for row in mixed if row[0] not in (4, 8)] + [(4, "d")]

    tidy(catalog)

    assert read_tidied(catalog) == sorted(expected)


def test_a_null_equals_a_null_and_what_is_no_number_itself(catalog: Catalog) -> None:
    create(catalog, id=LongType(), shop=StringType(), share=DoubleType())
    key = ["id", "shop", "share"]
    nan = math.nan
    rows: list[dict[str, Any]] = [
        {"id": i, "shop": shop, "share": share} for i in (1, None) for shop in ("x", None) for share in (0.5, nan, None, -0.0, 0.0)
    ]
    table = catalog.load_table(NAME)
    table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    gone = [(None, None, None), (1, None, nan), (None, "x", 0.5), (1, "x", -0.0)]
    delete_keys(catalog, NAME, key, [dict(zip(key, values, strict=True)) for values in gone])

    tidy(catalog)

    assert len(read_tidied(catalog)) == len(rows) - len(gone)
    left = [tuple(map(repr, row.values())) for row in catalog.load_table(NAME).scan().to_arrow().to_pylist()]
    expected = [tuple(repr(row[column]) for column in key) for row in rows]
    assert sorted(left) == sorted(row for row in expected if row not in [tuple(map(repr, one)) for one in gone])


@pytest.mark.parametrize(
    ("kind", "values"),
    {
        "string": (StringType(), ["", "a" * 40, "a" * 41, "ü", "z"]),
        "decimal": (DecimalType(9, 2), ["0.00", "-1.10", "1.10", "9999999.99", "1.11"]),
        "date": (DateType(), [0, -1, 1, 20000, 2]),
        "timestamptz": (TimestamptzType(), [0, -1, 1, 2**50, 2]),
        "uuid": (UUIDType(), [bytes([n]) * 16 for n in (0, 255, 1, 127, 128)]),
        "float": (FloatType(), [0.0, -1.5, math.inf, 1e-30, 1.0]),
    }.values(),
    ids=["string", "decimal", "date", "timestamptz", "uuid", "float"],
)
def test_keys_of_every_type_are_found(catalog: Catalog, kind: Any, values: list[Any]) -> None:
    create(catalog, id=kind, text=StringType())
    arrow = catalog.load_table(NAME).scan().to_arrow().schema.field("id").type
    cells = pa.array(values, pa.string()).cast(arrow) if isinstance(kind, DecimalType) else _array(values, arrow)
    keys = cells.to_pylist()
    put(catalog, dict.fromkeys(keys, "a"))
    put(catalog, {keys[1]: None, keys[2]: "b"})

    tidy(catalog)

    found = catalog.load_table(NAME).scan().to_arrow().to_pylist()
    assert {row["id"]: row["text"] for row in found} == {keys[0]: "a", keys[2]: "b", keys[3]: "a", keys[4]: "a"}
    assert len(read_tidied(catalog)) == 4


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_date32(kind):
        return pa.array(values, pa.int32()).cast(kind)
    return pa.array(values, kind)


def test_columns_are_found_though_renamed_widened_added_or_dropped_since(catalog: Catalog) -> None:
    create(catalog, id=IntegerType(), shop=StringType(), text=StringType())
    key = ["id", "shop"]
    upsert(catalog, NAME, key, [({"id": i, "shop": shop}, {"text": "a"}) for i in range(4) for shop in "xy"])
    delete_keys(catalog, NAME, key, [{"id": 1, "shop": "x"}])
    with catalog.load_table(NAME).update_schema() as update:
        update.update_column("id", LongType())
        update.rename_column("id", "number")
        update.add_column("day", StringType())
    delete_keys(catalog, NAME, ["number", "day"], [{"number": 2, "day": None}, {"number": 3, "day": "monday"}])
    upsert(catalog, NAME, ["number", "shop"], [({"number": 2**40, "shop": "x"}, {"text": "b"})])
    delete_keys(catalog, NAME, ["shop"], [{"shop": "y"}])
    with catalog.load_table(NAME).update_schema() as update:
        update.delete_column("shop")
        update.rename_column("text", "shop")

    tidy(catalog)

    table = catalog.load_table(NAME)
    assert sorted((row["number"], row["shop"]) for row in table.scan().to_arrow().to_pylist()) == [(0, "a"), (3, "a"), (2**40, "b")]


def test_columns_inside_of_structs_are_compared(catalog: Catalog) -> None:
    who = StructType(NestedField(10, "shop", StringType(), required=False), NestedField(11, "id", LongType(), required=False))
    create(catalog, who=who, text=StringType())
    people = [{"shop": "x", "id": 1}, {"shop": "x", "id": 2}, None, {"shop": None, "id": None}, {"shop": "y", "id": 2}]
    rows = [{"who": who, "text": f"{at}"} for at, who in enumerate(people)]
    table = catalog.load_table(NAME)
    table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    delete_keys(catalog, NAME, ["who.id", "who.shop"], [{"who": {"id": 2, "shop": "x"}}])

    tidy(catalog)

    assert {row[1] for row in read_tidied(catalog)} == {"0", "2", "3", "4"}


def test_keys_that_do_not_fit_into_memory_are_looked_for_in_batches(catalog: Catalog) -> None:
    table = create(catalog)
    put(catalog, dict.fromkeys(range(100), "a"))
    for first in range(0, 100, 10):
        delete_keys(catalog, NAME, ["id"], [{"id": i} for i in range(first, first + 7)])
    table = catalog.load_table(NAME)
    live = list_live(table, table.current_snapshot())

    for key_bytes in (1, 500, 2**20):
        (positions,) = EqualityDeletes(table, live.deletes, key_bytes).find(live.data).values()
        assert positions.tolist() == [i for i in range(100) if i % 10 < 7]


def test_position_and_equality_deletes_of_one_data_file_become_one_file(catalog: Catalog) -> None:
    create(catalog, PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "id")))
    create_rows = {1: "a", 2: "a", 3: "a"}
    put(catalog, create_rows)
    delete_rows(catalog, NAME, "id", [1])
    put(catalog, {1: None, 2: None})

    tidy(catalog)

    assert read_tidied(catalog) == [(3, "a")]
    table = catalog.load_table(NAME)
    assert sorted(e.data_file.record_count for e in list_live_files(table, ManifestContent.DELETES)) == [1, 1]


def test_a_partition_of_what_is_no_number_is_one_partition(catalog: Catalog) -> None:
    share = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "share"))
    create(catalog, share, id=LongType(), share=DoubleType())
    key = ["id", "share"]
    upsert(catalog, NAME, key, [({"id": i, "share": math.nan}, {}) for i in (1, 2)])
    delete_keys(catalog, NAME, key, [{"id": 1, "share": math.nan}])

    tidy(catalog)

    assert [row[0] for row in read_tidied(catalog)] == [2]


def claim(catalog: Catalog, ids: list[int] | None, column: str = "text") -> str:
    """Commit a file of equality deletes of one column that says that it compares those of these ids."""
    table = catalog.load_table(NAME)
    (deletes,) = write_keys(table, [column], [{column: "a"}])
    told = DataFile.from_args(**{name: getattr(deletes, name) for name in DESCRIBED} | {"equality_ids": ids})
    told.spec_id = deletes.spec_id
    commit(catalog, table, [told])
    return str(deletes.file_path)


DESCRIBED = ("content", "file_path", "file_format", "partition", "record_count", "file_size_in_bytes")


@pytest.mark.parametrize(
    ("ids", "reason"),
    [(None, "does not say which columns"), ([99], "id 99, which is in no schema"), ([1, 2], r"of the ids \[1\], which are not in it")],
)
def test_deletes_that_can_not_be_read_change_nothing_and_are_named(
    catalog: Catalog, ids: list[int] | None, reason: str
) -> None:
    create(catalog)
    put(catalog, {1: "a"})
    path = claim(catalog, ids)
    before = catalog.load_table(NAME).metadata_location

    with pytest.raises(StorageError, match=reason) as raised:
        tidy(catalog)

    assert path in str(raised.value)
    assert catalog.load_table(NAME).metadata_location == before
