import contextlib
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from dagster import AssetSpec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pyiceberg import types as iceberg
from pyiceberg.table import TableProperties
from pyiceberg.transforms import parse_transform
from pyiceberg.types import IcebergType

from lakehouse_assets.model import properties, transforms, types, written
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.layout_spec import PartitionFieldSpec
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.source_spec import SourceSpec
from lakehouse_assets.model.spec import TableSpec

MINIMAL = {"table": "ods.clicks", "source": {"topic": "clicks"}, "schema": [{"name": "id", "type": "long"}]}
CLICK_COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "user_id", "type": "string", "from": "user.id"},
    {"name": "price", "type": "double", "required": True},
    {"name": "at", "type": "timestamptz", "epoch": "milliseconds"},
    {"name": "born", "type": "date"},
    {"name": "tags", "type": "list<string>", "required": True},
]


def make_spec(**changes: Any) -> TableSpec:
    return TableSpec.model_validate({**MINIMAL, "schema": CLICK_COLUMNS, **changes})


def find_mistakes(**changes: Any) -> dict[str, Mistake]:
    """The package's own mistakes in a spec, by place."""
    with pytest.raises(ValidationError) as raised:
        make_spec(**changes)
    return {
        ".".join(map(str, details["loc"])): details["ctx"]["error"].args[0]
        for details in raised.value.errors()
        if details["type"] == "value_error"
    }


def test_a_minimal_declaration_has_the_documented_defaults() -> None:
    spec = TableSpec.model_validate(MINIMAL)

    assert (spec.namespace, spec.name, spec.asset_key) == ("ods", "clicks", ("ods", "clicks"))
    assert (spec.mode, spec.key, spec.partition_by, spec.owners) == ("append", (), (), ())
    assert (spec.source.format, spec.source.start) == ("json", "earliest")
    assert (spec.partitions.every, spec.partitions.start) == ("hour", datetime(2026, 1, 1, tzinfo=UTC))
    assert spec.commit_interval == timedelta(seconds=10)
    assert spec.run_time_limit == timedelta(minutes=5)
    assert spec.follow is False
    assert (spec.workers, spec.buffer_size, spec.commit_size) == (1, 256 * 2**20, 2**30)
    assert (spec.on_bad_record, spec.schedule, spec.properties) == ("quarantine", None, {})
    assert (spec.checks.max_lag, spec.checks.max_age) == (1_000_000, timedelta(minutes=15))
    assert spec.columns == (ColumnSpec(name="id", type="long", path=("id",)),)


def test_python_and_text_say_the_same() -> None:
    from_python = TableSpec(
        table="ods.clicks",
        source=SourceSpec(topic="clicks", start=datetime(2026, 1, 1, tzinfo=UTC)),
        schema=[
            ColumnSpec(name="id", type=types.Primitive("long"), required=True),
            ColumnSpec(name="user_id", type="string", path=("user", "id")),
        ],
        partition_by=[PartitionFieldSpec("user_id", "bucket", 16)],
        commit_interval=timedelta(seconds=30),
        buffer_size=64 * 2**20,
        properties={"write.target-file-size-bytes": 1024, "write.wap.enabled": False},
    )
    from_text = TableSpec.model_validate(
        {
            "table": "ods.clicks",
            "source": {"topic": "clicks", "start": "2026-01-01T01:00+01:00"},
            "schema": [
                {"name": "id", "type": "long", "required": True},
                {"name": "user_id", "type": "string", "from": ["user", "id"]},
            ],
            "partition_by": ["bucket(16, user_id)"],
            "commit_interval": "30s",
            "buffer_size": "64MiB",
            "properties": {"write.target-file-size-bytes": "1024", "write.wap.enabled": "false"},
        }
    )

    assert from_python == from_text
    assert hash(from_python) == hash(from_text)
    assert from_python.properties == {"write.target-file-size-bytes": "1024", "write.wap.enabled": "false"}


def test_a_spec_survives_pickling_and_its_own_text_form() -> None:
    spec = make_spec(partition_by=["day(at)", "born"], schedule="0 * * * *", key=["id"])
    placed = [{"from_key": True}, {"from_key": "a.b"}, {"from_header": "h"}]
    beside = make_spec(schema=[{"name": f"c{i}", "type": "string", **place} for i, place in enumerate(placed)])
    assert TableSpec.model_validate(beside.model_dump(mode="json", by_alias=True)) == beside

    assert pickle.loads(pickle.dumps(spec)) == spec
    assert TableSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


def read_table_of(spec: TableSpec) -> str:
    return spec.table


def test_a_spec_reaches_a_spawned_process() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(read_table_of, make_spec()).result(timeout=60) == "ods.clicks"


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_spec().table = "ods.other"


