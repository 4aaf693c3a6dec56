"""A table is brought to its declaration where every row stays readable, and refused, with the difference, where not."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import DoubleType, LongType, StringType

from lakehouse_assets.model.errors import CommitConflictError, TableDiffersError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.catalog import ensure_table
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.evolution import Declared, compare_schemas, judge_fit
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import TableShape
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import (
    TOPIC_ID,
    make_delivery,
    make_rows,
    make_spec,
    make_systems,
    make_table,
)
from lakehouse_assets_tests.faults import EFFECTS, Crash, FaultyCatalog, crash
from lakehouse_assets_tests.faults import Fault as EffectFault

NAME = "ods.clicks"
ID = {"name": "id", "type": "long", "required": True}
TEXT = {"name": "text", "type": "string"}
KAFKA = ["_kafka_partition", "_kafka_offset", "_kafka_timestamp"]
OPTIONAL_ID = {"name": "id", "type": "long"}


def never() -> Ledger:
    raise AssertionError("the beginning was asked for a second time")


def declare(*columns: Mapping[str, Any], **parts: Any) -> TableSpec:
    return make_spec(schema=list(columns), **parts)


def ensure(catalog: Catalog, spec: TableSpec, *, judged_before: bool = False) -> Table:
    return ensure_table(catalog, TableShape.declared(spec), never, judged_before=judged_before)[0]


def create(catalog: Catalog, *columns: Mapping[str, Any], rows: int = 3, **parts: Any) -> Table:
    """A table of these columns with rows 0 to `rows`; only `id` and `text` have values."""
    table = make_table(catalog, declare(*columns, **parts))
    if rows:
        add(catalog, table, range(rows))
    return catalog.load_table(NAME)


def add(catalog: Catalog, table: Table, offsets: range, **values: pa.Array) -> None:
    """Publish rows, with other values where given; other columns of the table stay null."""
    made = make_rows({0: offsets})
    columns = {name: values.get(name, made[name]) for name in made.column_names if name in table.schema().column_names}
    rows = pa.table(columns | values)
    writer = build_writer(table, 2**24)
    writer.add(rows)
    publish(catalog, NAME, make_delivery(table, {0: offsets}, files=build_data_files(table, writer.finish())))


def changes(before: Schema, after: Schema) -> list[str]:
    return [str(change) for change in compare_schemas(before, after)]


EVOLUTIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]] = {
    "a new column": ([ID], [ID, TEXT], ["text: no such column -> string"]),
    "wider integers": ([{"name": "n", "type": "int"}], [{"name": "n", "type": "long"}], ["n: int -> long"]),
    "wider floats": ([{"name": "n", "type": "float"}], [{"name": "n", "type": "double"}], ["n: float -> double"]),
    "more digits": (
        [{"name": "n", "type": "decimal(10,2)"}], [{"name": "n", "type": "decimal(20,2)"}], ["n: decimal(10, 2) -> decimal(20, 2)"],
    ),
    "required to optional": ([ID], [OPTIONAL_ID], ["id: long required -> long"]),
    "a description": ([ID], [{**ID, "doc": "Number."}], ["id: long required '' -> long required 'Number.'"]),
    "a member": (
        [{"name": "s", "type": "struct<a:int>"}], [{"name": "s", "type": "struct<b:string,a:long>"}],
        ["s.a: int -> long", "s.b: no such column -> string"],
    ),
    "a member in a list": (
        [{"name": "l", "type": "list<struct<a:int>>"}], [{"name": "l", "type": "list<struct<a:int,b:struct<c:date>>>"}],
        ["l.element.b: no such column -> struct<c: date>"],
    ),
    "a member in a map": (
        [{"name": "m", "type": "map<string,struct<a:int>>"}], [{"name": "m", "type": "map<string,struct<a:int,b:long>>"}],
        ["m.value.b: no such column -> long"],
    ),
    "wider items": ([{"name": "l", "type": "list<int>"}], [{"name": "l", "type": "list<long>"}], ["l.element: int -> long"]),
    "a required column that left": ([ID, TEXT], [TEXT], ["id: long required -> long"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), EVOLUTIONS.values(), ids=EVOLUTIONS)
def test_a_declaration_that_moved_on_evolves_its_table_once(
    catalog: FaultyCatalog, old: list[dict[str, Any]], new: list[dict[str, Any]], expected: list[str]
) -> None:
    before = make_table(catalog, declare(*old))
    spec = declare(*new)

    after = ensure(catalog, spec)

    assert sorted(changes(before.schema(), after.schema())) == sorted(expected)
    assert catalog.commit_count == 1
    assert ensure(catalog, spec).metadata_location == after.metadata_location
    assert not judge_fit(TableShape.declared(spec), after, Declared.read(after)).changes


@pytest.mark.parametrize(("old", "new", "expected"), EVOLUTIONS.values(), ids=EVOLUTIONS)
def test_a_plan_of_an_evolution_says_what_it_will_change(
    catalog: FaultyCatalog, old: list[dict[str, Any]], new: list[dict[str, Any]], expected: list[str]
) -> None:
    table = make_table(catalog, declare(*old))

    fit = judge_fit(TableShape.declared(declare(*new)), table, Declared.read(table))

    assert sorted(map(str, fit.changes)) == sorted(expected)
    assert catalog.commit_count == 0


def test_rows_of_before_and_after_are_read_by_another_engine(catalog: FaultyCatalog) -> None:
    old = create(catalog, ID, {"name": "n", "type": "int"}, {"name": "d", "type": "decimal(9,2)"}, {"name": "s", "type": "struct<a:int>"})
    first = old.current_snapshot()
    new = declare(
        {"name": "added", "type": "double"}, OPTIONAL_ID, {"name": "s", "type": "struct<b:string,a:long>"},
        {"name": "d", "type": "decimal(20,2)"}, {"name": "n", "type": "long"},
    )  # fmt: skip

    table = ensure(catalog, new)
    s = pa.array([{"b": "x", "a": 2**40}], pa.struct([("b", pa.string()), ("a", pa.int64())]))
    add(catalog, table, range(3, 4), added=pa.array([1.5]), n=pa.array([2**40]), s=s, id=pa.array([None], pa.int64()))

    table = catalog.load_table(NAME)
    assert [field.name for field in table.schema().fields] == ["id", "n", "d", "s", *KAFKA, "added"]
    rows = judge.query(table, "SELECT id, n, s.a, s.b, added FROM {table} ORDER BY _kafka_offset")
    assert rows == [(0, None, None, None, None), (1, None, None, None, None), (2, None, None, None, None), (None, 2**40, 2**40, "x", 1.5)]
    assert first is not None
    assert judge.count_rows(table, first.snapshot_id) == 3
    assert table.scan().to_arrow().num_rows == 4


def test_a_table_that_is_partitioned_by_a_column_that_grows_wider_keeps_its_rows(catalog: FaultyCatalog) -> None:
    columns = [{"name": "id", "type": "int"}, TEXT]
    create(catalog, *columns, rows=0, partition_by=["bucket(4, id)", "id"])
    add(catalog, catalog.load_table(NAME), range(5), id=pa.array(range(5), pa.int32()))

    table = ensure(catalog, declare(OPTIONAL_ID, TEXT, partition_by=["bucket(4, id)", "id"]))
    for i in range(5, 25):  # enough commits for manifests of before to be merged
        add(catalog, table, range(i, i + 1), id=pa.array([i], pa.int64()))

    table = catalog.load_table(NAME)
    assert judge.query(table, "SELECT id FROM {table} WHERE id IN (3, 24) ORDER BY id") == [(3,), (24,)]
    assert table.scan("id = 3").to_arrow()["id"].to_pylist() == [3]
    assert judge.count_rows(table) == 25


REFUSALS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], str]] = {
    "narrower": ([ID], [{**ID, "type": "int"}], {}, "column id is declared int, the table has long, which can't be narrowed"),
    "fewer digits": (
        [ID, {"name": "n", "type": "decimal(9,2)"}], [ID, {"name": "n", "type": "decimal(8,2)"}], {},
        r"column n is declared decimal\(8, 2\), the table has decimal\(9, 2\)",
    ),
    "another scale": (
        [ID, {"name": "n", "type": "decimal(9,2)"}], [ID, {"name": "n", "type": "decimal(12,3)"}], {},
        r"column n is declared decimal\(12, 3\), the table has decimal\(9, 2\), which has no safe way there",
    ),
    "another kind": ([ID, TEXT], [ID, {**TEXT, "type": "long"}], {}, "column text is declared long, the table has string"),
    "another kind inside": (
        [ID, {"name": "s", "type": "struct<a:int>"}], [ID, {"name": "s", "type": "struct<a:string>"}], {},
        "column s.a is declared string, the table has int",
    ),
    "optional to required": ([ID, TEXT], [ID, {**TEXT, "required": True}], {}, "text is declared required, the table has it optional"),
    "a new required column": ([ID], [ID, {**TEXT, "required": True}], {}, "text string required is declared, the table has no such"),
    "other letter case": ([ID, TEXT], [ID, TEXT | {"name": "Text"}], {}, "column Text .* other letter case"),
    "a key": ([ID], [ID], {"key": ["id"]}, "declared key"),
    "a layout": ([ID], [ID], {"partition_by": ["id"]}, r"declared partition_by \['identity\(id\)'\], the table has \[\]"),
}  # fmt: skip


@pytest.mark.parametrize("policy", ["evolve", "quarantine", "fail"])
@pytest.mark.parametrize(("old", "new", "parts", "difference"), REFUSALS.values(), ids=REFUSALS)
def test_a_change_that_would_harm_rows_is_refused_under_any_policy(
    catalog: FaultyCatalog, old: list[dict[str, Any]], new: list[dict[str, Any]], parts: dict[str, Any], difference: str, policy: str
) -> None:
    before = create(catalog, *old)
    count = catalog.commit_count

    with pytest.raises(TableDiffersError, match=difference):
        ensure(catalog, declare(*new, **parts, on_schema_change=policy))

    assert catalog.load_table(NAME).metadata_location == before.metadata_location
    assert catalog.commit_count == count


def test_a_column_that_the_declaration_widened_is_not_narrowed_with_it(catalog: FaultyCatalog) -> None:
    create(catalog, {"name": "n", "type": "int"}, rows=0)
    ensure(catalog, declare({"name": "n", "type": "long"}))

    with pytest.raises(TableDiffersError, match="column n is declared int, the table has long, which can't be narrowed"):
        ensure(catalog, declare({"name": "n", "type": "int"}))


def test_an_empty_table_takes_required_columns(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT, rows=0)

    table = ensure(catalog, declare(ID, {**TEXT, "required": True}, {"name": "n", "type": "long", "required": True}))

    assert table.schema().find_field("text").required
    assert table.schema().find_field("n").required


def test_a_column_that_left_the_declaration_stays_with_its_values(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT)

    table = ensure(catalog, declare(ID))
    add(catalog, table, range(3, 5), text=pa.array([None, None], pa.string()))

    table = ensure(catalog, declare(ID, TEXT))
    rows = judge.query(table, "SELECT text FROM {table} ORDER BY _kafka_offset")
    assert rows == [("text 0",), ("text 1",), ("text 2",), (None,), (None,)]


def test_a_policy_of_quarantine_leaves_the_table_as_it_is_and_a_later_evolution_brings_it_along(catalog: FaultyCatalog) -> None:
    before = create(catalog, {"name": "id", "type": "int"}, rows=0)
    columns = [{"name": "id", "type": "long"}, TEXT]

    assert ensure(catalog, declare(*columns, on_schema_change="quarantine")).metadata_location == before.metadata_location

    after = ensure(catalog, declare(*columns))
    assert changes(before.schema(), after.schema()) == ["id: int -> long", "text: no such column -> string"]


def test_a_policy_of_fail_says_what_evolving_would_do(catalog: FaultyCatalog) -> None:
    create(catalog, ID)

    with pytest.raises(TableDiffersError, match="With 'on_schema_change: evolve' a run would change text: no such column -> string") as caught:
        ensure(catalog, declare(ID, TEXT, on_schema_change="fail"))

    assert caught.value.differences == ("text: no such column -> string",)
    ensure(catalog, declare({**ID, "doc": "Number."}, on_schema_change="fail"))


def test_of_many_that_evolve_a_table_at_once_one_does_and_all_find_it_done(tmp_path: Path) -> None:
    catalogs = [make_systems(tmp_path).catalog for _ in range(5)]
    before = make_table(catalogs[0], declare(ID))
    specs = [declare(ID, TEXT, {"name": "n", "type": "long"}) for _ in catalogs]

    with ThreadPoolExecutor(5) as pool:
        tables = list(pool.map(ensure, catalogs, specs))

    assert {table.metadata.current_schema_id for table in tables} == {before.metadata.current_schema_id + 1}
    assert changes(before.schema(), tables[0].schema()) == ["text: no such column -> string", "n: no such column -> long"]


def test_of_two_declarations_that_race_each_gets_its_columns_once(catalog: FaultyCatalog) -> None:
    create(catalog, ID)
    catalog.before_commit = [lambda: ensure(catalog, declare(ID, {"name": "other", "type": "long"})) and None]

    table = ensure(catalog, declare(ID, TEXT))

    assert [name for name in table.schema().column_names if name not in KAFKA] == ["id", "other", "text"]
    assert len({field.field_id for field in table.schema().fields}) == 6


def test_a_schema_that_the_table_had_before_is_taken_again(catalog: FaultyCatalog) -> None:
    create(catalog, {**ID, "doc": "A."})
    for doc in ("B.", "A.", "B."):
        table = ensure(catalog, declare({**ID, "doc": doc}))

    assert table.schema().find_field("id").doc == "B."
    assert len(table.metadata.schemas) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_evolution_is_mended_by_the_next_run(catalog: FaultyCatalog, when: Any) -> None:
    create(catalog, ID)
    EFFECTS.arm(EffectFault("commit", when, crash))
    with pytest.raises(Crash):
        ensure(catalog, declare(ID, TEXT))
    EFFECTS.arm(None)

    table = ensure(catalog, declare(ID, TEXT))

    assert table.schema().find_field("text").field_type == StringType()
    assert len(table.metadata.schemas) == 2


def test_rows_that_were_staged_before_an_evolution_do_not_land(catalog: FaultyCatalog) -> None:
    old = create(catalog, ID, TEXT)
    staged = make_delivery(old, {0: range(3, 6)})

    table = ensure(catalog, declare(ID, TEXT, {"name": "n", "type": "long"}))

    with pytest.raises(CommitConflictError, match="staged for schema 0 .*, the table now has 1"):
        publish(catalog, NAME, staged)
    writer = build_writer(old, 2**24)
    writer.add(make_rows({0: range(3, 6)}))
    with pytest.raises(CommitConflictError, match="staged for schema 0"):
        build_data_files(table, writer.finish())


# What somebody else did to the table.


def by_hand(catalog: Catalog, change: Callable[[Any], object]) -> None:
    with catalog.load_table(NAME).update_schema(allow_incompatible_changes=True) as update:
        change(update)


def test_an_optional_column_added_by_hand_stays_and_its_rows_are_null(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT)
    by_hand(catalog, lambda update: update.add_column("theirs", LongType()))

    table = ensure(catalog, declare(ID, TEXT))
    add(catalog, table, range(3, 5))

    assert judge.query(catalog.load_table(NAME), "SELECT count(*), count(theirs) FROM {table}") == [(5, 0)]


def test_a_required_column_added_by_hand_is_refused_with_the_difference(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT, rows=0)
    by_hand(catalog, lambda update: update.add_column("theirs", LongType(), required=True))

    with pytest.raises(TableDiffersError, match="column theirs long required is in the table, but not declared"):
        ensure(catalog, declare(ID, TEXT))


@pytest.mark.parametrize("judged_before", [False, True], ids=["a new run", "a run in flight"])
def test_a_column_widened_by_hand_is_written_as_the_wider_type(catalog: FaultyCatalog, judged_before: bool) -> None:
    columns = [{"name": "id", "type": "int"}, TEXT]
    create(catalog, *columns, rows=0)
    by_hand(catalog, lambda update: update.update_column("id", LongType()))

    table = ensure(catalog, declare(*columns), judged_before=judged_before)
    add(catalog, table, range(2), id=pa.array([1, 2], pa.int32()))

    table = catalog.load_table(NAME)
    assert table.schema().find_field("id").field_type == LongType()
    assert judge.query(table, "SELECT id, typeof(id) FROM {table} ORDER BY id") == [(1, "BIGINT"), (2, "BIGINT")]
    ensure(catalog, declare(*columns, {"name": "added", "type": "long"}))
    ensure(catalog, declare(*columns, {"name": "added", "type": "long"}))


def test_a_run_in_flight_leaves_what_a_newer_declaration_did(catalog: FaultyCatalog) -> None:
    old = declare({"name": "id", "type": "int", "doc": "Old."}, TEXT)
    create(catalog, {"name": "id", "type": "int"}, TEXT, rows=0)
    ensure(catalog, old)
    newer = ensure(catalog, declare({"name": "id", "type": "long", "doc": "New."}, TEXT, {"name": "n", "type": "double"}))

    table = ensure(catalog, old, judged_before=True)
    add(catalog, table, range(2), id=pa.array([1, 2], pa.int32()))

    table = catalog.load_table(NAME)
    assert table.schema() == newer.schema()
    assert table.properties["lakehouse.declared"] == newer.properties["lakehouse.declared"]
    assert judge.query(table, "SELECT id, n FROM {table} ORDER BY id") == [(1, None), (2, None)]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda update: update.delete_column("text"), "column text string is declared, and was dropped from the table"),
        (lambda update: update.rename_column("text", "words"), "dropped from the table, or renamed: words string was text once"),
        (lambda update: update.delete_column("s.a"), "column s.a int is declared, and was dropped from the table"),
    ],
    ids=["dropped", "renamed", "a member dropped"],
)  # fmt: skip
@pytest.mark.parametrize("policy", ["evolve", "quarantine", "fail"])
def test_a_column_dropped_or_renamed_by_hand_is_refused_with_the_difference(
    catalog: FaultyCatalog, change: Callable[[Any], object], difference: str, policy: str
) -> None:
    columns = [ID, TEXT, {"name": "s", "type": "struct<a:int,b:int>"}]
    create(catalog, *columns)
    by_hand(catalog, change)

    with pytest.raises(TableDiffersError, match=difference):
        ensure(catalog, declare(*columns, on_schema_change=policy))


def test_a_column_replaced_by_hand_with_another_type_is_refused(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT)
    by_hand(catalog, lambda update: update.delete_column("text"))
    by_hand(catalog, lambda update: update.add_column("text", DoubleType()))

    with pytest.raises(TableDiffersError, match="column text is declared string, the table has double"):
        ensure(catalog, declare(ID, TEXT))


def test_a_dropped_column_is_no_matter_once_the_declaration_lets_it_go(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT)
    by_hand(catalog, lambda update: update.delete_column("text"))
    ensure(catalog, declare(ID))

    table = ensure(catalog, declare(ID, TEXT))

    assert judge.query(table, "SELECT count(text) FROM {table}") == [(0,)]


def test_a_column_made_optional_by_hand_is_written_as_before(catalog: FaultyCatalog) -> None:
    create(catalog, ID)
    by_hand(catalog, lambda update: update.update_column("id", required=False))

    table = ensure(catalog, declare(ID))

    assert not table.schema().find_field("id").required


def test_a_description_changed_by_hand_stays_where_the_declaration_has_none(catalog: FaultyCatalog) -> None:
    create(catalog, ID, {**TEXT, "doc": "Ours."})
    by_hand(catalog, lambda update: update.update_column("id", doc="Theirs.").update_column("text", doc="Theirs."))

    table = ensure(catalog, declare(ID, {**TEXT, "doc": "Ours."}))

    assert (table.schema().find_field("id").doc, table.schema().find_field("text").doc) == ("Theirs.", "Ours.")


def test_rows_are_written_under_a_layout_that_somebody_else_chose(catalog: FaultyCatalog) -> None:
    create(catalog, ID, TEXT, partition_by=["text"])
    by_hand(catalog, lambda update: update.add_column("theirs", LongType()))
    with catalog.load_table(NAME).update_spec() as update:
        update.add_field("id", BucketTransform(4), "id_bucket_4").add_identity("theirs")

    table = ensure(catalog, declare(ID, TEXT, partition_by=["text"]))
    add(catalog, table, range(3, 40))

    table = catalog.load_table(NAME)
    assert judge.query(table, "SELECT count(*), count(DISTINCT id) FROM {table}") == [(40, 40)]
    for wanted in (1, 5, 17, 38):
        assert table.scan(f"id = {wanted}").to_arrow()["id"].to_pylist() == [wanted]
    assert {task.file.spec_id for task in table.scan().plan_files()} == {0, 1}


def test_a_layout_by_a_member_of_a_struct_is_refused_with_the_difference(catalog: FaultyCatalog) -> None:
    columns = [ID, {"name": "s", "type": "struct<a:int>"}]
    create(catalog, *columns)
    with catalog.load_table(NAME).update_spec() as update:
        update.add_identity("s.a")

    with pytest.raises(TableDiffersError, match=r"declared partition_by \[\], the table has \['identity\(s.a\)'\]"):
        ensure(catalog, declare(*columns))


def test_rows_staged_under_a_layout_that_changed_meanwhile_do_not_land(catalog: FaultyCatalog) -> None:
    table = create(catalog, ID, TEXT)
    staged = make_delivery(table, {0: range(3, 6)})
    with catalog.load_table(NAME).update_spec() as update:
        update.add_identity("text")

    with pytest.raises(CommitConflictError, match="partition spec 0, the table now has schema 0 and 1|partition spec 0"):
        publish(catalog, NAME, staged)

    assert judge.count_rows(catalog.load_table(NAME)) == 3


def test_what_was_declared_can_be_read_back_and_nonsense_is_nothing(catalog: FaultyCatalog) -> None:
    spec = declare(ID, {"name": "s", "type": "struct<a:int>"}, partition_by=["id"])
    table = make_table(catalog, spec)
    assert Declared.read(table) == Declared.of(TableShape.declared(spec))
    assert json.loads(table.properties["lakehouse.declared"])["columns"]["s.a"] == "int"

    for nonsense in ("", "[]", '"text"', '{"columns": 7}'):
        with catalog.load_table(NAME).transaction() as by_hand:
            by_hand.set_properties({"lakehouse.declared": nonsense})
        assert Declared.read(catalog.load_table(NAME)) == Declared({}, ())
        ensure(catalog, spec)
    assert TOPIC_ID in table.properties["lakehouse.ledger"]
