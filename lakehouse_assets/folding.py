"""Which queries can be folded: computed from what they gave before and from rows that were added since.

Columns and conditions of one table give the new rows beside the old ones. GROUP BY with count, sum, min and max gives, by the
same columns, the sum of counts and sums, and the least and largest of both. Nothing else is taken for such a query.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.expressions import is_pure
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.statements import Finding, Statement, walk

_FOLDED_BY: Final = {"count": "sum", "count_star": "sum", "sum": "sum", "min": "min", "max": "max"}
_CLASSES: Final = {
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA",
    "OPERATOR", "PARAMETER", "STAR",
}  # fmt: skip
_ALLOWED: Final = (
    "for 'incremental: true', columns and conditions of one table, read as a slice, or GROUP BY with count, sum, min and max"
)


@dataclass(frozen=True, slots=True)
class Fold:
    """How results of a query are put together: by column, the function that does it, or None where it is one to group by.

    None at all: the rows of both stand beside each other.
    """

    functions: tuple[str | None, ...] | None


class _UnfoldableError(Exception):
    """`found` is what can't be folded, a phrase; `at` its place in the text of the query."""

    def __init__(self, found: str, at: int = 0) -> None:
        self.found, self.at = found, at
        super().__init__(found)


def find_fold(statement: Statement) -> Fold | None:
    """How the results of a query are put together; None where they can't be."""
    try:
        return _fold(statement.tree)
    except _UnfoldableError:
        return None


def judge_fold(spec: SqlTableSpec, statement: Statement) -> Iterator[Finding]:
    """Why the query of a table that is declared incremental can't be folded."""
    if not spec.incremental:
        return
    try:
        _fold(statement.tree)
    except _UnfoldableError as error:
        line = spec.sql.encode()[: error.at].count(b"\n") + 1
        yield Finding(("sql",), Mistake(error.found, _ALLOWED), line)
    for i, one in enumerate(spec.inputs):
        if one.whole or one.as_of is not None:
            yield Finding(("inputs", i), Mistake("an input that is read whole, or as of something", _ALLOWED))


def _fold(tree: Mapping[str, Any]) -> Fold:
    if tree.get("type") != "SELECT_NODE":
        raise _UnfoldableError("a query of several SELECTs")
    for what, name in (("having", "HAVING"), ("sample", "a sample"), ("qualify", "QUALIFY")):
        if tree[what] is not None:
            raise _UnfoldableError(name)
    if tree["modifiers"] or tree["cte_map"]["map"]:
        raise _UnfoldableError("DISTINCT, ORDER BY or LIMIT" if tree["modifiers"] else "WITH")
    source = tree["from_table"]
    if source["type"] != "BASE_TABLE" or source["sample"] is not None or source["column_name_alias"]:
        raise _UnfoldableError("what is no plain table after FROM", source.get("query_location", 0))
    items = tree["select_list"]
    functions = [_find_aggregate(item) for item in items]
    for item, function in zip(items, functions, strict=True):
        for part in item["children"] if function is not None else [item]:
            _require_plain(part)
    if tree["where_clause"] is not None:
        _require_plain(tree["where_clause"])
    is_grouped = bool(tree["group_expressions"]) or tree["aggregate_handling"] != "STANDARD_HANDLING"
    if not is_grouped:
        if any(functions):
            raise _UnfoldableError("an aggregate without GROUP BY")
        return Fold(None)
    _judge_groups(tree, items, functions)
    return Fold(tuple(functions))


def _find_aggregate(item: Mapping[str, Any]) -> str | None:
    """By which function a column of the result is folded, if it is an aggregate."""
    if item["class"] != "FUNCTION" or item["function_name"].lower() not in _FOLDED_BY:
        return None
    if item["distinct"] or item["filter"] is not None or item["order_bys"]["orders"]:
        raise _UnfoldableError("an aggregate with DISTINCT, FILTER or ORDER BY", item["query_location"])
    return _FOLDED_BY[item["function_name"].lower()]


def _require_plain(expression: Mapping[str, Any]) -> None:
    """It makes one value of one row, the same whenever it is asked."""
    for node in walk(expression):
        kind = node.get("class")
        if kind is not None and kind not in _CLASSES:
            raise _UnfoldableError(f"a {str(kind).lower().replace('_', ' ')}", node.get("query_location", 0))
        if kind == "FUNCTION" and not is_pure(name := str(node["function_name"]).lower()):
            raise _UnfoldableError(f"the function {name!r} in a column or condition", node["query_location"])


def _judge_groups(tree: Mapping[str, Any], items: Sequence[Mapping[str, Any]], functions: Sequence[str | None]) -> None:
    aggregates = {item["alias"].lower() for item, function in zip(items, functions, strict=True) if function is not None}
    keys = [item for item, function in zip(items, functions, strict=True) if function is None]
    for key in keys:
        if key["class"] == "STAR" or any(name in aggregates for name in _names(key)):
            raise _UnfoldableError("a column that is no aggregate by itself and none to group by", key["query_location"])
    groups = tree["group_expressions"]
    if not groups and not tree["group_sets"]:
        return  # GROUP BY ALL
    if len(tree["group_sets"]) != 1:
        raise _UnfoldableError("GROUPING SETS, ROLLUP or CUBE")
    named = [_resolve(group, items) for group in groups]
    shown = [_bare(key) for key in keys]
    for group in named:
        if _bare(group) not in shown:
            raise _UnfoldableError("a GROUP BY of what is no column of the result", group.get("query_location", 0))
    for key in keys:
        if _bare(key) not in [_bare(group) for group in named] and _names(key):
            raise _UnfoldableError("a column that GROUP BY does not name as it is", key["query_location"])


def _resolve(group: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What is grouped by: a number or the name of a column of the result means that one."""
    if group["class"] == "CONSTANT" and isinstance(position := group["value"].get("value"), int):
        return items[position - 1] if 0 < position <= len(items) else group
    if group["class"] == "COLUMN_REF" and len(group["column_names"]) == 1:
        name = group["column_names"][0].lower()
        return next((item for item in items if item["alias"].lower() == name), group)
    return group


def _bare(expression: Mapping[str, Any]) -> str:
    """An expression without its name and its place, for comparing."""

    def strip(node: Any) -> Any:
        match node:
            case dict():
                return {key: strip(value) for key, value in node.items() if key not in ("alias", "query_location")}
            case list():
                return [strip(item) for item in node]
        return node

    return json.dumps(strip(expression), sort_keys=True)


def _names(expression: Mapping[str, Any]) -> list[str]:
    return [node["column_names"][-1].lower() for node in walk(expression) if node.get("class") == "COLUMN_REF"]
