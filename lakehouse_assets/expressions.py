"""SQL in a declaration: what an expression may say, and the DuckDB in which it is bound and evaluated.

An expression makes one value of one row, and of nothing else: no other table, no file, no setting, no clock, no chance. So a
replay gives the same rows, whoever runs it. DuckDB's own parser reads it; of the tree only what is named here is let through.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import duckdb

from lakehouse_assets.model.mistakes import Mistake, nearest
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType

Finding = tuple[tuple[str | int, ...], Mistake]

_ALLOWED = "one SQL expression over the columns of the message"
_CLASSES = {
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA",
    "OPERATOR",
}  # fmt: skip
# DuckDB calls these consistent, but they read the clock, settings, or what this version of DuckDB is.
_IMPURE = {
    "age", "alias", "can_cast_implicitly", "create_sort_key", "current_localtime", "current_localtimestamp", "current_setting",
    "getvariable", "hash", "json_serialize_plan", "vector_type", "version",
}  # fmt: skip
# A number in a message would decide how much memory they take, and DuckDB's limit does not hold for it.
_GROWING = {"array_resize", "bar", "bitstring", "generate_series", "list_resize", "range", "to_base"}
# Functions of which only the first argument may come from a message: the others are lengths, or a format.
_FORMAT_FIRST = {"format", "printf"}
_LENGTH_BEHIND = {"lpad", "repeat", "rpad"}
# DuckDB does not say of its macros whether they are consistent.
_PURE_MACRO_FAMILIES = ("array_", "list_", "map_contains_")
_PURE_MACROS = {"date_add", "days_in_month", "fdiv", "fmod", "json", "nullif", "round_even", "roundbankers", "split_part"}
_NAMES_ELSEWHERE = {
    "boolean": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "date": "DATE",
    "time": "TIME", "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMP WITH TIME ZONE", "string": "VARCHAR", "uuid": "UUID",
    "fixed": "BLOB", "binary": "BLOB",
}  # fmt: skip
_INTEGERS = {
    "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint",
}  # fmt: skip
_NUMBERS = _INTEGERS | {"decimal", "float", "double"}
_FITTING = {"int": _INTEGERS, "long": _INTEGERS, "float": _NUMBERS, "double": _NUMBERS, "decimal": _INTEGERS}
_SHOWN_CHARACTERS = 300
_BOOLEAN = Primitive("boolean")


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression of a declaration: where it stands, its text, the type that it must give, and the column that it makes."""

    place: tuple[str | int, ...]
    sql: str
    type: Primitive
    column: str = ""  # none: it is `where`
    is_required: bool = False

    @property
    def label(self) -> str:
        """It, in sentences about it."""
        return f"column {self.column!r} ({shorten(self.sql)})" if self.column else f"where ({shorten(self.sql)})"


def list_expressions(spec: TableSpec) -> list[Expression]:
    """`where` first, then those of the columns."""
    where = [Expression(("where",), spec.where, _BOOLEAN)] if spec.where is not None else []
    return where + [
        Expression(("schema", i, "expr"), column.expr, column.type, column.name, column.required)
        for i, column in enumerate(spec.columns)
        if column.expr is not None and isinstance(column.type, Primitive)
    ]


def find_expression_mistakes(spec: TableSpec) -> list[Finding]:
    """Every mistake in the expressions of a declaration, with its place. Read-only."""
    expressions = list_expressions(spec)
    if not expressions:
        return []
    columns = {column.name: column.type for column in spec.decoded_columns}
    with open_session() as session:
        found = [(one.place, _find_mistake(session, one, columns)) for one in expressions]
    return [(place, mistake) for place, mistake in found if mistake is not None]


