"""What a declaration says of a table's maintenance, and which of it holds for the tables beside."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.spec import TableSpec

COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "city", "type": "string"},
    {"name": "tags", "type": "list<string>"},
    {"name": "twice", "type": "long", "expr": "id * 2"},
]
CLICKS = {"table": "ods.clicks", "source": {"topic": "clicks"}, "schema": COLUMNS}
ORDERS = {
    "table": "shop.orders", "source": {"topic": "orders", "format": "debezium-json"}, "schema": COLUMNS, "mode": "upsert",
    "key": ["id"], "keep_change_log": True,
}  # fmt: skip


def make_spec(maintenance: Any, **changes: Any) -> TableSpec:
    return TableSpec.model_validate({**CLICKS, "maintenance": maintenance, **changes})


def find_mistakes(maintenance: Any, **changes: Any) -> dict[str, Mistake]:
    with pytest.raises(ValidationError) as raised:
        make_spec(maintenance, **changes)
    return {".".join(map(str, one["loc"])): one["ctx"]["error"].args[0] for one in raised.value.errors()}


@pytest.mark.parametrize(
    ("maintenance", "place", "mistake"),
    [
        (
            {"sort_by": ["id", "ctiy"]},
            "maintenance.sort_by.1",
            Mistake(
                "the column 'ctiy'",
                "columns of the table: id, city, tags, twice, _kafka_partition, _kafka_offset, _kafka_timestamp",
                "city",
            ),
        ),
        (
            MaintenanceSpec(sort_by=("tags",)),
            "maintenance.sort_by.0",
            Mistake("'tags' of type list<string>", "columns of a primitive type: others have no order"),
        ),
        ({"sort_by": ["id", "id"]}, "maintenance.sort_by.1", Mistake("'id' a second time", "each column once")),
        (
            {"sort_order": "zorder"},
            "maintenance.sort_order",
            Mistake("zorder of no columns", "zorder with sort_by: at least two columns"),
        ),
        (
            {"sort_order": "zorder", "sort_by": ["id"]},
            "maintenance.sort_order",
            Mistake("zorder of 1 column", "zorder with sort_by: at least two columns"),
        ),
        (
            {"window": "22-5"},
            "maintenance.window",
            Mistake("'22-5'", "a part of the day in UTC, as 22:00-05:00"),
        ),
        (
            {"orphan_age": "1h"},
            "maintenance.orphan_age",
            Mistake("1h", "a duration of at least 1d in ms, s, m, h or d, as 10s"),
        ),
        (
            {"max_bytes_per_run": "1kB"},
            "maintenance.max_bytes_per_run",
            Mistake("1000B", "a size of at least 1MiB, as 64MiB or 1GB"),
        ),
    ],
)
def test_a_mistake_names_its_place_and_what_is_allowed(maintenance: Any, place: str, mistake: Mistake) -> None:
    assert find_mistakes(maintenance) == {place: mistake}


@pytest.mark.parametrize(
    ("name", "value", "allowed", "suggestion"),
    [
        ("history.expire.max-snapshot-age-ms", "5d", "a whole number of milliseconds from 1 on", "432000000"),
        ("write.target-file-size-bytes", "128MiB", "a whole number of bytes from 1 on", "134217728"),
        ("history.expire.min-snapshots-to-keep", 0, "a whole number from 1 on", None),
        ("gc.enabled", "ture", "true, false", "true"),
    ],
)
def test_what_maintenance_calculates_with_is_a_number(name: str, value: Any, allowed: str, suggestion: str | None) -> None:
    mistakes = find_mistakes({}, properties={name: value})

    assert mistakes == {f"properties.{name}": Mistake(repr(str(value)), allowed, suggestion)}


def test_a_file_shows_line_and_nearest_name_of_each_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "table: ods.clicks\nsource: {topic: t}\nschema:\n  - {name: id, type: long}\n"
        "maintenance:\n  engine: sprak\n  smal_files: 3\n  leave_out: [compcat]\n  small_files: 1\n"
    )

    (broken,) = load_declarations(tmp_path).broken

    assert [(problem.line, problem.path, problem.suggestion) for problem in broken.problems] == [
        (6, "maintenance.engine", "spark"),
        (7, "maintenance.smal_files", "small_files"),
        (8, "maintenance.leave_out[0]", "compact"),
        (9, "maintenance.small_files", None),
    ]
    assert broken.problems[-1].allowed == "at least 2"


def test_columns_of_a_registry_are_checked_against_what_files_are_sorted_by() -> None:
    parts = {name: part for name, part in CLICKS.items() if name != "schema"} | {"source": {"topic": "t", "format": "avro"}}
    spec = TableSpec.model_validate({**parts, "maintenance": {"sort_by": ["city"]}})
    version: Any = object()

    known = spec.with_columns_of(version, [{"name": "city", "type": "string"}])

    assert known.maintenance.sort_by == ("city",)
    with pytest.raises(ValidationError, match="'city'"):
        spec.with_columns_of(version, [{"name": "cities", "type": "string"}])


def test_the_tables_beside_are_looked_after_alike_and_sorted_by_what_they_have() -> None:
    maintenance = {"small_files": 3, "sort_by": ["id", "twice"], "sort_order": "zorder", "window": "22:00-05:00"}
    spec = TableSpec.model_validate({**ORDERS, "maintenance": maintenance})
    log = spec.change_log
    assert log is not None

    assert {name: (policy.sort_by, policy.sort_order) for name, policy in (spec.maintained_tables | log.maintained_tables).items()} == {
        "shop.orders": (("id", "twice"), "zorder"),
        "shop.orders__quarantine": ((), "linear"),
        "shop.orders__changes": (("id",), "linear"),
        "shop.orders__changes__quarantine": ((), "linear"),
    }  # fmt: skip
    assert {(policy.small_files, str(policy.window)) for policy in (log.maintained_tables | spec.maintained_tables).values()} == {
        (3, "22:00-05:00")
    }
