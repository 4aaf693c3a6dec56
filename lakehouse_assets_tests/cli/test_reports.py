"""How reports of maintenance are printed: sentences and tables for people, one document each for scripts."""

import json
from typing import Any

import pytest

from lakehouse_assets.cli.maintenance import print_report
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork

PLAN = PlannedWork(
    ("partition", "files", "size_bytes", "snapshot_id", "written_ms"),
    [("day=2026-11-27", 1200, 3 * 2**20, 9_007_199_254_740_993, 1_790_000_000_000), ("x\x1b[2J", 6, 700, 1, 0)],
    {"files": 1206, "size_bytes": 3 * 2**20 + 700},
)
DONE = {"files_before": 1206, "files_after": 2, "size_bytes_before": 5 * 2**30, "size_bytes_after": 2**20, "rows": 10_000_000}
ZERO = {"delete_files_before": 0, "delete_files_after": 0, "files_deleted": 0}
KEPT = (KeptBack("partition day=2026-11-26", "others changed it meanwhile"),)


def make_report(**parts: Any) -> MaintenanceReport:
    return MaintenanceReport(**{"table": "ods.clicks", "operation": "compact", "is_dry_run": False, "planned": PLAN} | parts)


def test_a_dry_run_is_a_table_that_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(make_report(is_dry_run=True, kept_back=KEPT), as_json=False)

    assert capsys.readouterr().out.splitlines() == [
        "compact ods.clicks: would do",
        "partition       files     size       snapshot id  written",
        "--------------  -----  -------  ----------------  -----------------------------",
        "day=2026-11-27  1,200  3.0 MiB  9007199254740993  2026-09-21T14:13:20.000+00:00",
        "x\\x1b[2J            6    700 B                 1  1970-01-01T00:00:00.000+00:00",
        "in all: files 1,206, size 3.0 MiB",
        "  kept back: partition day=2026-11-26: others changed it meanwhile",
    ]


def test_what_was_done_is_one_line_with_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(make_report(figures=DONE | ZERO, seconds=12.34), as_json=False)
    print_report(make_report(planned=PlannedWork((), ()), figures={"files_before": 3, "files_after": 3}), as_json=False)
    print_report(make_report(planned=PlannedWork((), ()), is_dry_run=True), as_json=False)
    print_report(make_report(planned=PlannedWork((), ()), kept_back=KEPT), as_json=False)

    assert capsys.readouterr().out.splitlines() == [
        "compact ods.clicks: files 1,206 -> 2, size 5.0 GiB -> 1.0 MiB, rows 10,000,000; 12.3 s",
        "compact ods.clicks: nothing to do; 0.0 s",
        "compact ods.clicks: nothing to do",
        "compact ods.clicks: nothing was done; 0.0 s",
        "  kept back: partition day=2026-11-26: others changed it meanwhile",
    ]


def test_a_document_has_numbers_as_numbers_and_snapshots_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(make_report(figures=DONE, kept_back=KEPT, snapshot_ids=(2**60,), seconds=1.5), as_json=True)

    document = json.loads(capsys.readouterr().out)
    assert document["planned"][0] == {
        "partition": "day=2026-11-27", "files": 1200, "size_bytes": 3 * 2**20, "snapshot_id": "9007199254740993",
        "written_ms": 1_790_000_000_000,
    }  # fmt: skip
    assert document["figures"] == DONE
    assert document["planned_figures"] == {"files": 1206, "size_bytes": 3 * 2**20 + 700}
    assert document["kept_back"] == [{"what": "partition day=2026-11-26", "reason": "others changed it meanwhile"}]
    assert (document["table"], document["operation"], document["dry_run"]) == ("ods.clicks", "compact", False)
    assert (document["snapshot_ids"], document["seconds"]) == ([str(2**60)], 1.5)
