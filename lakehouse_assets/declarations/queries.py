"""Finds the mistakes in the SQL of tables that are computed: in each query, and between all that a folder declares.

Loads DuckDB only where there is such a table.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse_assets.declarations.problems import Location, format_path
from lakehouse_assets.model.errors import Problem
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.sql_table_spec import SqlTableSpec

if TYPE_CHECKING:
    from lakehouse_assets.statements import Statement


@dataclass(frozen=True, slots=True)
class Query:
    """The SQL of a table. `line_of` gets a place of the declaration, and a line of the text there, from 1 on."""

    spec: SqlTableSpec
    statement: "Statement"
    file: str
    line_of: Callable[[Location, int], int]

    def build_problem(self, place: Location, mistake: Mistake, line: int = 1) -> Problem:
        """A mistake as it is reported."""
        return _problem(self.file, self.line_of(place, line), place, mistake)


def read_query(spec: SqlTableSpec, file: str, line_of: Callable[[Location, int], int]) -> Query | Problem:
    """Read the SQL of a declaration that is right otherwise."""
    from lakehouse_assets.statements import StatementError, parse_statement

    try:
        return Query(spec, parse_statement(spec.sql), file, line_of)
    except StatementError as error:
        return _problem(file, line_of(("sql",), error.line), ("sql",), error.mistake)


def list_query_problems(queries: Sequence[Query], declared: Collection[str]) -> dict[str, list[Problem]]:
    """What is wrong with the tables that queries read, by the table that is computed. `declared`: every table that there is."""
    if not queries:
        return {}
    from lakehouse_assets.folding import judge_fold
    from lakehouse_assets.statements import find_circles, judge_statement

    circles = find_circles({query.spec.table: list(query.statement.tables) for query in queries})
    problems: dict[str, list[Problem]] = {}
    for query in queries:
        table, reads = query.spec.table, query.statement.tables
        mistakes = [*judge_statement(query.spec, query.statement, declared), *judge_fold(query.spec, query.statement)]
        found = [query.build_problem(it.place, it.mistake, it.line) for it in mistakes]
        if table in circles and table not in reads:
            mistake = Mistake(f"a circle: {' <- '.join(circles[table])}", "tables that are not computed from this one")
            found.append(query.build_problem(("sql",), mistake, reads[circles[table][1]]))
        if found:
            problems[table] = found
    return problems


def line_in_text(line_of: Callable[[Location], int], text: str) -> Callable[[Location, int], int]:
    """Where lines of a YAML file's text of several lines stand: it begins below its key."""
    is_block = "\n" in text
    return lambda place, line: line_of(place) + (line if is_block and place == ("sql",) else 0)


def _problem(file: str, line: int, place: Location, mistake: Mistake) -> Problem:
    return Problem(file, line, format_path(place), mistake.found, mistake.allowed, mistake.suggestion)