def open_session() -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, in memory, that reaches nothing outside of itself and answers the same everywhere."""
    session = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,  # keeps the order of rows, and leaves the other cores to other tables
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "arrow_lossless_conversion": True,
            "ieee_floating_point_ops": False,  # a division by zero is null, as for whole numbers
            "python_enable_replacements": False,
        },
    )
    session.execute("SET TimeZone = 'UTC'")
    session.execute("SET lock_configuration = true")
    return session


def find_columns(session: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str]:
    """Names, in small letters, of what a right expression reads; parameters of lambdas are among them."""
    tree = _parse(session, sql)
    return frozenset() if isinstance(tree, Mistake) else frozenset(name.lower() for name in _columns_of(tree))


def is_pure(function: str) -> bool:
    """Whether a function, by its name in small letters, makes one value of its arguments, the same whenever it is called."""
    return _list_functions().get(function, False)


def sql_type(declared: DataType) -> str:
    """A declared type in DuckDB's words."""
    match declared:
        case ListType(element):
            return f"{sql_type(element)}[]"
        case MapType(key, value):
            return f"MAP({sql_type(key)}, {sql_type(value)})"
        case StructType(fields):
            return f"STRUCT({', '.join(f'{quote(field.name)} {sql_type(field.type)}' for field in fields)})"
        case Primitive("decimal", (precision, scale)):
            return f"DECIMAL({precision}, {scale})"
        case Primitive(name, _):
            return _NAMES_ELSEWHERE[name]


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def say(error: Exception) -> str:
    """DuckDB's sentence about an error, without its picture of the query; shortened."""
    sentence = " ".join(str(error).split("\n\nLINE ")[0].split())
    return sentence if len(sentence) <= _SHOWN_CHARACTERS else sentence[: _SHOWN_CHARACTERS - 1] + "…"


def _find_mistake(
    session: duckdb.DuckDBPyConnection, expression: Expression, columns: Mapping[str, DataType]
) -> Mistake | None:
    tree = _parse(session, expression.sql)
    if isinstance(tree, Mistake):
        words = re.findall(r"\w+", expression.sql.lower())
        keyword = next((name for name in columns if name.lower() in words and name.lower() in _list_keywords()), None)
        return replace(tree, suggestion=quote(keyword)) if keyword is not None else tree
    mistake = _judge_tree(session, tree, list(columns))
    if mistake is not None:
        return mistake
    row = ", ".join(f"NULL::{sql_type(kind)} AS {quote(name)}" for name, kind in columns.items())
    try:
        session.execute(f"SELECT ({expression.sql}\n) FROM (SELECT {row}) LIMIT 0")
    except duckdb.Error as error:
        return Mistake(f"{shorten(expression.sql)}, of which DuckDB says: {say(error)}", _ALLOWED)
    assert session.description is not None
    return _judge_type(expression, session.description[0][1])


