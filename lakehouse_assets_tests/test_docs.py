"""The documents say what the code does."""

import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from lakehouse_assets.cli.command import VERBS
from lakehouse_assets.model import errors
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.debt import Debt, Measure
from lakehouse_assets.model.event_time_spec import EventTimeSpec
from lakehouse_assets.model.layout_spec import PartitionsSpec
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.source_spec import SourceSpec
from lakehouse_assets.model.spec import ChecksSpec, TableSpec
from lakehouse_assets.model.sql_table_spec import InputSpec, ResultTimeSpec, SqlTableSpec

ROOT = Path(__file__).parent.parent
OPERATIONS = (ROOT / "docs/operations.md").read_text()
COMMAND = (ROOT / "docs/command.md").read_text()
DECLARING = (ROOT / "docs/declaring.md").read_text()
BRANCHES = {"LakehouseError", "SourceError", "RegistryError", "TableError", "CommitError"}


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    return [prefix + str(field.serialization_alias or field.alias or name) for name, field in model.model_fields.items()]


LEAVES = [*_keys(SourceSpec, "source."), *_keys(PartitionsSpec, "partitions."), *_keys(ChecksSpec, "checks."), *_keys(MaintenanceSpec, "maintenance."), *_keys(EventTimeSpec, "event_time.")]
PARENTS = {"source", "partitions", "checks", "maintenance", "event_time"}


@pytest.mark.parametrize("key", [*(k for k in _keys(TableSpec) if k not in PARENTS), *LEAVES, *_keys(ColumnSpec)])
def test_every_key_of_a_declaration_is_documented(key: str) -> None:
    assert re.search(rf"^\| `{re.escape(key)}` \|", DECLARING, re.MULTILINE)


@pytest.mark.parametrize("key", [*_keys(SqlTableSpec), *_keys(ResultTimeSpec, "event_time."), *_keys(InputSpec, "inputs[].")])
def test_every_key_of_a_table_computed_by_sql_is_documented(key: str) -> None:
    section = DECLARING.split("## Tables computed by SQL")[1].split("\n## ")[0]
    assert key in {"event_time", "partitions", "inputs"} or f"`{key}`" in section


@pytest.mark.parametrize(
    "error", [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, errors.LakehouseError)]
)
def test_every_error_is_documented_with_whether_it_is_tried_again(error: type[errors.LakehouseError]) -> None:
    if error.__name__ in BRANCHES:
        return
    row = re.search(rf"^\| `{error.__name__}` \| (R?) ?\|", OPERATIONS, re.MULTILINE)
    assert row is not None
    assert bool(row[1]) == error.retryable


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_command_is_documented(verb: str) -> None:
    assert re.search(rf"^\| `{verb}[ `]", COMMAND, re.MULTILINE)


@pytest.mark.parametrize("measure", Debt().measures(MaintenanceSpec()), ids=lambda measure: measure.name)
def test_every_kind_of_debt_is_documented_with_its_limits(measure: Measure) -> None:
    limits = ["" if limit is None else f"{limit:,g} " for limit in (measure.soft, measure.late, measure.hard)]
    row = rf"^\| `{measure.name}`: [^|]+ \| `{measure.operation}` \| {limits[0]}\| {limits[1]}\| {limits[2]}\|$"
    assert re.search(row, OPERATIONS, re.MULTILINE)


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_names_only_targets_that_make_has() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z-]+)`?", (ROOT / "README.md").read_text()))
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


def test_every_test_that_the_documents_name_is_there() -> None:
    code = "".join(path.read_text() for path in (ROOT / "lakehouse_assets_tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/testing.md").read_text()))

    assert len(named) > 50
    assert {name for name in named if f"def {name}(" not in code} == set()
