"""Which queries are taken for such that can be folded: those of which it is certain, and no others."""

import pytest

from lakehouse_assets.folding import Fold, find_fold, judge_fold
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.statements import parse_statement


@pytest.mark.parametrize(
    ("sql", "functions"),
    [
        ("SELECT * FROM ods.f", None),
        ("SELECT happened AS hour, upper(carrier) AS c, $slice_start AS s FROM ods.f WHERE delay > 0 AND delay < 9;", None),
        ("SELECT carrier, count(*) FROM ods.f GROUP BY carrier", (None, "sum")),
        ("SELECT carrier AS c, sum(delay), min(delay), max(delay), count(delay) FROM ods.f AS f GROUP BY c", (None, "sum", "min", "max", "sum")),
        ("SELECT date_trunc('hour', happened) AS h, sum(delay * 2) FROM ods.f WHERE carrier <> 'x' GROUP BY 1", (None, "sum")),
        ("SELECT count(*), carrier, 1 AS one FROM ods.f GROUP BY ALL", ("sum", None, None)),
        ("SELECT f.carrier, count(*) FROM ods.f AS f GROUP BY f.carrier -- by carrier", (None, "sum")),
    ],
)  # fmt: skip
def test_it_is_told_how_results_are_put_together(sql: str, functions: tuple[str | None, ...] | None) -> None:
    assert find_fold(parse_statement(sql)) == Fold(functions)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT DISTINCT carrier FROM ods.f",
        "SELECT carrier FROM ods.f ORDER BY 1",
        "SELECT carrier FROM ods.f LIMIT 3",
        "SELECT carrier FROM ods.f UNION ALL SELECT carrier FROM ods.f",
        "SELECT a.carrier FROM ods.f AS a JOIN ods.g AS b USING (carrier)",
        "SELECT carrier FROM (SELECT * FROM ods.f)",
        "WITH f AS (SELECT * FROM ods.f) SELECT carrier FROM f",
        "SELECT carrier FROM ods.f WHERE carrier IN (SELECT carrier FROM ods.g)",
        "SELECT carrier FROM ods.f USING SAMPLE 10%",
        "SELECT carrier, now() AS t FROM ods.f",
        "SELECT carrier FROM ods.f WHERE random() > 0.5",
        "SELECT unnest(tags) FROM ods.f",
        "SELECT carrier, row_number() OVER () FROM ods.f",
        "SELECT carrier FROM ods.f QUALIFY row_number() OVER () = 1",
        "SELECT count(*) FROM ods.f",
        "SELECT carrier, avg(delay) FROM ods.f GROUP BY ALL",
        "SELECT carrier, count(DISTINCT delay) FROM ods.f GROUP BY ALL",
        "SELECT carrier, sum(delay) FILTER (WHERE delay > 0) FROM ods.f GROUP BY ALL",
        "SELECT carrier, sum(delay) + 1 FROM ods.f GROUP BY ALL",
        "SELECT carrier, sum(delay) AS s, s + 1 AS t FROM ods.f GROUP BY ALL",
        "SELECT carrier, count(*) FROM ods.f GROUP BY carrier HAVING count(*) > 1",
        "SELECT carrier, count(*) FROM ods.f GROUP BY carrier, flight",
        "SELECT upper(carrier) AS c, count(*) FROM ods.f GROUP BY carrier",
        "SELECT carrier, count(*) FROM ods.f GROUP BY ROLLUP (carrier)",
        "VALUES (1)",
    ],
)  # fmt: skip
def test_others_are_not(sql: str) -> None:
    assert find_fold(parse_statement(sql)) is None


def test_why_it_can_not_be_is_told_with_its_line() -> None:
    sql = "SELECT happened AS hour,\n  avg(delay) AS delay\nFROM ods.f\nGROUP BY ALL\n"
    parts = {"table": "dm.d", "event_time": {"column": "hour"}, "incremental": True}
    spec = SqlTableSpec(sql=sql, inputs=[{"table": "ods.f", "whole": True}], **parts)

    (of_sql, of_input) = judge_fold(spec, parse_statement(sql))

    assert (of_sql.place, of_sql.line, of_sql.mistake.found) == (("sql",), 2, "the function 'avg' in a column or condition")
    assert of_input.place == ("inputs", 0)
    assert not list(judge_fold(spec.model_copy(update={"incremental": False}), parse_statement(sql)))
