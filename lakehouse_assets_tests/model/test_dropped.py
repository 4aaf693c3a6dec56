"""The name of a dropped table tells where it was and when it was dropped."""

import pytest

from lakehouse_assets.model.dropped import DroppedTable

AT_MS = 1_795_767_000_000  # 2026-11-27 08:10:00 UTC
DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize("table", ["ods.clicks", "ods.clicks__quarantine", "my_ods.two_words", "ods._hidden", "Ods.Clicks"])
@pytest.mark.parametrize("is_purging", [False, True])
def test_a_name_is_read_as_it_was_written(table: str, *, is_purging: bool) -> None:
    dropped = DroppedTable(table, AT_MS, is_purging)

    assert dropped.can_be_named
    assert DroppedTable.parse(dropped.name) == dropped


def test_a_name_says_where_when_and_whether_there_is_a_way_back() -> None:
    assert DroppedTable("ods.clicks", AT_MS + 999).full_name == "lakehouse_dropped.ods__clicks__20261127t081000"
    assert DroppedTable("ods.clicks", AT_MS, is_purging=True).name == "ods__clicks__20261127t081000__purging"


@pytest.mark.parametrize("table", ["a.b.clicks", "my__ods.clicks", "ods_.clicks"])
def test_a_namespace_that_would_be_mistaken_is_noticed(table: str) -> None:
    assert not DroppedTable(table, AT_MS).can_be_named


@pytest.mark.parametrize("name", ["clicks", "ods__clicks", "ods__clicks__20261399t999999", "ods__clicks__20261127"])
def test_what_others_put_there_is_no_dropped_table(name: str) -> None:
    assert DroppedTable.parse(name) is None


def test_it_can_be_had_back_for_a_day_but_not_while_its_files_are_deleted() -> None:
    dropped = DroppedTable("ods.clicks", AT_MS)

    assert dropped.undo_until_ms == AT_MS + DAY_MS
    assert not dropped.is_overdue(AT_MS + DAY_MS - 1)
    assert dropped.is_overdue(AT_MS + DAY_MS)
    assert DroppedTable("ods.clicks", AT_MS, is_purging=True).is_overdue(AT_MS)
