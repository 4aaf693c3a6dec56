"""Tables are created once, taken when empty, and refused when they differ."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, ForbiddenError, OAuthError, RESTError, UnauthorizedError
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType, NestedField
from requests.exceptions import ConnectionError as RequestsConnectionError

from lakehouse_assets.model.errors import (
    CatalogAccessError,
    CatalogUnavailableError,
    LedgerMissingError,
    TableDiffersError,
)
from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.catalog import ensure_table, load_table
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.schema import TableShape, build_partition_spec, build_schema
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import (
    append_foreign_rows,
    make_delivery,
    make_ranges,
    make_spec,
    make_systems,
    make_table,
)
from lakehouse_assets_tests.faults import FaultyCatalog, raising

NAME = "ods.clicks"
TEXT = {"name": "text", "type": "string"}


def first_ledger() -> Ledger:
    return Ledger({"clicks": "id"})


def never() -> Ledger:
    raise AssertionError("the beginning was asked for a second time")


def ensure(catalog: Catalog, spec: TableSpec, first: Callable[[], Ledger]) -> tuple[Table, Ledger]:
    return ensure_table(catalog, TableShape.declared(spec), first)


def create_foreign(catalog: FaultyCatalog, **properties: str) -> None:
    """The table as somebody else makes it, before us."""
    spec = make_spec()
    schema = build_schema(spec)
    catalog.create_namespace("ods")
    catalog.create_table(
        NAME, schema, partition_spec=build_partition_spec(spec, schema), properties=properties
    )


def test_a_new_table_has_columns_docs_keys_properties_and_its_first_ledger(catalog: FaultyCatalog) -> None:
    spec = make_spec(
        schema=[{"name": "id", "type": "long", "required": True, "doc": "Number."}], key=["id"], description="Clicks.",
        properties={"write.parquet.compression-level": "7"},
    )  # fmt: skip

    table, ledger = ensure(catalog, spec, first_ledger)

    assert table.schema().identifier_field_names() == {"id"}
    assert table.schema().find_field("id").doc == "Number."
    assert table.schema().column_names == ["id", "_kafka_partition", "_kafka_offset", "_kafka_timestamp"]
    assert table.properties["write.parquet.compression-level"] == "7"
    assert table.properties["comment"] == "Clicks."
    assert ledger == first_ledger()


def test_a_second_call_finds_the_table_and_its_beginning(catalog: FaultyCatalog) -> None:
    first, _ = ensure(catalog, make_spec(), first_ledger)

    again, ledger = ensure(catalog, make_spec(), never)

    assert again.metadata.table_uuid == first.metadata.table_uuid
    assert ledger == first_ledger()


def test_of_five_creators_at_once_all_get_one_table(tmp_path: Path) -> None:
    catalogs = [make_systems(tmp_path).catalog for _ in range(5)]

    with ThreadPoolExecutor(5) as pool:
        tables = list(pool.map(lambda catalog: ensure(catalog, make_spec(), first_ledger)[0], catalogs))

    assert len({table.metadata.table_uuid for table in tables}) == 1


def test_a_table_lies_where_none_of_its_name_lay_before(catalog: FaultyCatalog) -> None:
    first, _ = ensure(catalog, make_spec(), first_ledger)
    catalog.drop_table(NAME)

    second, _ = ensure(catalog, make_spec(), first_ledger)

    parents = {table.location().rpartition("/")[0] for table in (first, second)}
    names = {table.location().rpartition("/")[2] for table in (first, second)}
    assert [parent.rpartition("/")[2] for parent in parents] == ["ods"]
    assert len(names) == 2
    assert all(name.startswith("clicks-") for name in names)


def test_a_catalog_that_lets_nobody_choose_a_place_chooses_itself(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = catalog.create_table

    def create_table(*args: Any, location: str | None = None, **kwargs: Any) -> Table:
        if location is not None:
            raise BadRequestError("location can't be set")
        return create(*args, **kwargs)

    monkeypatch.setattr(catalog, "create_table", create_table)

    table, _ = ensure(catalog, make_spec(), first_ledger)

    assert table.location().endswith("/ods/clicks")


def test_five_processes_may_open_a_new_catalog_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(5) as pool:
        catalogs = list(pool.map(lambda _: make_systems(tmp_path).catalog, range(5)))

    assert [load_table(catalog, NAME) for catalog in catalogs] == [None] * 5


def test_an_empty_table_of_others_is_taken_and_keeps_its_properties(catalog: FaultyCatalog) -> None:
    create_foreign(catalog, owner="somebody")

    table, _ = ensure(catalog, make_spec(), first_ledger)
    publish(catalog, NAME, make_delivery(table, {0: range(3)}, topic_id="id"))

    table = catalog.load_table(NAME)
    assert table.properties["owner"] == "somebody"
    assert judge.read_positions(table) == [(0, 0), (0, 1), (0, 2)]


def test_properties_that_the_declaration_names_follow_it_and_others_are_left_alone(catalog: FaultyCatalog) -> None:
    table, _ = ensure(catalog, make_spec(properties={"write.parquet.compression-level": "3"}), first_ledger)
    publish(catalog, NAME, make_delivery(table, {0: range(3)}, topic_id="id"))
    with catalog.load_table(NAME).transaction() as by_hand:
        by_hand.set_properties({"write.parquet.compression-level": "19", "owner": "somebody"})

    spec = make_spec(properties={"write.parquet.compression-level": "7", "format-version": 2}, description="Clicks.")
    table, ledger = ensure(catalog, spec, never)

    found = {name: table.properties[name] for name in ("write.parquet.compression-level", "owner", "comment")}
    assert found == {"write.parquet.compression-level": "7", "owner": "somebody", "comment": "Clicks."}
    assert ledger.held == make_ranges({0: [(0, 3)]})
    assert len(table.metadata.snapshots) == 1
    assert ensure(catalog, spec, never)[0].metadata_location == table.metadata_location


def test_properties_are_set_also_when_another_commit_came_between(catalog: FaultyCatalog) -> None:
    ensure(catalog, make_spec(), first_ledger)
    catalog.before_commit = [lambda: append_foreign_rows(catalog.load_table(NAME))]

    table, _ = ensure(catalog, make_spec(description="Clicks."), never)

    assert table.properties["comment"] == "Clicks."
    assert len(judge.read_positions(table)) == 1


def test_a_table_whose_rows_were_all_deleted_is_taken(catalog: FaultyCatalog) -> None:
    create_foreign(catalog)
    append_foreign_rows(catalog.load_table(NAME))
    catalog.load_table(NAME).delete("id >= 0")

    _, ledger = ensure(catalog, make_spec(), first_ledger)

    assert ledger == first_ledger()


def test_a_table_with_rows_but_no_ledger_is_refused(catalog: FaultyCatalog) -> None:
    create_foreign(catalog)
    append_foreign_rows(catalog.load_table(NAME), 4)

    with pytest.raises(LedgerMissingError, match="4 rows"):
        ensure(catalog, make_spec(), never)

    assert LEDGER_KEY not in catalog.load_table(NAME).properties


def test_a_table_that_fills_while_it_is_taken_is_refused(catalog: FaultyCatalog) -> None:
    create_foreign(catalog)
    catalog.before_commit = [lambda: append_foreign_rows(catalog.load_table(NAME))]

    with pytest.raises(LedgerMissingError):
        ensure(catalog, make_spec(), first_ledger)


@pytest.mark.parametrize(
    ("parts", "difference"),
    [
        ({"schema": [{"name": "id", "type": "int", "required": True}, TEXT]}, "id is declared int, the table has long, .*narrow"),
        ({"schema": [{"name": "id", "type": "long"}, TEXT]}, "id: long required -> long"),
        ({"schema": [{"name": "id", "type": "long", "required": True}]}, "text string is in the table, but not declared"),
        ({"key": ["id"]}, r"declared key \['id'\], the table has \[\]"),
        ({"partition_by": ["text"]}, "declared partition_by .*the table has"),
    ],
    ids=["type", "required", "column", "key", "partition"],
)  # fmt: skip
def test_a_table_that_differs_is_refused_with_the_difference_where_the_declaration_says_fail(
    catalog: FaultyCatalog, parts: dict[str, object], difference: str
) -> None:
    before = make_table(catalog)

    with pytest.raises(TableDiffersError, match=difference):
        ensure(catalog, make_spec(**parts, on_schema_change="fail"), never)

    assert catalog.load_table(NAME).metadata_location == before.metadata_location


def test_a_table_of_another_format_version_is_refused(catalog: FaultyCatalog) -> None:
    create_foreign(catalog, **{"format-version": "1"})

    with pytest.raises(TableDiffersError, match="format version 2 is needed, the table has 1"):
        ensure(catalog, make_spec(), first_ledger)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_table_of_others_gets_our_columns_only_while_it_is_empty(catalog: FaultyCatalog, rows: int) -> None:
    catalog.create_namespace("ods")
    theirs = catalog.create_table(NAME, Schema(NestedField(1, "id", LongType(), required=True)))
    if rows:
        append_foreign_rows(theirs, rows)
        with pytest.raises(LedgerMissingError):
            ensure(catalog, make_spec(), first_ledger)
        assert catalog.load_table(NAME).schema() == theirs.schema()
        return

    table, _ = ensure(catalog, make_spec(), first_ledger)
    publish(catalog, NAME, make_delivery(table, {0: range(3)}, topic_id="id"))

    assert judge.read_positions(catalog.load_table(NAME)) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    "error", [RequestsConnectionError("refused"), RESTError("503")], ids=lambda error: type(error).__name__
)
def test_a_catalog_that_is_away_is_an_error_of_the_tree(catalog: FaultyCatalog, error: Exception) -> None:
    catalog.before_load = [raising(error)]

    with pytest.raises(CatalogUnavailableError, match="load ods.clicks") as caught:
        load_table(catalog, NAME)

    assert caught.value.retryable


@pytest.mark.parametrize(
    "error", [UnauthorizedError("401"), ForbiddenError("403"), OAuthError("invalid_client")], ids=lambda error: type(error).__name__
)
def test_a_catalog_that_refuses_is_not_asked_again(catalog: FaultyCatalog, error: Exception) -> None:
    catalog.before_load = [raising(error)]

    with pytest.raises(CatalogAccessError, match=r"Cannot load ods.clicks: the catalog .* refused it .* credentials") as caught:
        load_table(catalog, NAME)

    assert not caught.value.retryable


def test_a_table_that_is_not_there_is_none(catalog: FaultyCatalog) -> None:
    assert load_table(catalog, NAME) is None
