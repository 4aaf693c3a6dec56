"""Reads what a Python file declares: tables in its module-level list `TABLES`, Dagster's own assets in `ASSETS`.

Of assets it is known here that they are Dagster's, and which tables they are; the rest Dagster judges, which is imported by who
uses it.
"""

import ast
import runpy
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lakehouse_assets.declarations.problems import Location, list_expression_problems, list_problems
from lakehouse_assets.model.errors import Problem
from lakehouse_assets.model.mistakes import describe
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec

_ALLOWED = (
    "TABLES, a list of TableSpec and SqlTableSpec, or ASSETS, a list of Dagster's assets (a file that declares neither begins "
    "with an underscore)"
)
_IO_MANAGER = "lakehouse_io"  # by which the rows of an asset become a table


@dataclass(frozen=True, slots=True)
class PythonAsset:
    """An asset of Dagster as a file declares it, `path` being its place in the file, and the tables that its rows become."""

    file: str
    line: int
    path: str
    definition: Any
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PythonFile:
    """The tables of a file, each with its line, its assets, and the mistakes of the file."""

    specs: tuple[tuple[TableSpec | SqlTableSpec, int], ...] = ()
    assets: tuple[PythonAsset, ...] = ()
    problems: tuple[Problem, ...] = ()


def load_python(path: Path, file: str) -> PythonFile:
    """Run `path` and take its `TABLES` and `ASSETS`; `file` is its name in problems. Runs the file's code."""
    try:
        found = runpy.run_path(str(path), run_name=f"lakehouse_tables.{path.stem}")
    except ValidationError as error:
        line, root = _find_line(error, path), SqlTableSpec if error.title == SqlTableSpec.__name__ else TableSpec
        return PythonFile(problems=tuple(list_problems(error, file, lambda place, is_key: line, root)))
    # A user's file may raise anything, exit included; it must take only its own tables out.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        return PythonFile(problems=(Problem(file, _find_line(error, path), "TABLES", text, _ALLOWED),))
    tables = _take_tables(found.get("TABLES", () if "ASSETS" in found else None), path, file)
    assets = _take_assets(found.get("ASSETS", ()), path, file)
    return PythonFile(tables.specs, assets.assets, tables.problems + assets.problems)


def _take_assets(assets: object, path: Path, file: str) -> PythonFile:
    lines = _find_lines(path, "ASSETS")
    if not isinstance(assets, (list, tuple)):
        return PythonFile(problems=(Problem(file, lines.get((), 1), "ASSETS", describe(assets), _ALLOWED),))
    found: list[PythonAsset] = []
    problems: list[Problem] = []
    for i, asset in enumerate(assets):
        line, place = lines.get((i,), lines.get((), 1)), f"ASSETS[{i}]"
        if _is_dagsters(asset):
            found.append(PythonAsset(file, line, place, asset, _name_tables(asset)))
        else:
            problems.append(Problem(file, line, place, describe(asset), "an asset or an asset check of Dagster"))
    return PythonFile(assets=tuple(found), problems=tuple(problems))


def _is_dagsters(value: object) -> bool:
    return any(base.__module__.split(".")[0] == "dagster" for base in type(value).__mro__)


def _name_tables(asset: Any) -> tuple[str, ...]:
    """Of an asset that can be materialized, those keys whose rows our IO manager writes."""
    find_manager = getattr(asset, "get_io_manager_key_for_asset_key", None)
    keys = [key for key in getattr(asset, "keys", ()) if find_manager is not None and find_manager(key) == _IO_MANAGER]
    return tuple(sorted(".".join(key.path) for key in keys))


def _take_tables(tables: object, path: Path, file: str) -> PythonFile:
    lines = _find_lines(path, "TABLES")
    if not isinstance(tables, (list, tuple)):
        return PythonFile(problems=(Problem(file, lines.get((), 1), "TABLES", describe(tables), _ALLOWED),))
    whole = lines.get((), 1)
    specs: list[tuple[TableSpec | SqlTableSpec, int]] = []
    problems: list[Problem] = []
    for i, table in enumerate(tables):
        line = lines.get((i,), whole)
        if isinstance(table, TableSpec):
            found = _list_sql_problems(table, file, line, i)
            specs += [] if found else [(table, line)]
            problems += found
        elif isinstance(table, SqlTableSpec):
            specs.append((table, line))
        else:
            problems.append(Problem(file, line, f"TABLES[{i}]", describe(table), "a TableSpec or SqlTableSpec"))
    return PythonFile(tuple(specs), problems=tuple(problems))


def _list_sql_problems(table: TableSpec, file: str, line: int, i: int) -> list[Problem]:
    return list_expression_problems(table, file, lambda place: line, within=("TABLES", i))


def _find_lines(path: Path, name: str) -> dict[Location, int]:
    """Line of the list of a name, `TABLES = `, under (), and of its items where they are written out there."""
    lines: dict[Location, int] = {}
    for node in ast.parse(path.read_bytes()).body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            lines = {(): node.lineno}
            value = node.value  # type: ignore[attr-defined]  # both kinds of node with a target have one
            if isinstance(value, (ast.List, ast.Tuple)) and not any(
                isinstance(item, ast.Starred) for item in value.elts
            ):
                lines |= {(i,): item.lineno for i, item in enumerate(value.elts)}
    return lines


def _find_line(error: BaseException, path: Path) -> int:
    """The deepest line of the file in the traceback; of the text for a syntax error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(path)), 1)
