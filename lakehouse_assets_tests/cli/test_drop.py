"""`lakehouse drop`: nothing goes that nobody meant, and it says how to have it back."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.cli.tables import open_catalog
from lakehouse_assets.environment import Environment
from lakehouse_assets.systems.catalog import list_tables
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_delivery, make_table

NAME = "ods.clicks"


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of declarations; there is a table with three rows in the catalog."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setattr("sys.stdin", StringIO())
    (tmp_path / "tables").mkdir()
    catalog = open_catalog(Environment.read())
    publish(catalog, NAME, make_delivery(make_table(catalog), {0: range(3)}))
    return tmp_path / "tables"


def listed() -> list[str]:
    return list_tables(open_catalog(Environment.read()))


def test_without_a_terminal_it_wants_to_hear_that_it_is_meant(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drop", NAME]) == 2
    assert "--yes" in capsys.readouterr().err
    assert listed() == [NAME]

    assert main(["drop", NAME, "--yes"]) == 0

    said = capsys.readouterr().out
    assert re.search(r"have it back until \S+: lakehouse drop ods.clicks --undo", said)
    assert listed() == []


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("n\n", [NAME]), ("\n", [NAME])])
def test_on_a_terminal_it_shows_what_goes_and_asks(
    tables: Path, answer: str, left: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", _Terminal(answer))

    assert main(["drop", NAME, "--purge"]) == 0

    said = capsys.readouterr()
    assert said.err == "Delete ods.clicks for good? [y/N] "
    assert "would do" in said.out
    assert listed() == left


def test_undo_brings_the_rows_back_and_asks_nobody(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["drop", NAME, "--yes"])

    assert main(["drop", NAME, "--undo"]) == 0
    assert len(judge.read_positions(open_catalog(Environment.read()).load_table(NAME))) == 3
    assert main(["drop", NAME, "--undo"]) == 1
    assert "Cannot have ods.clicks back" in capsys.readouterr().err


def test_a_dry_run_is_a_document_and_changes_nothing(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drop", NAME, "--purge", "--dry-run", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["operation"], told["dry_run"]) == ("purge", True)
    assert told["planned"][0]["files"] > 3
    assert listed() == [NAME]


def test_a_declared_table_will_come_again_and_it_says_so(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tables / "clicks.yaml").write_text("table: ods.clicks\nsource: {topic: clicks}\nschema: [{name: id, type: long}]\n")

    main(["drop", NAME, "--yes"])

    assert "its next run creates it anew" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ods.click", "clicks", "lakehouse_dropped.ods__clicks__20261127t081000"])
def test_a_table_that_is_not_there_is_a_wrong_call_with_the_nearest_name(
    tables: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drop", name, "--yes"]) == 2
    assert f"Cannot find the table {name!r}" in capsys.readouterr().err


def test_queries_find_no_dropped_table(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["drop", NAME, "--yes"])

    assert main(["query", "SELECT * FROM ods.clicks"]) == 2

    assert "the catalog 'lakehouse' has none; it has: none" in capsys.readouterr().err