def test_importing_the_spec_loads_no_heavy_library() -> None:
    code = (
        "import sys, lakehouse_assets.model.spec\n"
        "heavy = {'pyarrow', 'pyiceberg', 'dagster', 'confluent_kafka', 'pandas', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def beside(**place: Any) -> dict[str, Any]:
    """One column, which is not in the value."""
    return {"schema": [{"name": "k", "type": "string", **place}]}


@pytest.mark.parametrize(
    ("changes", "place", "found", "suggestion"),
    [
        ({"table": "clicks"}, "table", "'clicks'", None),
        ({"table": "a.b.c"}, "table", "'a.b.c'", None),
        ({"table": "ods.two__scores"}, "table", "'ods.two__scores'", None),
        ({"table": "ods.clicks\n"}, "table", r"'ods.clicks\n'", None),
        ({"table": None}, "table", "nothing", None),
        ({"owners": ["team:"]}, "owners.0", "'team:'", None),
        ({"source": {"topic": "a b"}}, "source.topic", "'a b'", None),
        ({"source": {"topic": ".."}}, "source.topic", "'..'", None),
        (beside(from_key=False), "schema.0.from_key", "false", None),
        (beside(from_key=""), "schema.0.from_key", "''", None),
        (beside(from_key=True, type="double"), "schema.0.from_key", "from_key on a column of type double", None),
        (beside(from_header="h", type="date"), "schema.0.from_header", "from_header on a column of type date", None),
        (beside(from_key="a", **{"from": "b"}), "schema.0.from_key", "from_key beside from", None),
        (beside(from_key=True, from_header="h"), "schema.0.from_header", "from_header beside from_key", None),
        ({"source": {"topic": "a", "start": "erliest"}}, "source.start", "'erliest'", None),
        (
            {"source": {"topic": "a", "start": "0001-01-01T00:00+05:00"}},
            "source.start",
            "'0001-01-01T00:00+05:00'",
            None,
        ),
        ({"commit_interval": "9" * 5000 + "d"}, "commit_interval", "36501d", None),
        ({"commit_interval": "10"}, "commit_interval", "'10'", None),
        ({"commit_interval": 10}, "commit_interval", "10", None),
        ({"commit_interval": "500ms"}, "commit_interval", "500ms", None),
        ({"buffer_size": "1MiB"}, "buffer_size", "1MiB", None),
        ({"buffer_size": "64 megs"}, "buffer_size", "'64 megs'", None),
        ({"buffer_size": True}, "buffer_size", "true", None),
        ({"schedule": "* * * *"}, "schedule", "'* * * *'", None),
        ({"schedule": "60 * * * *"}, "schedule", "the minute '60' in '60 * * * *'", None),
        ({"schedule": "0 * * * fry"}, "schedule", "the weekday 'fry' in '0 * * * fry'", None),
        (
            {"partitions": {"start": "2026-01-01T00:30"}},
            "partitions.start",
            "2026-01-01T00:30:00Z",
            "2026-01-01T00:00:00Z",
        ),
        (
            {"partitions": {"every": "day", "start": "2026-01-01T05:00"}},
            "partitions.start",
            "2026-01-01T05:00:00Z",
            "2026-01-01T00:00:00Z",
        ),
        ({"key": ["idd"]}, "key.0", "the column 'idd'", "id"),
        ({"key": ["id", "id"]}, "key.1", "'id' a second time", None),
        ({"key": ["user_id"]}, "key.0", "'user_id', which is optional", None),
        ({"key": ["price"]}, "key.0", "'price' of type double", None),
        ({"key": ["tags"]}, "key.0", "'tags' of type list<string>", None),
        ({"partition_by": ["dya(at)"]}, "partition_by.0", "'dya' in 'dya(at)'", "day"),
        ({"partition_by": ["day(att)"]}, "partition_by.0", "the column 'att'", "at"),
        ({"partition_by": ["day(id)"]}, "partition_by.0", "day of 'id', which is long", None),
        ({"partition_by": ["hour(born)"]}, "partition_by.0", "hour of 'born', which is date", None),
        ({"partition_by": ["tags"]}, "partition_by.0", "identity of 'tags', which is list<string>", None),
        (
            {"partition_by": ["bucket(16, price)"]},
            "partition_by.0",
            "bucket of 'price', which is double",
            None,
        ),
        ({"partition_by": ["bucket(id)"]}, "partition_by.0", "'bucket(id)'", None),
        ({"partition_by": ["bucket(0, id)"]}, "partition_by.0", "'bucket(0, id)'", None),
        (
            {"partition_by": ["truncate(4, at)"]},
            "partition_by.0",
            "truncate of 'at', which is timestamptz",
            None,
        ),
        ({"partition_by": ["born", "identity(born)"]}, "partition_by.1", "'born' beside 'born'", None),
        ({"partition_by": ["day(at)", "hour(at)"]}, "partition_by.1", "'at_hour' beside 'at_day'", None),
        (
            {"properties": {"lakehouse.ledger": "x"}},
            "properties.lakehouse.ledger",
            "'lakehouse.ledger'",
            None,
        ),
        ({"properties": {"format-version": 3}}, "properties.format-version", "'3'", None),
        ({"properties": {"write.format.default": "orc"}}, "properties.write.format.default", "'orc'", None),
        (
            {"properties": {"write.parquet.compresion-codec": "zstd"}},
            "properties.write.parquet.compresion-codec",
            "the property 'write.parquet.compresion-codec'",
            "write.parquet.compression-codec",
        ),
        (
            {"properties": {"format_version": "2"}},
            "properties.format_version",
            "the property 'format_version'",
            "format-version",
        ),
        (
            {"properties": {"write.metadata.metrics.column.prize": "full"}},
            "properties.write.metadata.metrics.column.prize",
            "the column 'prize' in 'write.metadata.metrics.column.prize'",
            "write.metadata.metrics.column.price",
        ),
        ({"properties": {"x": None}}, "properties.x", "nothing", None),
        ({"schema": []}, "schema", "an empty list", None),
        ({"schema": [{"name": "_kafka_x", "type": "int"}]}, "schema.0.name", "'_kafka_x'", None),
        ({"schema": [{"name": "a-b", "type": "int"}]}, "schema.0.name", "'a-b'", None),
        ({"schema": [{"name": "a", "type": "map<int,int>"}]}, "schema.0.type", "'map<int,int>'", None),
        ({"schema": [{"name": "a", "type": 5}]}, "schema.0.type", "5", None),
        ({"schema": [{"name": "a", "type": "int", "from": "b..c"}]}, "schema.0.from", "'b..c'", None),
        (
            {"schema": [{"name": "a", "type": "int", "epoch": "seconds"}]},
            "schema.0.epoch",
            "'seconds' on a column of type int",
            None,
        ),
        (
            {"schema": [{"name": "a", "type": "int"}, {"name": "A", "type": "int"}]},
            "schema.1.name",
            "the column 'A' a second time (first as schema[0])",
            None,
        ),
        (
            {
                "schema": [{"name": "a", "type": "date"}, {"name": "a_day", "type": "int"}],
                "partition_by": ["day(a)"],
            },
            "partition_by.0",
            "a partition field 'a_day' beside the column 'a_day'",
            None,
        ),
    ],
)
def test_a_mistake_names_its_place_and_what_was_found(
    changes: dict[str, Any], place: str, found: str, suggestion: str | None
) -> None:
    mistakes = find_mistakes(**changes)

    assert list(mistakes) == [place]
    assert (mistakes[place].found, mistakes[place].suggestion) == (found, suggestion)


def test_mistakes_between_the_parts_show_beside_those_within_them() -> None:
    mistakes = find_mistakes(
        schema=[{"name": "id", "type": "lng"}, {"name": "at", "type": "timestamp"}],
        key=["id", "at", "no"],
        partition_by=["bucket(16, at)", "day(no)", "nonsense("],
        properties={"write.nonsense": 1, "x": None},
    )

    assert list(mistakes) == [
        "schema.0.type",
        "partition_by.2",
        "properties.x",
        "key.0",
        "key.1",
        "key.2",
        "partition_by.1",
        "properties.write.nonsense",
    ]


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(["id", "day(at)"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "type", "topic", "start", "every", "max_age", "from"]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([field.alias or name for name, field in TableSpec.model_fields.items()]), VALUES
    )
)
def test_any_other_value_is_a_mistake_and_no_crash(changes: dict[str, Any]) -> None:
    with contextlib.suppress(ValidationError):
        assert isinstance(make_spec(**changes), TableSpec)


