import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import lakehouse_assets
from lakehouse_assets.declarations.loading import Declarations, load_declarations
from lakehouse_assets.model.errors import ConfigurationError, DeclarationError, Problem
from lakehouse_assets.model.spec import TableSpec

CLICKS = """\
table: ods.clicks
source:
  topic: clicks
schema:
  - {name: id, type: long, required: true}
  - name: at
    type: timestamptz
"""
NO_TAGS = "plain values without tags"
ALL_KEYS = (
    "table, description, owners, source, schema, where, mode, key, on_delete, keep_change_log, event_time, partition_by, partitions, "
    "commit_interval, commit_size, run_time_limit, follow, workers, buffer_size, on_bad_record, max_bad_share, on_schema_change, "
    "schedule, checks, maintenance, properties"
)


def load(folder: Path, **files: str) -> Declarations:
    """Write files, named as `clicks_yaml`, and load the folder."""
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        folder.joinpath(f"{stem}.{suffix}").write_text(dedent(text), encoding="utf-8")
    return load_declarations(folder)


def list_lines(found: Declarations) -> list[tuple[int, str, str]]:
    return [
        (problem.line, problem.path, problem.found) for broken in found.broken for problem in broken.problems
    ]


def test_a_right_file_becomes_a_table(tmp_path: Path) -> None:
    found = load(tmp_path, clicks_yaml=CLICKS)

    columns: list[Any] = [
        {"name": "id", "type": "long", "required": True},
        {"name": "at", "type": "timestamptz"},
    ]
    assert found == Declarations(
        (TableSpec(table="ods.clicks", source={"topic": "clicks"}, schema=columns),), ()
    )


def test_an_empty_folder_declares_nothing(tmp_path: Path) -> None:
    assert load(tmp_path) == Declarations((), ())


def test_a_missing_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"LAKEHOUSE_TABLES_DIR: found .*nowhere") as raised:
        load_declarations(tmp_path / "nowhere")

    assert raised.value.setting == "LAKEHOUSE_TABLES_DIR"


