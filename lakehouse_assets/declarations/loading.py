"""Reads the folder of declarations: every table that is right, and every mistake of those that are not.

A broken file takes only its own tables out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from lakehouse_assets.declarations.problems import Location, list_expression_problems, list_problems
from lakehouse_assets.declarations.python_file import PythonAsset, load_python
from lakehouse_assets.declarations.queries import Query, line_in_text, list_query_problems, read_query
from lakehouse_assets.declarations.yaml_file import YamlFile, load_yaml
from lakehouse_assets.model.errors import ConfigurationError, DeclarationError, Problem
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.model.written import TABLE_PATTERN

FOLDER_SETTING = "LAKEHOUSE_TABLES_DIR"
_SUFFIXES = (".yaml", ".yml", ".py")
_FITTING_ASSET = "an asset or an asset check that Dagster takes beside the others of this folder"


@dataclass(frozen=True, slots=True)
class BrokenDeclaration:
    """A file, or one table of it, that can't become a table.

    `name` is the declared table where it can be read and no other declaration bears it, else made of the
    file's name. It is unique within one `Declarations`, of letters, digits, underscores and at most a dot.
    """

    file: str
    name: str
    problems: tuple[Problem, ...]

    @property
    def error(self) -> DeclarationError:
        """The problems as an error to raise or to show."""
        return DeclarationError(self.problems)


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a folder declares, in order of file name.

    Tables that are filled from Kafka (`specs`), others that are `computed` by SQL, and Dagster's own `assets`.
    """

    specs: tuple[TableSpec, ...]
    broken: tuple[BrokenDeclaration, ...]
    computed: tuple[SqlTableSpec, ...] = ()
    assets: tuple[PythonAsset, ...] = ()

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """Every table that is filled: each that is declared, after it the log of its changes where it keeps one."""
        return tuple(table for spec in self.specs for table in (spec, spec.change_log) if table is not None)

    @property
    def policies(self) -> Mapping[str, MaintenanceSpec]:
        """How each table is looked after that there is by these declarations, under its name."""
        every: tuple[TableSpec | SqlTableSpec, ...] = (*self.tables, *self.computed)
        usual = dict.fromkeys((table for asset in self.assets for table in asset.tables), MaintenanceSpec())
        return usual | {table: policy for spec in every for table, policy in spec.maintained_tables.items()}

    def without_assets(self, refused: Sequence[tuple[PythonAsset, str]]) -> "Declarations":
        """The same, but for assets that Dagster does not take, each with what it says of it."""
        found = [
            _Found(one.file, one.line, problems=(Problem(one.file, one.line, one.path, said, _FITTING_ASSET),))
            for one, said in refused
        ]
        tables = [spec.table for spec in self.specs] + [spec.table for spec in self.computed]
        taken = {name.lower() for name in (*tables, *(one.name for one in self.broken))}
        gone = [one for one, _ in refused]
        return replace(
            self,
            broken=(*self.broken, *_name_broken(found, taken)),
            assets=tuple(asset for asset in self.assets if asset not in gone),
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """One declaration of a file: a spec, or the problems that keep it from being one."""

    file: str
    line: int
    spec: TableSpec | SqlTableSpec | None = None
    asset: PythonAsset | None = None
    table: str | None = None
    query: Query | None = None
    problems: tuple[Problem, ...] = ()


def load_declarations(*places: Path) -> Declarations:
    """Read each file among `places`, and every `*.yaml`, `*.yml` and `*.py` file in each folder and below, sorted by path.

    Hidden files and folders, and Python files that begin with an underscore, are left out. Runs Python files.

    Raises:
        ConfigurationError: there is no such file or folder.
    """
    first: dict[str, _Found] = {}
    broken: list[_Found] = []
    assets: list[PythonAsset] = []
    for found in (found for place in places for found in _read_place(place)):
        if found.asset is not None:
            assets.append(found.asset)
        elif found.spec is None:
            broken.append(found)
        elif (earlier := first.setdefault(found.spec.table.lower(), found)) is not found:
            broken.append(_refuse_second(found, found.spec.table, earlier))
    refused = _refuse_queries(list(first.values()), broken, assets)
    right = [found.spec for name, found in first.items() if name not in refused]
    return Declarations(
        tuple(spec for spec in right if isinstance(spec, TableSpec)),
        tuple(_name_broken([*broken, *refused.values()], taken=set(first) - set(refused))),
        tuple(spec for spec in right if isinstance(spec, SqlTableSpec)),
        tuple(assets),
    )


def _read_place(place: Path) -> Iterator[_Found]:
    if place.is_file():
        yield from _read_file(place)
    elif place.is_dir():
        for path in sorted(place.rglob("*")):
            parts = path.relative_to(place).parts
            is_hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            is_private = path.suffix == ".py" and path.name.startswith("_")
            if path.suffix in _SUFFIXES and not is_hidden and not is_private and not path.is_dir():
                yield from _read_file(path)
    else:
        raise ConfigurationError(
            FOLDER_SETTING, f"{str(place)!r}, which is no folder", "a folder of table declarations"
        )


def _read_file(path: Path) -> Iterator[_Found]:
    if path.suffix == ".py":
        yield from _read_python(path)
    else:
        yield _read_yaml(path)


def _read_yaml(path: Path) -> _Found:
    file = str(path)
    document = load_yaml(path, file)
    if document.data is not None and "sql" in document.data:
        return _read_sql(document, file)
    problems = list(document.problems)
    spec = None
    if document.data is not None:
        try:
            spec = TableSpec.model_validate(document.data, by_alias=True, by_name=False)
        except ValidationError as error:
            problems += list_problems(error, file, document.line_of)
        else:
            spec, missing = _find_schema_file(spec, path, file, document.line_of(("source", "schema_file")))
            problems += missing + list_expression_problems(spec, file, document.line_of)
    if problems:
        ordered = sorted(problems, key=lambda problem: problem.line)
        return _Found(file, 1, table=_read_table(document), problems=tuple(ordered))
    return _Found(file, document.line_of(("table",)), spec)


def _read_sql(document: YamlFile, file: str) -> _Found:
    """A table that is computed. Which tables it may read is known when all declarations are."""
    problems: list[Problem] = list(document.problems)
    try:
        spec = SqlTableSpec.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems += list_problems(error, file, document.line_of, SqlTableSpec)
    else:
        query = read_query(spec, file, line_in_text(document.line_of, spec.sql))
        if isinstance(query, Query) and not problems:
            return _Found(file, document.line_of(("table",)), spec, query=query)
        problems += [query] if isinstance(query, Problem) else []
    ordered = sorted(problems, key=lambda problem: problem.line)
    return _Found(file, 1, table=_read_table(document), problems=tuple(ordered))


def _refuse_queries(right: list[_Found], broken: list[_Found], assets: list[PythonAsset]) -> dict[str, _Found]:
    """The tables, by their names in small letters, whose SQL reads what nobody declares, or in the end themselves."""
    specs = [found.spec for found in right]
    logs = [spec.change_log for spec in specs if isinstance(spec, TableSpec)]
    tables = [table for spec in (*specs, *logs) if spec is not None for table in spec.maintained_tables]
    tables += [found.table for found in broken if found.table is not None]  # what is wrong with them is told of them
    tables += [table for asset in assets for table in asset.tables]
    queries = {found.query.spec.table: found for found in right if found.query is not None}
    problems = list_query_problems([found.query for found in queries.values() if found.query is not None], tables)
    return {
        table.lower(): _Found(queries[table].file, queries[table].line, table=table, problems=tuple(found))
        for table, found in problems.items()
    }


def _find_schema_file(spec: TableSpec, path: Path, file: str, line: int) -> tuple[TableSpec, list[Problem]]:
    """The spec with the full path of its schema file, which begins where the declaration stands."""
    if spec.source.schema_file is None:
        return spec, []
    schema_file = path.absolute().parent / spec.source.schema_file
    if not schema_file.is_file():
        found = f"{spec.source.schema_file!r}, which is no file in {schema_file.parent}"
        return spec, [Problem(file, line, "source.schema_file", found, "a file with an Avro schema")]
    try:
        json.loads(schema_file.read_bytes())
    except (OSError, ValueError) as error:
        found = f"{spec.source.schema_file!r}, which can't be read as JSON ({error})"
        return spec, [Problem(file, line, "source.schema_file", found, "a file with an Avro schema")]
    return spec.model_copy(update={"source": spec.source.model_copy(update={"schema_file": str(schema_file)})}), []


def _read_table(document: YamlFile) -> str | None:
    table = document.data.get("table") if document.data else None
    return table if isinstance(table, str) and re.fullmatch(TABLE_PATTERN, table) else None


def _read_python(path: Path) -> Iterator[_Found]:
    file = str(path)
    loaded = load_python(path, file)
    for declared, line in loaded.specs:
        if isinstance(declared, SqlTableSpec):
            query = read_query(declared, file, partial(_stay_at, line))
            if isinstance(query, Problem):
                yield _Found(file, line, problems=(query,))
            else:
                yield _Found(file, line, declared, query=query)
            continue
        spec, problems = _find_schema_file(declared, path, file, line)
        yield _Found(file, line, None if problems else spec, problems=tuple(problems))
    for asset in loaded.assets:
        yield _Found(file, asset.line, asset=asset)
    if loaded.problems:
        yield _Found(file, 1, problems=loaded.problems)


def _stay_at(line: int, _place: Location, _line: int) -> int:
    return line


def _refuse_second(found: _Found, table: str, earlier: _Found) -> _Found:
    allowed = f"each table once, letter case aside: it is declared in {earlier.file}:{earlier.line}"
    return _Found(
        found.file, found.line, problems=(Problem(found.file, found.line, "table", repr(table), allowed),)
    )


def _name_broken(broken: list[_Found], taken: set[str]) -> Iterator[BrokenDeclaration]:
    for found in broken:
        stem = re.sub(r"[^A-Za-z0-9_]+", "_", Path(found.file).stem) or "declaration"
        numbered = (f"{stem}_{number}" for number in range(2, len(broken) + 3))
        candidates = [found.table] if found.table else []
        name = next(name for name in [*candidates, stem, *numbered] if name.lower() not in taken)
        taken.add(name.lower())
        yield BrokenDeclaration(found.file, name, found.problems)