def test_a_column_without_a_name_accuses_no_other_part() -> None:
    assert find_mistakes(schema=[{"type": "long"}, {"name": "b", "type": "lng"}], key=["a"]).keys() == {
        "schema.1.type"
    }


@pytest.mark.parametrize("owner", ["team:growth", "team:a b", "jo@example.com"])
def test_dagster_takes_every_owner_that_is_taken_here(owner: str) -> None:
    assert AssetSpec("a", owners=list(make_spec(owners=[owner]).owners)).owners == [owner]


def test_every_property_that_pyiceberg_knows_is_known_here() -> None:
    names = {
        value
        for name, value in vars(TableProperties).items()
        if isinstance(value, str) and "." in value and not name.startswith("_")
    }
    prefixes = {prefix.removesuffix(".") for prefix in properties.COLUMN_PREFIXES}

    assert names - prefixes <= set(properties.PROPERTY_NAMES)


ICEBERG_TYPES: dict[str, IcebergType] = {
    "boolean": iceberg.BooleanType(),
    "int": iceberg.IntegerType(),
    "long": iceberg.LongType(),
    "float": iceberg.FloatType(),
    "double": iceberg.DoubleType(),
    "decimal": iceberg.DecimalType(9, 2),
    "date": iceberg.DateType(),
    "time": iceberg.TimeType(),
    "timestamp": iceberg.TimestampType(),
    "timestamptz": iceberg.TimestamptzType(),
    "string": iceberg.StringType(),
    "uuid": iceberg.UUIDType(),
    "fixed": iceberg.FixedType(4),
    "binary": iceberg.BinaryType(),
}


