"""`lakehouse pin`, `unpin` and `query --as-of`, as somebody calls them who trains a model."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse_assets.cli import main
from lakehouse_assets_tests.cli.test_query import make_table

ROWS = pa.table({"id": pa.array([1, 2], pa.int64())})


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))


def test_a_table_is_read_again_as_it_was_when_it_was_pinned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table(tmp_path, "ods.flights", ROWS)
    first = table.metadata.current_snapshot_id
    assert main(["pin", "ods.flights", "--as", "training_2026_11", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    table.append(ROWS)

    assert (made["table"], made["name"], made["snapshot_id"], made["until"]) == ("ods.flights", "training_2026_11", first, None)
    for as_of, count in (("training_2026_11", 2), (f"ods.flights={first}", 2), ("2100-01-01", 4), ("ods.flights=main", 4)):
        assert main(["query", "SELECT count(*) AS n FROM ods.flights", "--csv", "--as-of", as_of]) == 0
        assert capsys.readouterr().out == f"n\n{count}\n"


def test_two_tables_are_read_each_as_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ods.a", "ods.b"):
        table = make_table(tmp_path, name, ROWS)
        assert main(["pin", name, "--as", "then"]) == 0
        table.append(ROWS)
    capsys.readouterr()
    sql = "SELECT (SELECT count(*) FROM ods.a) AS a, (SELECT count(*) FROM ods.b) AS b"

    for switches, counts in ((["then"], "2,2"), (["ods.b=then"], "4,2"), (["then", "ods.a=main"], "4,2")):
        assert main(["query", sql, "--csv", *(word for one in switches for word in ("--as-of", one))]) == 0
        assert capsys.readouterr().out == f"a,b\n{counts}\n"


def test_a_tag_that_is_not_there_is_an_error_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_table(tmp_path, "ods.flights", ROWS)
    assert main(["pin", "ods.flights", "--as", "training", "--keep", "90d"]) == 0

    assert main(["query", "FROM ods.flights", "--as-of", "trainign"]) == 1
    assert "Did you mean 'training'?" in capsys.readouterr().err
    assert main(["query", "FROM ods.flights", "--as-of", "ods.flihgts=training"]) == 1
    assert "expected one that it names: ods.flights" in capsys.readouterr().err


def test_every_pin_of_the_catalog_is_listed_until_it_is_unpinned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ods.a", "ods.b"):
        make_table(tmp_path, name, ROWS)
    assert main(["pin", "ods.a", "--as", "x"]) == main(["pin", "ods.b", "--as", "y", "--of", "main", "--keep", "2d"]) == 0
    capsys.readouterr()

    assert main(["pin", "--list", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["table"], one["name"], one["until"] is None) for one in listed] == [("ods.a", "x", True), ("ods.b", "y", False)]
    assert main(["unpin", "ods.a", "x"]) == main(["pin", "--list", "ods.a"]) == 0
    assert "is no tag any more" in capsys.readouterr().out


@pytest.mark.parametrize(
    "call", [["pin", "--as", "x"], ["pin", "ods.gone", "--as", "x"], ["unpin", "ods.gone", "x"], ["pin", "--list", "ods.gone"]],
    ids=" ".join,
)  # fmt: skip
def test_a_pin_of_no_table_is_a_wrong_call(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call) == 2
    assert "found no table" in capsys.readouterr().err or "ods.gone" in call


@pytest.mark.parametrize("call", [["--as", "2026-11-01"], ["--as", "x", "--keep", "soon"], []], ids=" ".join)
def test_a_name_that_could_be_a_time_and_a_time_that_is_none_are_wrong_calls(call: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["pin", "ods.flights", *call])