def shorten(sql: str) -> str:
    """An expression on one line, not longer than people read in an error."""
    line = " ".join(sql.split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _parse(session: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any] | Mistake:
    """The tree of an expression; a mistake where the text is anything but one expression."""
    statement, error = _serialize(session, f"SELECT ({sql}\n)")
    if statement is None:
        return Mistake(f"{shorten(sql)}, of which DuckDB says: {error}", _ALLOWED)
    (tree, *others) = statement.pop("select_list", [None])
    plain, _ = _serialize(session, "SELECT (1\n)")
    assert plain is not None
    del plain["select_list"]
    if others or not isinstance(tree, dict) or statement != plain:
        return Mistake(shorten(sql), _ALLOWED)
    return tree


def _serialize(session: duckdb.DuckDBPyConnection, query: str) -> tuple[dict[str, Any] | None, str]:
    try:
        (text,) = session.execute("SELECT json_serialize_sql(?)", [query]).fetchone() or ("{}",)
        parsed = json.loads(text)
    except duckdb.Error as error:
        return None, say(error)
    except RecursionError:
        return None, "it nests too deep"
    if parsed["error"]:
        return None, " ".join(parsed["error_message"].split())
    return (parsed["statements"][0]["node"], "") if len(parsed["statements"]) == 1 else (None, "more than one statement")


def _judge_tree(session: duckdb.DuckDBPyConnection, tree: dict[str, Any], names: Sequence[str]) -> Mistake | None:
    nodes = list(_walk(tree))
    parameters = [name for node in nodes if node["class"] == "LAMBDA" for name in _columns_of(node["lhs"])]
    known = {name.lower() for name in (*names, *parameters)}
    for node in nodes:
        if node["class"] not in _CLASSES:
            return Mistake(f"a {node['class'].lower().replace('_', ' ')} in it", _ALLOWED)
        if node["class"] == "COLUMN_REF" and node["column_names"][0].lower() not in known:
            name = node["column_names"][0]
            return Mistake(
                f"the column {name!r}", f"columns that the message holds: {', '.join(names)}", nearest(name, names)
            )
        if node["class"] == "FUNCTION" and (mistake := _judge_call(session, node)) is not None:
            return mistake
    return None


def _walk(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every expression in a tree, itself included."""
    waiting: list[Any] = [tree]
    while waiting:
        match waiting.pop():
            case dict() as node:
                if "class" in node:
                    yield node
                waiting += reversed(node.values())
            case list() as items:
                waiting += reversed(items)


def _columns_of(tree: dict[str, Any]) -> list[str]:
    return [node["column_names"][0] for node in _walk(tree) if node["class"] == "COLUMN_REF"]


def _judge_call(session: duckdb.DuckDBPyConnection, call: dict[str, Any]) -> Mistake | None:
    name = call["function_name"].lower()
    functions = _list_functions()
    if not functions.get(name, False):
        allowed = "functions of DuckDB that make one value of one row, the same at every replay"
        pure = [known for known, is_pure in functions.items() if is_pure]
        return Mistake(f"the function {name!r}", allowed, nearest(name, pure) if name not in functions else None)
    arguments = call["children"]
    fixed = arguments[:1] if name in _FORMAT_FIRST else arguments[1:] if name in _LENGTH_BEHIND else []
    if any(_columns_of(argument) for argument in fixed):
        what = "format" if name in _FORMAT_FIRST else "length and filling"
        return Mistake(f"{name!r} with a column for its {what}", f"{name!r} with a constant for its {what}")
    return None


@cache
def _list_functions() -> dict[str, bool]:
    """Every function of DuckDB, and whether an expression may call it."""
    with open_session() as session:
        rows = session.execute("SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions()").fetchall()
    allowed: dict[str, bool] = {}
    for name, kind, stability in rows:
        if kind == "scalar":
            is_pure = stability == "CONSISTENT" and name not in _IMPURE | _GROWING and not name.startswith("__")
        elif kind == "macro":
            is_pure = name.startswith(_PURE_MACRO_FAMILIES) or name in _PURE_MACROS
        else:
            continue
        allowed[name] = allowed.get(name, True) and is_pure
    return {name: False for name, *_ in rows} | allowed


@cache
def _list_keywords() -> set[str]:
    """Words that are no column's name unless they are quoted."""
    with open_session() as session:
        rows = session.execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'").fetchall()
    return {name for (name,) in rows}


def _judge_type(expression: Expression, found: Any) -> Mistake | None:
    declared, kind = expression.type, found.id
    wanted = sql_type(declared)
    fitting = _FITTING.get(declared.name, {_NAMES_ELSEWHERE.get(declared.name, "").lower()})
    fits = kind in fitting
    if declared.name == "decimal" and kind == "decimal":
        fits = dict(found.children)["scale"] <= declared.parameters[1]
    if fits:
        return None
    return Mistake(
        f"{shorten(expression.sql)}, which is {found}",
        f"{wanted} for a column of type {declared}" if expression.column else f"a condition, which is {wanted}",
        f"CAST({shorten(expression.sql)} AS {wanted})",
    )