def test_files_are_read_in_order_below_the_folder_too(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("not: a table")
    (tmp_path / "sub" / "a.yml").write_text(CLICKS.replace("ods.clicks", "ods.inner"))
    (tmp_path / "z.yaml").write_text(CLICKS.replace("ods.clicks", "ods.last"))
    (tmp_path / "notes.txt").write_text("no table")

    found = load(tmp_path, a_yaml=CLICKS)

    assert [spec.table for spec in found.specs] == ["ods.clicks", "ods.inner", "ods.last"]
    assert found.broken == ()


def test_every_mistake_of_a_file_is_reported_with_its_line(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        orders_yaml="""\
        # the first comment
        tabel: ods.orders
        source:
          topik: orders
          format: xml
        schema:
          - {name: id, type: lng, required: yes}
          - name: at
            type: timestamp
            epoch: secs
            epoch: seconds
        mode: upsret
        topic: orders
        description:
        columns: []
        key: id
        partition_by:
          - dya(at)
          - hour(att)
        workers: 100
        properties:
          write.format.defualt: parquet
        """,
    )

    assert list_lines(found) == [
        (2, "tabel", "the key 'tabel'"),
        (4, "source.topik", "the key 'topik'"),
        (5, "source.format", "'xml'"),
        (7, "schema[0].type", "'lng'"),
        (7, "schema[0].required", "'yes'"),
        (10, "schema[1].epoch", "'secs'"),
        (11, "schema[1].epoch", "the key 'epoch' a second time (first on line 10)"),
        (12, "mode", "'upsret'"),
        (13, "topic", "the key 'topic'"),
        (14, "description", "nothing"),
        (15, "columns", "the key 'columns'"),
        (16, "key", "'id'"),
        (18, "partition_by[0]", "'dya' in 'dya(at)'"),
        (19, "partition_by[1]", "the column 'att'"),
        (20, "workers", "100"),
        (22, "properties.write.format.defualt", "the property 'write.format.defualt'"),
    ]
    assert [problem.suggestion for problem in found.broken[0].problems] == [
        "table", "topic", None, "long", None, "seconds", None, "upsert", "source.topic", None, "schema", None,
        "day", "at", None, "write.format.default",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("follow: 8-20", ("follow", "'8-20'", "true, false, or a part of the day in UTC, as 08:00-20:00", None)),
        ("event_time: {column: id}", ("event_time.column", "'id' of type long", "a column of type timestamp or timestamptz", None)),
        ("event_time: {column: at, start: '2026-11-01T00:30'}", (
            "event_time.start", "2026-11-01T00:30:00Z", "a full hour in UTC", "2026-11-01T00:00:00Z")),
        ("event_time: {column: at, follow_clock: true}", (
            "event_time", "follow_clock without idle_after", "idle_after: from when on no message means no row", None)),
        ("event_time: {column: at, keep_tags: 7d}", (
            "event_time", "keep_tags without complete_for", "complete_for: day, which makes the tags", None)),
        ("max_bad_share: 2", ("max_bad_share", "2", "at most 1.0", None)),
        ("on_bad_record: skip", ("on_bad_record", "'skip'", "quarantine, fail", None)),
        ("on_schema_change: drop", ("on_schema_change", "'drop'", "evolve, quarantine, fail", None)),
        ("mode: upsret", ("mode", "'upsret'", "append, upsert", "upsert")),
        ("comit_interval: 5s", ("comit_interval", "the key 'comit_interval'", ALL_KEYS, "commit_interval")),
        ("max_lag: 5", ("max_lag", "the key 'max_lag'", ALL_KEYS, "checks.max_lag")),
        ("partitions: {every: hours}", ("partitions.every", "'hours'", "hour, day", "hour")),
        ("partitions: daily", ("partitions", "'daily'", "a mapping with the keys every, start", None)),
        ("checks: {max_lag: -1}", ("checks.max_lag", "-1", "at least 0", None)),
        ("workers: two", ("workers", "'two'", "a whole number", None)),
        ("workers: 0", ("workers", "0", "at least 1", None)),
        ("owners: team:a", ("owners", "'team:a'", "a list, as [a, b]", None)),
        ("owners: [jo]", ("owners[0]", "'jo'", "an e-mail address, or team:name", None)),
        ("properties: [a]", ("properties", "['a']", "a mapping of names to values", None)),
        ("description: 5", ("description", "5", "text", None)),
        ("description: !!python/name:a.b", ("description", "the tag !!python/name:a.b", NO_TAGS, None)),
        ("key: &a [*a]", ("key[0]", "anchors that multiply without end", "plain values", None)),
        ("? [a, b]\n: c", ("declaration", "a key that is no text", "keys that are text", None)),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_with_what_is_allowed_today(
    tmp_path: Path, line: str, problem: tuple[str, str, str, str | None]
) -> None:
    found = load(tmp_path, clicks_yaml=f"{CLICKS}\n{line}\n")

    file = str(tmp_path / "clicks.yaml")
    assert found.broken[0].problems[0] == Problem(file, 9, *problem)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("", 1, "an empty file"),
        ("# only a comment\n", 1, "an empty file"),
        ("\n\n- a\n", 3, "a list"),
        ("text", 1, "a text"),
        (
            "table: a\nschema: [1, 2\nkey: x\n",
            3,
            "a YAML mistake (while parsing a flow sequence: did not find expected",
        ),
        ("table: a\n\tb: c\n", 2, "a YAML mistake (while scanning a plain scalar: found a tab character"),
        ("table: *nowhere\n", 1, "a YAML mistake (found undefined alias"),
        (
            "table: a\n---\ntable: b\n",
            2,
            "a YAML mistake (expected a single document in the stream: but found another",
        ),
        ("table: a\nx: \x07\n", 1, "a YAML mistake (unacceptable character"),
        pytest.param("a: 1\nb: " + "[" * 100_000, 2, "values nested more than 100 deep", id="deep lists"),
        pytest.param("a:\n  " + "- " * 100_000 + "x", 2, "values nested more than 100 deep", id="deep sequences"),
    ],
)
def test_a_file_that_is_no_declaration_is_one_mistake(
    tmp_path: Path, text: str, line: int, found: str
) -> None:
    broken = load(tmp_path, some_yaml=text).broken

    assert [len(one.problems) for one in broken] == [1]
    assert broken[0].problems[0].line == line
    assert broken[0].problems[0].found.startswith(found)
    assert broken[0].name == "some"


def test_bytes_that_are_no_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_bytes(b"table: a\ndescription: caf\xe9\n")

    assert list_lines(load(tmp_path)) == [(2, "declaration", "bytes that are no UTF-8")]


def test_a_link_to_nowhere_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere.yaml")

    assert list_lines(load(tmp_path)) == [
        (1, "declaration", "a file that can't be read (No such file or directory)")
    ]


def test_values_nested_deep_are_a_mistake_and_no_crash(tmp_path: Path) -> None:
    text = CLICKS + "properties:\n" + "".join(" " * i + "a:\n" for i in range(1, 300))

    assert (109, "properties", "values nested more than 100 deep") in list_lines(
        load(tmp_path, deep_yaml=text)
    )


def test_anchors_that_multiply_end_soon(tmp_path: Path) -> None:
    text = "a: &a0 [x, x]\n" + "".join(f"k{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))

    started = time.perf_counter()
    found = load(tmp_path, bomb_yaml=text)

    assert any(problem.found == "anchors that multiply without end" for problem in found.broken[0].problems)
    assert time.perf_counter() - started < 10


def test_a_broken_file_takes_only_its_own_table_out(tmp_path: Path) -> None:
    found = load(
        tmp_path, clicks_yaml=CLICKS, orders_yaml="table: ods.orders\nworkers: 0\n", odd_name_yml="[]"
    )

    assert [spec.table for spec in found.specs] == ["ods.clicks"]
    assert [broken.name for broken in found.broken] == ["odd_name", "ods.orders"]
    assert isinstance(found.broken[1].error, DeclarationError)
    assert found.broken[1].error.problems == found.broken[1].problems


def test_the_second_declaration_of_a_table_is_broken_and_names_the_first(tmp_path: Path) -> None:
    found = load(tmp_path, a_yaml=CLICKS, b_yaml="# again\n" + CLICKS.replace("ods.clicks", "ODS.Clicks"))

    first, second = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    allowed = f"each table once, letter case aside: it is declared in {first}:1"
    assert [spec.table for spec in found.specs] == ["ods.clicks"]
    assert [(broken.file, broken.name) for broken in found.broken] == [(second, "b")]
    assert found.broken[0].problems == (Problem(second, 2, "table", "'ODS.Clicks'", allowed),)


def test_names_of_broken_declarations_are_unique_and_plain(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my-table.v2.yaml").write_text("[]")
    broken_clicks = f"{CLICKS}\nworkers: 0\n"

    found = load(tmp_path, z1_yaml=broken_clicks, z2_yaml=broken_clicks)

    assert [broken.name for broken in found.broken] == ["my_table_v2", "my_table_v2_2", "ods.clicks", "z2"]


def test_values_mean_what_editors_take_them_for(tmp_path: Path) -> None:
    text = CLICKS + (
        "description: on\n"
        "properties: {a: yes, b: 1:30, c: 0x1F, d: 1_000, e: 2026-01-01, f: 017, g: 0.5, h: true, i: '7'}\n"
    )

    spec = load(tmp_path, clicks_yaml=text).specs[0]

    assert spec.description == "on"
    assert spec.properties == {
        "a": "yes", "b": "1:30", "c": "0x1F", "d": "1_000", "e": "2026-01-01", "f": "17",
        "g": "0.5", "h": "true", "i": "7",
    }  # fmt: skip


PYTHON = """\
from lakehouse_assets.model.spec import ColumnSpec, TableSpec


def make(name: str) -> TableSpec:
    return TableSpec(table=f"ods.{name}", source={"topic": name}, schema=[ColumnSpec(name="id", type="long")])


TABLES = [
    make("one"),
    make("two"),
]
"""


def test_python_files_declare_tables_too(tmp_path: Path) -> None:
    found = load(tmp_path, tables_py=PYTHON, _shared_py="raise SystemError")

    assert [spec.table for spec in found.specs] == ["ods.one", "ods.two"]
    assert found.broken == ()
    assert not list(tmp_path.rglob("*.pyc"))


ASSETS = """\
import dagster as dg


@dg.asset(key=["dm", "delays"], io_manager_key="lakehouse_io")
def delays(): ...


@dg.asset(key=["files", "report"])
def report(): ...


@dg.asset_check(asset=report)
def is_there(): ...


ASSETS = [
    delays,
    report,
    is_there,
]
"""


def test_a_python_file_declares_assets_of_dagster_beside_tables_or_alone(tmp_path: Path) -> None:
    found = load(tmp_path, assets_py=ASSETS, both_py=PYTHON + "ASSETS = []\n")

    assert found.broken == ()
    assert [spec.table for spec in found.specs] == ["ods.one", "ods.two"]
    assert [(asset.line, asset.path, asset.tables) for asset in found.assets] == [
        (17, "ASSETS[0]", ("dm.delays",)), (18, "ASSETS[1]", ()), (19, "ASSETS[2]", ()),
    ]  # fmt: skip
    assert "dm.delays" in found.policies


def test_sql_may_read_a_table_that_an_asset_of_dagster_makes(tmp_path: Path) -> None:
    sql = "table: dm.worst\nsql: SELECT max(delay) AS delay FROM dm.delays\n"
    assert load(tmp_path, assets_py=ASSETS, worst_yaml=sql).broken == ()


@pytest.mark.parametrize(
    ("change", "line", "path", "found"),
    [
        (("    report,", "    5,"), 18, "ASSETS[1]", "5"),
        (("ASSETS = [", "ASSETS = 5\nx = ["), 16, "ASSETS", "5"),
        (("import dagster", "import daxter"), 1, "TABLES", "ModuleNotFoundError"),
    ],
    ids=["no asset", "no list", "raises"],
)  # fmt: skip
def test_a_mistake_among_assets_has_its_line(tmp_path: Path, change: tuple[str, str], line: int, path: str, found: str) -> None:
    loaded = load(tmp_path, assets_py=ASSETS.replace(*change))

    (problem,) = loaded.broken[0].problems
    assert (problem.line, problem.path) == (line, path)
    assert problem.found.startswith(found)


@pytest.mark.parametrize(
    ("change", "line", "path", "found"),
    [
        (('make("two")', 'make("one")'), 10, "table", "'ods.one'"),
        (('make("two")', "'ods.two'"), 10, "TABLES[1]", "'ods.two'"),
        (('make("two")', 'make("t wo")'), 5, "table", "'ods.t wo'"),
        (('make("two")', "make(1 / 0)"), 10, "TABLES", "ZeroDivisionError: division by zero"),
        (('make("two")', "exit(3)"), 10, "TABLES", "SystemExit: 3"),
        (("TABLES = [", "TABLES = {"), 11, "TABLES", "SyntaxError: "),
        (("TABLES", "TABELS"), 1, "TABLES", "nothing"),
        (("TABLES = [", "TABLES = 5\nx = ["), 8, "TABLES", "5"),
    ],
    ids=["declared twice", "not a spec", "wrong spec", "raises", "exits", "syntax", "no list", "other type"],
)
def test_a_mistake_in_a_python_file_has_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, path: str, found: str
) -> None:
    loaded = load(tmp_path, clicks_yaml=CLICKS, tables_py=PYTHON.replace(*change))

    problem = loaded.broken[0].problems[0]
    assert loaded.specs[0].table == "ods.clicks"
    assert (problem.file, problem.line, problem.path) == (str(tmp_path / "tables.py"), line, path)
    assert problem.found.startswith(found)


def test_two_hundred_declarations_load_within_a_second_of_a_processor(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"t{i}.yaml").write_text(CLICKS.replace("ods.clicks", f"ods.clicks{i}"))

    started = time.process_time()
    found = load_declarations(tmp_path)

    assert len(found.specs) == 200
    assert time.process_time() - started < 1


def test_the_tables_that_come_with_the_package_are_right() -> None:
    found = load_declarations(Path(lakehouse_assets.__file__).parent / "tables")

    assert [broken.error for broken in found.broken] == []
    assert "demo.flights" in [spec.table for spec in found.specs]


AVRO = """\
table: ods.flights
source: {topic: flights, format: avro, schema_file: schemas/flight.avsc}
schema: [{name: id, type: long}]
"""


def test_a_schema_file_is_found_from_where_the_declaration_stands(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "flight.avsc").write_text('"long"')

    (spec,) = load(tmp_path, flights_yaml=AVRO).specs

    assert spec.source.schema_file == str(tmp_path / "schemas" / "flight.avsc")


def test_a_schema_file_that_is_missing_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    assert list_lines(load(tmp_path, flights_yaml=AVRO)) == [
        (2, "source.schema_file", f"'schemas/flight.avsc', which is no file in {tmp_path / 'schemas'}")
    ]


def test_a_schema_file_that_is_no_json_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "flight.avsc").write_text('{"type": "record"')

    ((line, path, found),) = list_lines(load(tmp_path, flights_yaml=AVRO))
    assert (line, path) == (2, "source.schema_file")
    assert found.startswith("'schemas/flight.avsc', which can't be read as JSON (Expecting ',' delimiter: line 1")


