"""What the SQL of a declaration may say: one value of one row, and nothing that a replay would answer otherwise."""

from typing import Any

import pytest

from lakehouse_assets.expressions import find_expression_mistakes, open_session
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets_tests.builders import make_spec

COLUMNS = [
    {"name": "id", "type": "long"}, {"name": "status", "type": "string"}, {"name": "amount", "type": "double"},
    {"name": "price", "type": "decimal(10,2)"}, {"name": "sold_at", "type": "timestamptz"}, {"name": "tags", "type": "list<string>"},
    {"name": "user", "type": "struct<id:long,name:string>"}, {"name": "counts", "type": "map<string,long>"},
    {"name": "at", "type": "timestamp"}, {"name": "token", "type": "uuid"}, {"name": "raw", "type": "binary"},
]  # fmt: skip


def judge_where(sql: str) -> Mistake | None:
    """The mistake in a condition, if there is one."""
    found = find_expression_mistakes(make_spec(schema=COLUMNS, where=sql))
    assert [place for place, _ in found] in ([], [("where",)])
    return found[0][1] if found else None


def judge_expr(sql: str, kind: str) -> Mistake | None:
    """The mistake in a derived column of a type, if there is one."""
    column: dict[str, Any] = {"name": "derived", "type": kind, "expr": sql}
    found = find_expression_mistakes(make_spec(schema=[*COLUMNS, column]))
    assert [place for place, _ in found] in ([], [("schema", len(COLUMNS), "expr")])
    return found[0][1] if found else None


@pytest.mark.parametrize(
    "sql",
    [
        "status <> 'test' AND amount > 0",
        "status <> 'test' -- and what is behind it",
        "Status LIKE 'a%' OR status ~ 'b' OR status GLOB 'c*' OR status COLLATE NOCASE = 'D'",
        "id IN (1, 2) AND id BETWEEN 0 AND 5 AND id IS DISTINCT FROM 4",
        '"user".id = 1 AND counts[\'x\'] = 2 AND tags[1] = \'a\' AND "at" IS NOT NULL',
        "len(list_filter(tags, lambda tag: tag = 'a')) > 0",
        "sold_at AT TIME ZONE 'Europe/Berlin' > TIMESTAMP '2026-01-01'",
        "date_trunc('day', sold_at) = sold_at + INTERVAL 1 DAY",
        "CASE WHEN id > 0 THEN TRY_CAST(status AS INT) = 1 ELSE NULL END",
        "coalesce(nullif(split_part(status, '-', 1), ''), lpad(status, 10, '0')) = format('{:d}', id)",
        "status->>'$.kind' = 'order'",
        "list_sum([id, 2]) > 3",
    ],
)
def test_what_depends_on_the_row_alone_is_right(sql: str) -> None:
    assert judge_where(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        "read_csv('/etc/passwd') IS NULL",
        "(SELECT true)",
        "id IN (SELECT 1)",
        "EXISTS (FROM read_text('/etc/passwd'))",
        "id = ANY(tags)",
        "id > 0; DROP TABLE y",
        "true); DROP TABLE y; SELECT (true",
        "true) FROM (SELECT 1",
        "true) WHERE (true",
        "true) UNION ALL SELECT (true",
        "true), (true",
        "true AS x",
        "true /*",
        "*",
        "COLUMNS(*) = 1",
        "$1",
        "#1 = 1",
        "DEFAULT",
        "PRAGMA version",
        "row_number() OVER () = 1",
        "sum(id) > 1",
        "count(*) > 1",
        "unnest(tags) = 'a'",
        "getenv('HOME') = '/root'",
        "current_setting('threads') = '1'",
        "getvariable('x') = 1",
        "random() < 0.5",
        "system.main.random() < 0.5",
        "uuid() = token",
        "nextval('a') = 1",
        "now() > sold_at",
        "current_timestamp > sold_at",
        "current_localtimestamp() > \"at\"",
        "age(\"at\") > INTERVAL 1 DAY",
        "ago(INTERVAL 1 DAY) < sold_at",
        "pg_sleep(1) IS NULL",
        "write_log('x') IS NULL",
        "version() = 'x'",
        "query('SELECT 1') = 1",
        "batch.id = 1",
        "rowid = 1",
        "len(range(id)) > 1",
        "repeat(status, id) = ''",
        "lpad('', CAST(id AS INT), status) = ''",
        "printf(status, id) = ''",
        "format(status) = ''",
        "not " * 900 + "true",
        "status",
    ],
)  # fmt: skip
def test_what_reaches_beyond_the_row_is_a_mistake(sql: str) -> None:
    assert judge_where(sql) is not None


