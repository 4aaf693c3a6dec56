"""`lakehouse query`, judged by DuckDB's own reader of Iceberg."""

import csv
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table import Table
from pyiceberg.types import LongType

from lakehouse_assets.cli import main
from lakehouse_assets.environment import Environment
from lakehouse_assets.systems.catalog import open_catalog
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.command import call_lakehouse

MOMENT = datetime(2026, 11, 25, 10, tzinfo=UTC)
CLICKS = pa.table(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "name": ["Zoë", "b\x1b[31m", None, "日本"],
        "price": pa.array([Decimal("1.50"), Decimal("-0.05"), None, Decimal("12345678.90")], pa.decimal128(10, 2)),
        "ratio": [0.5, float("nan"), None, float("inf")],
        "stamp": pa.array([MOMENT, None, MOMENT, MOMENT], pa.timestamp("us", tz="UTC")),
        "day": [date(2026, 11, 25), None, None, None],
        "clock": pa.array([time(10, 30), None, None, None], pa.time64("us")),
        "raw": [b"\x00\xff", None, b"", None],
        "who": [{"id": 7, "score": 0.5}, {"id": None, "score": float("nan")}, None, None],
        "tags": [["a", None], [], None, ["b"]],
        "counts": pa.array([[("a", 1)], [], None, [("b", None)]], pa.map_(pa.string(), pa.int64())),
    }
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: a new one takes two seconds."""
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))

    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        code = main(arguments)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return call


@pytest.fixture
def clicks(tmp_path: Path) -> Table:
    return make_table(tmp_path, "ods.clicks", CLICKS.slice(0, 2), CLICKS.slice(2))


def make_table(folder: Path, name: str, *commits: pa.Table) -> Table:
    """A table of the local catalog that nothing of ours has written, one file for each of `commits`."""
    environment = Environment.read({"LAKEHOUSE_HOME": str(folder / "home")})
    environment.ensure_home()
    catalog = open_catalog(environment.catalog_name, environment.catalog_properties)
    catalog.create_namespace_if_not_exists(name.split(".")[0])
    table = catalog.create_table(name, commits[0].schema)
    for commit in commits:
        table.append(commit)
    return table


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*), sum(id), max(name) FROM {table}",
        "SELECT id FROM {table} WHERE price > 1 ORDER BY id",
        "SELECT id FROM {table} WHERE name = 'Zoë' OR name IS NULL ORDER BY id",
        "SELECT a.id, b.id FROM {table} a JOIN {table} b ON a.id = b.id + 1 ORDER BY ALL",
        "SELECT id FROM {table} WHERE who.id = 7",
        "SELECT id FROM {table} WHERE stamp >= TIMESTAMPTZ '2026-11-25 10:00:00Z' AND id IN (1, 3) ORDER BY id",
        "SELECT day, count(*) AS n FROM {table} GROUP BY day ORDER BY ALL",
        "WITH c AS (SELECT * FROM {table}) SELECT unnest(tags) AS tag FROM c ORDER BY ALL",
        "SELECT id FROM {table} WHERE id = (SELECT max(id) FROM {table})",
    ],
)
def test_it_answers_as_duckdb_does_that_reads_the_files_itself(run: Run, clicks: Table, sql: str) -> None:
    expected = [[str(v) if isinstance(v, date) else v for v in row] for row in judge.query(clicks, sql)]

    done = run("query", sql.format(table="ods.clicks"), "--json")

    assert done.stderr == ""
    assert [list(json.loads(line).values()) for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize(
    ("condition", "ids"), [("ratio > 0.7", [2, 4]), ("NOT ratio < 0.7", [2, 4]), ("who.score > 0.7", [2]), ("isnan(ratio)", [2])]
)
def test_nan_is_above_every_number_also_where_arrow_says_otherwise(run: Run, clicks: Table, condition: str, ids: list[int]) -> None:
    done = run("query", f"SELECT id FROM ods.clicks WHERE {condition} ORDER BY id", "--json")

    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ids


def test_json_keeps_every_value_and_a_name_that_comes_twice(run: Run, clicks: Table) -> None:
    done = run("query", "SELECT *, 1 AS id FROM ods.clicks ORDER BY clicks.id LIMIT 2", "--json")

    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {
        "id": 1, "name": "Zoë", "price": "1.50", "ratio": 0.5, "stamp": "2026-11-25T10:00:00Z", "day": "2026-11-25",
        "clock": "10:30:00", "raw": "AP8=", "who": {"id": 7, "score": 0.5}, "tags": ["a", None], "counts": {"a": 1}, "id_2": 1,
    }  # fmt: skip
    assert (second["ratio"], second["who"], second["tags"], second["counts"]) == ("NaN", {"id": None, "score": "NaN"}, [], {})


def test_a_person_gets_aligned_columns_and_nothing_that_steers_the_terminal(run: Run, clicks: Table) -> None:
    done = run("query", "SELECT id, name, price, tags FROM ods.clicks ORDER BY id")

    assert done.stdout.splitlines() == [
        "id  name             price  tags",
        "--  ---------  -----------  -----------",
        ' 1  Zoë               1.50  ["a", null]',
        r" 2  b\x1b[31m        -0.05  []",
        " 3  NULL              NULL  NULL",
        ' 4  日本       12345678.90  ["b"]',
    ]


def test_csv_is_what_a_csv_reader_reads_back(run: Run, clicks: Table) -> None:
    done = run("query", "SELECT id, name, raw, counts FROM ods.clicks ORDER BY id", "--csv")

    assert list(csv.reader(done.stdout.splitlines())) == [
        ["id", "name", "raw", "counts"], ["1", "Zoë", "AP8=", '{"a": 1}'], ["2", "b\x1b[31m", "", "{}"], ["3", "", "", ""],
        ["4", "日本", "", '{"b": null}'],
    ]  # fmt: skip


def test_rows_that_are_not_printed_are_counted_and_a_script_gets_all(run: Run) -> None:
    sql = "SELECT * FROM range(1234) AS numbers(n)"
    few, some, every = run("query", sql), run("query", sql, "--json", "--limit", "2"), run("query", sql, "--json")

    assert len(few.stdout.splitlines()) == 2 + 100
    assert few.stderr == "1,134 more rows are not shown; --limit 0 shows all\n"
    assert (some.stdout, some.stderr) == ('{"n": 0}\n{"n": 1}\n', "1,232 more rows are not shown; --limit 0 shows all\n")
    assert (len(every.stdout.splitlines()), every.stderr) == (1234, "")


def test_a_limit_below_none_is_a_wrong_call(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("query", "SELECT 1", "--limit", "-1")

    assert end.value.code == 2
    assert "expected a number of rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("INSERT INTO ods.clicks VALUES (1)", "found a statement of the kind INSERT, expected a query"),
        ("DROP TABLE ods.clicks", "found a statement of the kind DROP, expected a query"),
        ("COPY (SELECT 1) TO 'stolen.csv'", "found a statement of the kind COPY, expected a query"),
        ("SET lock_configuration = false", "found a statement of the kind SET, expected a query"),
        ("ATTACH 'other.db'", "found a statement of the kind ATTACH, expected a query"),
        ("SELECT 1; SELECT 2", "found 2 statements, expected one"),
        ("", "found no statements, expected one"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM read_text('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM glob('/etc/*')", "disabled"),
        ("SELECT * FROM query('DROP TABLE ods.clicks')", "Expected a single SELECT statement"),
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT nme FROM ods.clicks", 'Referenced column "nme" not found'),
        ("SELECT 1 / id + 'x' FROM ods.clicks", "Could not convert string 'x'"),
    ],
)
def test_what_is_no_query_or_reaches_elsewhere_is_refused_in_one_line(run: Run, clicks: Table, sql: str, reason: str) -> None:
    done = run("query", sql)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Cannot run the query: ")
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("sql", ["SELECT * FROM '/etc/passwd'", "SELECT * FROM 'x.parquet'", "SELECT * FROM sql"])
def test_a_file_or_a_variable_of_the_program_is_no_table(run: Run, sql: str) -> None:
    done = run("query", sql)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Cannot find the table ")


def test_an_unknown_table_is_a_wrong_call_and_the_nearest_is_named(run: Run, clicks: Table) -> None:
    for sql in ("SELECT * FROM ods.click", "SELECT * FROM clicks", "SELECT * FROM ODS.Clicks"):
        done = run("query", sql)

        assert done.returncode == 2
        assert done.stderr.endswith("the catalog 'lakehouse' has none; it has: ods.clicks. Did you mean 'ods.clicks'?\n")


def test_a_declared_table_that_is_not_there_yet_says_so(run: Run, tmp_path: Path) -> None:
    declaration = "table: ods.later\nsource: {topic: t}\nschema: [{name: id, type: long}]\n"
    (tmp_path / "tables" / "later.yaml").write_text(declaration)

    assert "It is declared: its first run creates it." in run("query", "SELECT * FROM ods.later").stderr


@pytest.mark.parametrize(
    "condition",
    [
        "id > 2", "id = 3 OR id = 4", "id BETWEEN 3 AND 9", "stamp > '2026-11-26 00:00:00Z'", "name > 'm'", "name = 'z' AND id > 0",
        "day >= DATE '2026-11-26'", "id IN (3, 77)",
    ],
)  # fmt: skip
def test_files_in_which_no_row_can_match_are_not_opened(run: Run, tmp_path: Path, condition: str) -> None:
    early, late = (
        pa.table({
            "id": pa.array(ids, pa.int64()), "name": names, "day": [date(2026, 11, day), None],
            "stamp": pa.array([datetime(2026, 11, day, 9, tzinfo=UTC), None], pa.timestamp("us", tz="UTC")),
        })
        for ids, names, day in (([1, 2], ["a", "b" * 40], 25), ([3, 4], ["z", None], 26))
    )  # fmt: skip
    table = make_table(tmp_path, "ods.two", early, late)
    expected = judge.query(table, f"SELECT id FROM {{table}} WHERE {condition}")
    (first,) = (t.file.file_path for t in table.scan().plan_files() if t.file.lower_bounds[1][0] == 1)
    Path(first.removeprefix("file://")).unlink()

    done = run("query", f"SELECT id FROM ods.two WHERE {condition}", "--json")

    assert done.stderr == ""
    assert [(json.loads(line)["id"],) for line in done.stdout.splitlines()] == expected
    assert run("query", "SELECT id FROM ods.two WHERE name < 'c'").returncode == 1


def test_a_file_from_before_its_column_grew_is_read_by_its_bounds_too(run: Run, tmp_path: Path) -> None:
    table = make_table(tmp_path, "ods.grown", pa.table({"id": pa.array([1, 2], pa.int32())}))
    with table.update_schema() as update:
        update.update_column("id", LongType())
    table.append(pa.table({"id": pa.array([3, 2**40], pa.int64())}))

    for condition, ids in (("id > 2", [3, 2**40]), ("id < 3", [1, 2]), ("id > 1", [2, 3, 2**40])):
        done = run("query", f"SELECT id FROM ods.grown WHERE {condition} ORDER BY id", "--json")
        assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ids


def test_names_may_be_anything_that_a_catalog_takes(run: Run, tmp_path: Path) -> None:
    ids = [uuid.UUID(int=1).bytes, None]
    make_table(tmp_path, 'main.odd "name', pa.table({'a "b"': [1, 2], "select": pa.array(ids, pa.uuid())}))

    done = run("query", '''SELECT "a ""b""", "select" FROM main."odd ""name" ORDER BY 1''', "--json")

    assert [list(json.loads(line).values()) for line in done.stdout.splitlines()] == [[1, str(uuid.UUID(int=1))], [2, None]]


def test_a_file_that_is_gone_is_an_error_of_the_storage(run: Run, tmp_path: Path, clicks: Table) -> None:
    for file in (tmp_path / "home").rglob("*.parquet"):
        file.unlink()

    done = run("query", "SELECT * FROM ods.clicks")

    assert done.returncode == 1
    assert done.stderr.startswith("Cannot read the files of a table through the storage of the catalog: FileNotFoundError")
    assert len(done.stderr.splitlines()) == 1


def test_the_statement_may_come_from_the_standard_input(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    assert call_lakehouse(tmp_path, "query", "-", "--json", input="SELECT 42 AS answer").stdout == '{"answer": 42}\n'


@pytest.mark.slow
def test_a_large_table_takes_little_memory_and_only_the_columns_asked_for(tmp_path: Path) -> None:
    wide = pa.table({"id": pa.array(range(200_000)), "text": pa.array([f"{i:0500}" for i in range(200_000)])})
    table = make_table(tmp_path, "ods.wide", *[wide] * 3)  # 300 MB of text, in files that compression makes small
    assert judge.query(table, "SELECT count(*) FROM {table}") == [(600_000,)]
    program = (
        "import resource, sys\nfrom lakehouse_assets.cli import main\nimport duckdb, pyiceberg.io.pyarrow, pandas\n"
        "main(['query', 'SELECT 1']); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "main(['query', sys.argv[1]])\nprint((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )

    def mebibytes(sql: str) -> int:
        done = call_lakehouse(tmp_path, sql, program=[sys.executable, "-c", program])
        return int(done.stdout.splitlines()[-1])

    (tmp_path / "tables").mkdir()
    assert mebibytes("SELECT max(text), count(*) FROM ods.wide") < 200
    assert mebibytes("SELECT max(id) FROM ods.wide") < 60