def test_a_schema_file_of_a_python_declaration_is_looked_for_too(tmp_path: Path) -> None:
    text = """\
        from lakehouse_assets.model.spec import TableSpec

        TABLES = [
            TableSpec(
                table="ods.flights",
                source={"topic": "flights", "format": "avro", "schema_file": "flight.avsc"},
                schema=[{"name": "id", "type": "long"}],
            )
        ]
        """
    assert list_lines(load(tmp_path, flights_py=text)) == [
        (4, "source.schema_file", f"'flight.avsc', which is no file in {tmp_path}")
    ]


def test_a_schema_file_is_for_avro_only(tmp_path: Path) -> None:
    assert list_lines(load(tmp_path, flights_yaml=AVRO.replace("format: avro, ", ""))) == [
        (2, "source.schema_file", "'schemas/flight.avsc' for messages of json")
    ]


def test_columns_may_be_left_out_only_where_messages_have_schemas(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        avro_yaml="table: ods.a\nsource: {topic: a, format: avro}\n",
        json_yaml="table: ods.j\nsource: {topic: j}\n",
    )

    assert [(spec.table, spec.columns) for spec in found.specs] == [("ods.a", ())]
    assert list_lines(found) == [(1, "schema", "no key 'schema'")]


def test_a_mistake_in_sql_is_named_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    column = "  - name: cents\n    type: long\n    expr: id / 100\n"
    found = load(tmp_path, clicks_yaml=f"{CLICKS}{column}where: >-\n  idd > 0\n  AND id < 9\n")

    assert [str(problem).removeprefix(str(tmp_path)) for broken in found.broken for problem in broken.problems] == [
        "/clicks.yaml:10: schema[2].expr: found id / 100, which is DOUBLE; allowed: BIGINT for a column of type long. "
        "Did you mean 'CAST(id / 100 AS BIGINT)'?",
        "/clicks.yaml:11: where: found the column 'idd'; allowed: columns that the message holds: id, at. Did you mean 'id'?",
    ]


def test_a_mistake_in_sql_of_a_python_file_takes_only_its_table_out(tmp_path: Path) -> None:
    text = """\
        from lakehouse_assets.model.spec import TableSpec

        ID = {"name": "id", "type": "long"}
        TABLES = [
            TableSpec(table="ods.right", source={"topic": "a"}, schema=[ID], where="id > 0"),
            TableSpec(table="ods.wrong", source={"topic": "a"}, schema=[ID], where="random() > 0"),
        ]
        """
    found = load(tmp_path, tables_py=text)

    assert [spec.table for spec in found.specs] == ["ods.right"]
    assert list_lines(found) == [(6, "TABLES[1].where", "the function 'random'")]