@pytest.mark.parametrize("transform", transforms.TRANSFORM_NAMES)
def test_a_transform_takes_the_types_that_iceberg_gives_it(transform: str) -> None:
    theirs = parse_transform(f"{transform}[4]" if transform in ("bucket", "truncate") else transform)

    expected = {name for name, kind in ICEBERG_TYPES.items() if theirs.can_transform(kind)}

    assert {
        name for name in ICEBERG_TYPES if transforms.is_fitting(transform, types.Primitive(name))
    } == expected


@pytest.mark.parametrize(
    "text", ["day(at)", "bucket(16, id)", "truncate(4, url)", "country", "hour(_kafka_timestamp)"]
)
def test_the_text_of_a_partition_field_reads_back(text: str) -> None:
    field = PartitionFieldSpec.read(text)

    assert str(field) == text
    assert PartitionFieldSpec.read(field) == field


def test_a_partition_field_made_in_python_is_checked_too() -> None:
    with pytest.raises(ValueError, match="found 'dya'"):
        PartitionFieldSpec("at", "dya")


@pytest.mark.parametrize("field", ["hour(_kafka_timestamp)", "bucket(4, _kafka_offset)", "_kafka_partition"])
def test_the_metadata_columns_may_partition_a_table(field: str) -> None:
    assert str(make_spec(partition_by=[field]).partition_by[0]) == field


def test_properties_of_other_systems_pass() -> None:
    assert make_spec(properties={"owner.cost-center": 42}).properties == {"owner.cost-center": "42"}


@given(st.integers(0, 3650 * 86_400_000))
def test_the_text_of_a_duration_reads_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert written.read_duration(written.format_duration(duration), timedelta(0)) == duration


@given(st.integers(0, 2**63 - 1))
def test_the_text_of_a_size_reads_back(size_bytes: int) -> None:
    assert written.read_size(written.format_size(size_bytes), 0) == size_bytes


@given(st.datetimes(datetime(1, 1, 2), timezones=st.just(timezone(timedelta(hours=5, minutes=30)))))
def test_a_time_of_any_zone_becomes_the_same_moment_in_utc(moment: datetime) -> None:
    read = written.read_moment(moment.isoformat())

    assert (read, read.tzinfo) == (moment, UTC)
    assert written.read_moment(written.format_moment(read)) == read


@pytest.mark.parametrize("line", ["0 * * * *", "*/15 0-6 1,15 jan-mar mon", "5 4 * * 7", "0 0 1 */3 *"])
def test_a_cron_line_of_five_fields_is_taken(line: str) -> None:
    assert written.read_cron(line) == line


def test_an_expression_stands_alone_and_makes_a_primitive_value() -> None:
    derived = {"name": "derived", "type": "long", "expr": " id * 2 "}
    spec = make_spec(schema=[*CLICK_COLUMNS, derived], where="id > 0", partition_by=["bucket(4, derived)"])
    assert (spec.columns[-1].expr, spec.columns[-1].path, spec.has_expressions) == ("id * 2", (), True)
    assert spec.decoded_columns == spec.columns[:-1]
    assert not make_spec().has_expressions

    for beside in ({"from": "x"}, {"epoch": "seconds", "type": "timestamp"}, {"from_key": True}, {"from_header": "h"}, {"type": "list<long>"}, {"expr": " "}):
        assert list(find_mistakes(schema=[*CLICK_COLUMNS, {**derived, **beside}])) == [f"schema.{len(CLICK_COLUMNS)}.expr"]
    assert list(find_mistakes(schema=[derived])) == ["schema"]
    assert list(find_mistakes(where=5)) == ["where"]


@pytest.mark.parametrize(
    ("follow", "hours"),
    [(True, range(24)), (False, range(0)), ("08:00-10:00", (8, 9)), ("23:00-01:00", (0, 23))],
)
def test_a_table_is_followed_at_the_hours_in_utc_that_its_declaration_names(follow: object, hours: Iterable[int]) -> None:
    spec = TableSpec.model_validate(MINIMAL | {"follow": follow})

    assert [hour for hour in range(24) if spec.follows_at(datetime(2026, 11, 1, hour, tzinfo=UTC))] == list(hours)
    assert TableSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec
