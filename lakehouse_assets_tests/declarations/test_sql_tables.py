"""Tables that are computed by SQL are declared beside the others, and their mistakes told as theirs are."""

from pathlib import Path

import pytest

from lakehouse_assets_tests.declarations.test_loading import CLICKS, list_lines, load

DELAYS = """\
table: dm.delays
event_time: {column: hour}
sql: |
  SELECT date_trunc('hour', "at") AS hour, count(*) AS clicks
  FROM ods.clicks
  GROUP BY ALL
"""


def test_a_file_with_sql_is_a_table_that_is_computed(tmp_path: Path) -> None:
    found = load(tmp_path, clicks_yaml=CLICKS, delays_yaml=DELAYS)

    (spec,) = found.computed
    assert (found.broken, [one.table for one in found.specs]) == ((), ["ods.clicks"])
    assert (spec.table, spec.starts_by, spec.on_late, spec.partitions.every) == ("dm.delays", "hour_is_complete", "report", "hour")
    assert spec.sql.splitlines()[1] == "FROM ods.clicks"


@pytest.mark.parametrize(
    ("was", "becomes", "line", "words"),
    [
        ("GROUP BY ALL", "GROUP GROUP", 6, 'syntax error at or near "GROUP"; allowed: one query'),
        ("FROM ods.clicks", "FROM ods.clicsk", 5, "'ods.clicsk'; allowed: declared tables (ods.clicks, ods.clicks__quarantine), or"),
        ("FROM ods.clicks", "FROM ods.clicsk", 5, "Did you mean 'ods.clicks'?"),
        ("FROM ods.clicks", "FROM clicks", 5, "'clicks'; allowed: tables as namespace.name"),
        ("FROM ods.clicks", "FROM dm.delays", 5, "the table 'dm.delays' itself"),
        ("FROM ods.clicks", "FROM read_csv('x')", 5, "the table function 'read_csv'; allowed: tables"),
        ("ods.clicks", "ods.clicks WHERE \"at\" > $slice_strt", 4, "$slice_strt; allowed: $slice_start, $slice_end. Did you mean '$slice_start'"),
        ("GROUP BY ALL", "; SELECT 2", 4, "found 2 queries"),
        ("SELECT", "INSERT INTO x SELECT", 4, "Only SELECT statements"),
        ("event_time: {column: hour}", "event_time: {colunm: hour}", 2, "the key 'colunm'; allowed: column, late_horizon. Did you mean 'column'"),
        ("event_time: {column: hour}", "partitions: {every: day}", 1, "partitions without event_time"),
        ("event_time: {column: hour}", "event_time: {column: hour}\nautomation: hourly", 3, "'hourly'; allowed: hour_is_complete, on_update, manual"),
        ("event_time: {column: hour}", "event_time: {column: hour}\nautomation: on_update", 1, "on_update with event_time"),
        ("event_time: {column: hour}", "automation: hour_is_complete", 1, "hour_is_complete without event_time"),
        ("event_time: {column: hour}", "event_time: {column: hour}\nsource: {topic: clicks}", 3, "the key 'source'; allowed: table, "),
        ("event_time: {column: hour}", "event_time: {column: hour}\ninputs: [{table: ods.others}]", 3, "'ods.others'; allowed: tables that the SQL names"),
        ("event_time: {column: hour}", "event_time: {column: hour}\nincremental: true\ninputs: [{table: ods.clicks, whole: true}]", 4, "an input that is read whole"),
        ("event_time: {column: hour}", "event_time: {column: hour}\nmemory_limit: 1MiB", 3, "memory_limit: found"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_the_nearest_name(
    tmp_path: Path, was: str, becomes: str, line: int, words: str
) -> None:
    found = load(tmp_path, clicks_yaml=CLICKS, delays_yaml=DELAYS.replace(was, becomes))

    (broken,) = found.broken
    (problem,) = broken.problems
    assert (broken.name, found.computed, [one.table for one in found.specs]) == ("dm.delays", (), ["ods.clicks"])
    assert problem.line == line
    assert words in str(problem)


def test_a_table_that_is_not_declared_may_be_named_as_an_input(tmp_path: Path) -> None:
    found = load(tmp_path, delays_yaml=DELAYS + "inputs:\n  - {table: ods.clicks, whole: true, as_of: training_2026_11}\n")

    (spec,) = found.computed
    assert spec.input("ods.clicks").as_of == "training_2026_11"


def test_names_of_the_query_itself_and_quoted_ones_are_understood(tmp_path: Path) -> None:
    sql = """
        WITH recent AS (SELECT * FROM ods."clicks"), twice AS (SELECT * FROM recent UNION ALL SELECT * FROM recent)
        SELECT at AS hour, count(*) FROM twice JOIN ods.clicks__quarantine AS bad USING (id), range(3) GROUP BY ALL
    """.replace("at AS", '"at" AS')

    assert load(tmp_path, clicks_yaml=CLICKS, delays_yaml=f"table: dm.delays\nsql: >\n{sql}").broken == ()


def test_tables_that_are_computed_from_themselves_are_told_and_others_go_on(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        a_yaml="table: dm.a\nsql: SELECT 1 FROM dm.b\n",
        b_yaml="table: dm.b\nsql: SELECT 1 FROM dm.a\n",
        c_yaml="table: dm.c\nsql: SELECT 1 FROM dm.b\n",
    )

    assert [one.table for one in found.computed] == ["dm.c"]
    assert list_lines(found) == [
        (2, "sql", "a circle: dm.a <- dm.b <- dm.a"), (2, "sql", "a circle: dm.b <- dm.a <- dm.b")
    ]  # fmt: skip


def test_a_broken_input_is_told_of_once(tmp_path: Path) -> None:
    found = load(tmp_path, clicks_yaml=CLICKS.replace("long", "lang"), delays_yaml=DELAYS)

    assert [broken.name for broken in found.broken] == ["ods.clicks"]


def test_python_files_declare_them_too(tmp_path: Path) -> None:
    text = """\
        from lakehouse_assets.model.sql_table_spec import SqlTableSpec

        TABLES = [
            SqlTableSpec(table="dm.right", sql="SELECT 1 AS one FROM ods.clicks"),
            SqlTableSpec(table="dm.wrong", sql="SELECT 1 AS one FRM ods.clicks"),
        ]
        """
    found = load(tmp_path, clicks_yaml=CLICKS, computed_py=text)

    assert [one.table for one in found.computed] == ["dm.right"]
    assert [(line, path) for line, path, _ in list_lines(found)] == [(5, "sql")]
