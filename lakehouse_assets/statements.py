"""SQL queries in declarations: whether a text is one, and which tables it reads.

DuckDB's own parser reads it, and nothing is bound: the columns of tables are known only when they are there.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.expressions import open_session, say, shorten
from lakehouse_assets.model.mistakes import Mistake, list_names, nearest
from lakehouse_assets.model.sql_table_spec import SqlTableSpec

PARAMETERS: Final = ("slice_start", "slice_end")
_ALLOWED: Final = "one query, which begins with SELECT, WITH or FROM"
_FUNCTIONS: Final = ("generate_series", "range", "unnest")  # the others reach for files, the network, or the engine itself


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake in a declaration: its place, and the line of the SQL in which it is, from 1 on."""

    place: tuple[str | int, ...]
    mistake: Mistake
    line: int = 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One query: its tree as DuckDB gives it, the tables that it reads with the line of each, and its parameters."""

    tree: Mapping[str, Any]
    tables: Mapping[str, int]
    parameters: frozenset[str]


class StatementError(Exception):
    """A text is no query. `line` counts from 1."""

    def __init__(self, mistake: Mistake, line: int) -> None:
        self.mistake, self.line = mistake, line
        super().__init__(mistake)


def parse_statement(sql: str) -> Statement:
    """Read one query.

    Raises:
        StatementError: it is none, or reads what is no table.
    """
    with open_session() as session:
        (text,) = session.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("{}",)
    parsed = json.loads(text)
    if parsed["error"]:
        found = f"{shorten(sql)}, of which DuckDB says: {say(ValueError(parsed['error_message']))}"
        raise StatementError(Mistake(found, _ALLOWED), _line(sql, int(parsed.get("position", 0))))
    if len(parsed["statements"]) != 1:
        raise StatementError(Mistake(f"{len(parsed['statements']) or 'no'} queries", _ALLOWED), 1)
    tree = parsed["statements"][0]["node"]
    nodes = list(walk(tree))
    own = {entry["key"].lower() for node in nodes if "cte_map" in node for entry in node["cte_map"]["map"]}
    tables: dict[str, int] = {}
    for node in nodes:
        match node.get("type"):
            case "BASE_TABLE" if node["schema_name"] or node["table_name"].lower() not in own:
                tables.setdefault(_name(sql, node), _line(sql, node["query_location"]))
            case "TABLE_FUNCTION" if (name := str(node["function"]["function_name"]).lower()) not in _FUNCTIONS:
                allowed = f"tables, and of table functions {', '.join(_FUNCTIONS)}"
                raise StatementError(Mistake(f"the table function {name!r}", allowed), _line(sql, node["query_location"]))
            case "SHOW_REF":
                raise StatementError(Mistake("a description of a table", _ALLOWED), 1)
    parameters = frozenset(str(node["identifier"]) for node in nodes if node.get("class") == "PARAMETER")
    return Statement(tree, tables, parameters)


def judge_statement(spec: SqlTableSpec, statement: Statement, declared: Collection[str]) -> list[Finding]:
    """Every mistake in what a declaration's SQL names. `declared`: the tables that the folder declares."""
    return [*_judge_parameters(spec, statement), *_judge_tables(spec, statement, declared)]


def _judge_parameters(spec: SqlTableSpec, statement: Statement) -> Iterator[Finding]:
    known = PARAMETERS if spec.event_time is not None else ()
    for name in sorted(statement.parameters - set(known)):
        allowed = ", ".join(f"${one}" for one in known) or "no parameter without event_time"
        suggestion = nearest(name, known)
        yield Finding(("sql",), Mistake(f"the parameter ${name}", allowed, f"${suggestion}" if suggestion else None))


def _judge_tables(spec: SqlTableSpec, statement: Statement, declared: Collection[str]) -> Iterator[Finding]:
    vouched = [one.table for one in spec.inputs]
    known = [name for name in (*declared, *vouched) if name != spec.table]
    for name, line in statement.tables.items():
        if name == spec.table:
            mistake = Mistake(f"the table {name!r} itself", "other tables: what it holds is the result of the query")
            yield Finding(("sql",), mistake, line)
        elif name not in known:
            allowed = f"declared tables ({list_names(sorted(known)) or 'none'}), or others that 'inputs' names"
            close = nearest(name, known) or next((one for one in known if one.endswith(f".{name}")), None)
            yield Finding(("sql",), Mistake(f"the table {name!r}", allowed, close), line)
    for i, name in enumerate(vouched):
        if name not in statement.tables:
            allowed = f"tables that the SQL names: {', '.join(statement.tables) or 'none'}"
            yield Finding(("inputs", i, "table"), Mistake(repr(name), allowed, nearest(name, statement.tables)))


def find_circles(reads: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The tables that are computed from themselves, each with the way around."""
    return {table: way for table in reads if (way := _find_way_around(reads, table))}


def _find_way_around(reads: Mapping[str, Sequence[str]], table: str) -> list[str]:
    ways, waiting = dict[str, list[str]](), [[table]]
    while waiting:
        way = waiting.pop(0)
        for name in reads.get(way[-1], ()):
            if name not in ways:
                ways[name] = [*way, name]
                waiting.append(ways[name])
    return ways.get(table, [])


def walk(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a tree, itself included."""
    waiting: list[Any] = [tree]
    while waiting:
        match waiting.pop():
            case dict() as node:
                yield node
                waiting += reversed(node.values())
            case list() as items:
                waiting += reversed(items)


def _name(sql: str, node: Mapping[str, Any]) -> str:
    if node["catalog_name"] or not node["schema_name"]:
        name = ".".join(part for part in (node["catalog_name"], node["schema_name"], node["table_name"]) if part)
        raise StatementError(Mistake(f"the table {name!r}", "tables as namespace.name"), _line(sql, node["query_location"]))
    return f"{node['schema_name']}.{node['table_name']}"


def _line(sql: str, position: int) -> int:
    return sql.encode()[:position].count(b"\n") + 1