def test_an_unknown_name_comes_with_the_nearest() -> None:
    column, function = judge_where("statuss = 'a'"), judge_where("lowr(status) = 'a'")
    assert column is not None
    assert (column.found, column.suggestion) == ("the column 'statuss'", "status")
    assert function is not None
    assert (function.found, function.suggestion) == ("the function 'lowr'", "lower")


def test_a_column_whose_name_is_a_word_of_sql_is_suggested_in_quotes() -> None:
    mistake = judge_where("at > TIMESTAMP '2026-01-01'")
    assert mistake is not None
    assert mistake.suggestion == '"at"'


def test_expressions_see_what_the_message_holds_and_not_each_other() -> None:
    columns: list[dict[str, object]] = [*COLUMNS, {"name": "double_id", "type": "long", "expr": "id * 2"}]

    found = find_expression_mistakes(make_spec(schema=columns, where="double_id > 2"))

    assert [mistake.found for _, mistake in found] == ["the column 'double_id'"]


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("id > 0", "boolean"), ("id * 2", "int"), ("id * 2", "long"), ("id / 2", "double"), ("price * 2", "double"),
        ("id", "decimal(20,2)"), ("price", "decimal(5,2)"), ("price", "decimal(20,5)"), ("lower(status)", "string"),
        ("CAST(sold_at AS DATE)", "date"), ('CAST("at" AS TIME)', "time"), ('"at"', "timestamp"), ("sold_at", "timestamptz"),
        ("token", "uuid"), ("raw", "binary"), ("raw", "fixed[3]"),
    ],
)  # fmt: skip
def test_a_type_that_a_cast_may_refuse_but_not_change_fits(sql: str, kind: str) -> None:
    assert judge_expr(sql, kind) is None


@pytest.mark.parametrize(
    ("sql", "kind", "suggestion"),
    [
        ("amount * 100", "long", "CAST(amount * 100 AS BIGINT)"),
        ("price * 1.5", "decimal(10,2)", "CAST(price * 1.5 AS DECIMAL(10, 2))"),
        ("id", "string", "CAST(id AS VARCHAR)"),
        ("sold_at", "timestamp", "CAST(sold_at AS TIMESTAMP)"),
        ("'2026-01-01'", "date", "CAST('2026-01-01' AS DATE)"),
        ("tags", "string", "CAST(tags AS VARCHAR)"),
    ],
)
def test_a_type_that_a_cast_would_change_needs_the_cast(sql: str, kind: str, suggestion: str) -> None:
    mistake = judge_expr(sql, kind)
    assert mistake is not None
    assert mistake.suggestion == suggestion


def test_what_duckdb_can_not_bind_is_told_in_its_words() -> None:
    mistake = judge_where("upper(id) = 'A'")
    assert mistake is not None
    assert "No function matches the given name and argument types 'upper(BIGINT)'" in mistake.found


@pytest.mark.parametrize(
    "sql",
    ["SET threads = 2", "FROM read_csv('/etc/passwd')", "COPY (SELECT 1) TO '/tmp/x'", "ATTACH '/tmp/x.db'", "INSTALL httpfs"],
)
def test_the_session_reaches_nothing_also_where_the_check_is_passed_by(sql: str) -> None:
    with open_session() as session, pytest.raises(Exception, match="locked|disabled"):
        session.execute(sql)
