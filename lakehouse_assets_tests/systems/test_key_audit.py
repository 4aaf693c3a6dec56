"""A key that stands twice is found, and nothing else is."""

import pyarrow as pa
import pytest

from lakehouse_assets.systems.key_audit import MAX_EXAMPLES, KeyAudit, audit_keys
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.systems.keys import KEYS
from lakehouse_assets_tests.systems.merges import NAME, Merger, make_changes, make_upsert_spec


def test_a_table_without_rows_has_no_duplicates(catalog: FaultyCatalog) -> None:
    assert audit_keys(Merger(catalog).table, ["id"]) == KeyAudit()


@pytest.mark.parametrize("partition_by", [[], ["bucket(4, id)"], ["truncate(1, text)"]], ids=["none", "key", "other"])
@pytest.mark.parametrize("memory_bytes", [2**27, 2_000])
def test_keys_that_stand_more_than_once_are_counted(
    catalog: FaultyCatalog, partition_by: list[str], memory_bytes: int
) -> None:
    merger = Merger(catalog, make_upsert_spec(partition_by=partition_by))
    for text in "ab":
        merger.put(dict.fromkeys(range(1000), text) | {7: None})
    assert audit_keys(merger.table, ["id"], memory_bytes) == KeyAudit(999)

    for _ in range(2):
        foreign = {"id": range(985, 1015), "text": ["b"] * 30}
        merger.table.append(pa.table(foreign, schema=merger.table.schema().select("id", "text").as_arrow()))
    delete_rows(catalog, NAME, "id", range(990, 1000))

    found = audit_keys(merger.table, ["id"], memory_bytes)
    assert (found.row_count, found.duplicate_keys, found.surplus_rows) == (999 - 10 + 60 - 20, 5 + 15, 10 + 15)
    assert len(found.examples) == MAX_EXAMPLES
    assert all(985 <= example["id"] < 1015 for example in found.examples)  # type: ignore[operator]


@pytest.mark.parametrize("key_type", KEYS)
def test_keys_of_every_type_are_told_apart_also_where_they_do_not_fit(catalog: FaultyCatalog, key_type: str) -> None:
    merger = Merger(catalog, make_upsert_spec(key_type))
    schema = merger.table.schema().select("id", "text").as_arrow()
    merger.merge(make_changes(dict.fromkeys(KEYS[key_type], "once"), schema.field("id").type))
    assert audit_keys(merger.table, ["id"], memory_bytes=300) == KeyAudit(len(KEYS[key_type]))

    one = KEYS[key_type][-1]
    merger.table.append(pa.table({"id": pa.array([one], schema.field("id").type), "text": ["twice"]}, schema=schema))

    (example,) = (found := audit_keys(merger.table, ["id"], memory_bytes=300)).examples
    assert found == KeyAudit(len(KEYS[key_type]) + 1, 1, 1, (example,))
    assert example["rows"] == 2
    assert str(example["id"]) == str(pa.array([one], schema.field("id").type)[0].as_py())
