"""A declaration moves on while its table is filled: nothing is lost, nothing twice, every row stays readable."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.types import LongType

from lakehouse_assets.model.errors import CommitConflictError, TableDiffersError
from lakehouse_assets.model.unknown import UnknownFields
from lakehouse_assets.operations.replay import ReplayResult, run_replay
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import make_spec
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault, FaultyCatalog
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
ID = {"name": "id", "type": "long", "required": True}
TEXT = {"name": "text", "type": "string"}
PRICE = {"name": "price", "type": "double"}


def declaring(table: Lake, *columns: dict[str, Any], **parts: Any) -> Lake:
    """The same table through other clients, by another declaration."""
    other = table.reopened()
    other.spec = make_spec(table.topic, schema=list(columns), **parts)
    return other


def send(table: Lake, *messages: dict[str, Any], **how: Any) -> None:
    table.broker.produce(table.topic, [json.dumps(message).encode() for message in messages], **how)


def rows(table: Lake, columns: str = "*") -> list[tuple[object, ...]]:
    return judge.query(table.table, f"SELECT {columns} FROM {{table}} ORDER BY _kafka_offset")


def catalog_of(table: Lake) -> FaultyCatalog:
    assert isinstance(table.systems.catalog, FaultyCatalog)
    return table.systems.catalog


def change_by_hand(table: Lake, change: Callable[[Any], object]) -> Callable[[], None]:
    def step() -> None:
        with table.reopened().table.update_schema() as update:
            change(update)

    return step


def reported(table: Lake) -> list[list[str]]:
    """Changes of columns by commit."""
    return [[str(change) for change in report.schema_change.changes] if report.schema_change else [] for report in table.reports]


def test_a_change_is_reported_with_before_and_after_by_the_next_commit_of_ours_whoever_made_it(lake: MakeLake) -> None:
    table = lake(schema=[{"name": "id", "type": "int"}])
    send(table, {"id": 1})
    table.ingest()
    newer = declaring(table, {"name": "id", "type": "long", "doc": "Number."}, {"name": "s", "type": "struct<a:int,b:string>"})
    EFFECTS.arm(Fault("commit", "after", faults.crash))
    with pytest.raises(Crash):
        newer.ingest()
    EFFECTS.arm(None)
    change_by_hand(newer, lambda update: update.add_column("theirs", LongType()))()
    send(table, {"id": 2})
    newer = declaring(table, {"name": "id", "type": "long", "doc": "Number."}, {"name": "s", "type": "struct<a:int,b:string>"})
    newer.ingest()
    send(table, {"id": 3})
    newer.ingest()
    send(table, {"id": 4})
    declaring(table, {"name": "id", "type": "long"}).ingest()

    assert reported(table) == [[]]
    assert reported(newer) == [
        [
            "id: int '' -> long 'Number.'",
            "s: no such column -> struct<a: int, b: string>",
            "theirs: no such column -> long",
        ],
        [],
    ]
    change = newer.reports[0].schema_change
    assert change is not None
    assert [(c.name, c.type, c.doc) for c in change.columns if not c.name.startswith("_")] == [
        ("id", "long", "Number."), ("s", "struct<a: int, b: string>", ""), ("theirs", "long", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_new_and_wider_columns_are_filled_from_the_first_run_of_the_new_declaration(lake: MakeLake, workers: int) -> None:
    table = lake(topic_partitions=2, schema=[{"name": "id", "type": "int"}], workers=workers)
    send(table, {"id": 1, "price": 0.5})
    table.ingest()
    first = table.table.current_snapshot()

    newer = declaring(table, PRICE, {"name": "id", "type": "long"}, workers=workers)
    send(table, {"id": 2**40, "price": 1.5}, {"id": 3})
    send(table, {"id": 4, "price": 4.5}, partition=1)
    newer.ingest()

    newer.assert_holds({0: [0, 1, 2], 1: [0]})
    assert sorted(rows(newer, "id, price"), key=str) == sorted([(1, None), (2**40, 1.5), (3, None), (4, 4.5)], key=str)
    assert first is not None
    assert judge.count_rows(newer.table, first.snapshot_id) == 1


def test_a_replaced_hour_gets_the_values_of_new_columns(lake: MakeLake) -> None:
    table = lake(schema=[ID])
    send(table, {"id": 1, "price": 0.5}, timestamp_ms=hours_ago(2))
    send(table, {"id": 2, "price": 1.5}, timestamp_ms=hours_ago(1))
    table.ingest()

    newer = declaring(table, ID, PRICE)
    newer.replace(newer.key(hours_ago(1)))

    newer.assert_holds({0: [0, 1]})
    assert rows(newer, "id, price") == [(1, None), (2, 1.5)]


def test_a_column_that_left_the_declaration_stays_and_new_rows_are_null_in_it(lake: MakeLake) -> None:
    table = lake(schema=[ID, {**TEXT, "required": True}])
    send(table, {"id": 1, "text": "a"})
    table.ingest()

    newer = declaring(table, ID)
    send(table, {"id": 2, "text": "b"}, {"id": 3})
    newer.ingest()

    assert rows(newer, "id, text") == [(1, "a"), (2, None), (3, None)]


def test_a_narrower_declaration_is_refused_and_names_column_old_and_new_type(lake: MakeLake) -> None:
    table = lake(schema=[ID])
    send(table, {"id": 1})
    table.ingest()

    with pytest.raises(TableDiffersError, match="column id is declared int, the table has long, which can't be narrowed"):
        declaring(table, {**ID, "type": "int"}).ingest()

    table.assert_holds({0: [0]})


def test_a_policy_of_quarantine_keeps_what_does_not_fit_and_evolving_moves_it(lake: MakeLake) -> None:
    table = lake(schema=[{"name": "id", "type": "int"}])
    send(table, {"id": 1})
    table.ingest()
    before = table.table.schema()

    strict = declaring(table, {"name": "id", "type": "long"}, PRICE, on_schema_change="quarantine")
    send(table, {"id": 2, "price": 1.5}, {"id": 3}, {"id": 2**40}, {"id": "x"}, {"id": 5, "price": None})
    strict.ingest()

    strict.assert_holds({0: [0, 2, 5]}, bad={0: [1, 3, 4]})
    assert strict.table.schema() == before
    assert strict.quarantine is not None
    found = judge.query(strict.quarantine, 'SELECT "offset", error_code, error FROM {table} ORDER BY "offset"')
    assert [row[1] for row in found] == ["schema_changed", "schema_changed", "wrong_type"]
    assert found[0][2] == "field 'price' has a value, expected none: the table has no such column yet"
    assert strict.reports[-1].bad_codes == {"schema_changed": 2, "wrong_type": 1}

    strict.replace(strict.key(hours_ago(0)))
    strict.assert_holds({0: [0, 2, 5]}, bad={0: [1, 3, 4]})

    evolved = declaring(table, {"name": "id", "type": "long"}, PRICE)
    evolved.replace(evolved.key(hours_ago(0)))

    evolved.assert_holds({0: [0, 1, 2, 3, 5]}, bad={0: [4]})
    assert rows(evolved, "id, price") == [(1, None), (2, 1.5), (3, None), (2**40, None), (5, None)]


def test_a_replay_evolves_the_table_and_moves_what_did_not_fit(lake: MakeLake) -> None:
    table = lake(schema=[ID])
    send(table, {"id": 1})
    table.ingest()
    strict = declaring(table, ID, PRICE, on_schema_change="quarantine")
    send(table, {"id": 2, "price": 1.5}, {"id": 3})
    strict.ingest()
    table.broker.delete_records(table.topic, {0: 3})
    assert run_replay(strict.systems, strict.spec, clock_ms) == ReplayResult(moved=0, still_bad=1)

    evolved = declaring(table, ID, PRICE)
    assert run_replay(evolved.systems, evolved.spec, clock_ms) == ReplayResult(moved=1, still_bad=0)

    evolved.assert_holds({0: [0, 1, 2]})
    assert rows(evolved, "id, price") == [(1, None), (2, 1.5), (3, None)]


def test_a_replay_whose_table_changes_meanwhile_stages_again(lake: MakeLake) -> None:
    table = lake(schema=[ID])
    table.broker.produce(table.topic, [b'{"id": 1}', b'{"id": "7", "number": 7}'])
    table.ingest()
    fixed = declaring(table, {**ID, "from": "number"})
    heard: list[type[Exception]] = []
    catalog_of(fixed).before_commit = [change_by_hand(fixed, lambda update: update.add_column("theirs", LongType()))]
    result = run_replay(fixed.systems, fixed.spec, clock_ms, lambda error, _: heard.append(type(error)))

    assert result == ReplayResult(moved=1, still_bad=0)
    assert heard == [CommitConflictError]
    assert rows(fixed, "id") == [(1,), (7,)]


def test_a_policy_of_fail_writes_nothing(lake: MakeLake) -> None:
    table = lake(schema=[ID])
    send(table, {"id": 1})
    table.ingest()
    send(table, {"id": 2, "price": 1.5})

    with pytest.raises(TableDiffersError, match="price: no such column -> double"):
        declaring(table, ID, PRICE, on_schema_change="fail").ingest()

    table.assert_holds({0: [0]}, lag=1)


def test_a_run_in_flight_when_a_newer_declaration_evolves_its_table_stages_again_and_narrows_nothing(lake: MakeLake) -> None:
    table = lake(schema=[{"name": "id", "type": "int"}])
    send(table, {"id": 1})
    table.ingest()
    send(table, {"id": 2, "price": 1.5})
    newer = declaring(table, {"name": "id", "type": "long"}, PRICE)
    older = table.reopened()
    catalog_of(older).before_commit = [lambda: newer.ingest() and None]
    older.ingest()
    send(table, {"id": 3, "price": 2.5})

    newer.ingest()

    newer.assert_holds({0: [0, 1, 2]})
    assert rows(newer, "id, price") == [(1, None), (2, 1.5), (3, 2.5)]
    assert newer.table.schema().find_field("id").field_type == LongType()


def test_an_older_declaration_in_flight_lands_its_rows_in_the_newer_table(lake: MakeLake) -> None:
    table = lake(schema=[{"name": "id", "type": "int"}])
    send(table, {"id": 1})
    table.ingest()
    newer = declaring(table, {"name": "id", "type": "long"}, PRICE)
    send(table, {"id": 2, "price": 1.5})
    older = table.reopened()

    def evolve_only() -> None:
        newer.replace(newer.key(hours_ago(30)))  # an hour without messages

    catalog_of(older).before_commit = [evolve_only]

    older.ingest()

    assert [type(error) for error in older.retries] == [CommitConflictError]
    older.assert_holds({0: [0, 1]})
    assert rows(older, "id, price") == [(1, None), (2, None)]


@pytest.mark.parametrize(
    "change",
    [
        lambda update: update.add_column("theirs", LongType()),
        lambda update: update.update_column("n", LongType()),
        lambda update: update.update_column("n", doc="Theirs."),
    ],
    ids=["a column added", "a column widened", "a description"],
)  # fmt: skip
@pytest.mark.parametrize("replaces", [False, True], ids=["ingest", "replace"])
def test_a_schema_that_somebody_changes_between_staging_and_commit_is_staged_for_again(
    lake: MakeLake, change: Callable[[Any], object], replaces: bool
) -> None:
    table = lake(schema=[ID, {"name": "n", "type": "int"}])
    send(table, {"id": 1, "n": 1})
    table.ingest()
    send(table, {"id": 2, "n": 2})
    catalog_of(table).before_commit = [change_by_hand(table, change)]

    if replaces:
        table.replace(table.key(hours_ago(0)))
    else:
        table.ingest()

    assert [type(error) for error in table.retries] == [CommitConflictError]
    table.assert_holds({0: [0, 1]})
    assert rows(table, "id, n") == [(1, 1), (2, 2)]


def test_a_layout_that_somebody_changes_between_staging_and_commit_is_staged_for_again(lake: MakeLake) -> None:
    table = lake(schema=[ID])
    send(table, {"id": 1})
    table.ingest()
    send(table, *[{"id": i} for i in range(2, 30)])

    def partition() -> None:
        with table.reopened().table.update_spec() as update:
            update.add_identity("id")

    catalog_of(table).before_commit = [partition]
    table.ingest()

    assert [type(error) for error in table.retries] == [CommitConflictError]
    table.assert_holds({0: list(range(29))})
    assert all(table.table.scan(f"id = {i}").to_arrow().num_rows == 1 for i in range(1, 30))


def test_a_column_that_somebody_drops_between_staging_and_commit_stops_the_run(lake: MakeLake) -> None:
    table = lake(schema=[ID, TEXT])
    send(table, {"id": 1, "text": "a"})
    table.ingest()
    send(table, {"id": 2, "text": "b"})
    catalog_of(table).before_commit = [change_by_hand(table, lambda update: update.delete_column("text"))]

    with pytest.raises(TableDiffersError, match="column text string is declared, and was dropped"):
        table.ingest()

    assert table.positions() == [(0, 0)]


def test_a_quarantine_table_changed_by_hand_takes_messages_all_the_same(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [b"nonsense"])
    table.ingest()
    send(table, {"id": 1})
    table.broker.produce(table.topic, [b"nonsense again"])

    def change() -> None:
        found = table.reopened().quarantine
        assert found is not None
        with found.update_schema() as update:
            update.add_column("seen", LongType())

    catalog_of(table).before_commit = [change]
    table.ingest()

    table.assert_holds({0: [1]}, bad={0: [0, 2]})


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_fields_without_a_column_travel_with_the_commit_whose_rows_lack_them(lake: MakeLake, workers: int) -> None:
    table = lake(topic_partitions=2, schema=[ID], workers=workers)
    send(table, {"id": 1, "price": 0.5}, {"id": 2}, {"id": "bad", "price": 1})
    send(table, {"id": 3, "price": 3, "user": {"name": "x"}}, {"id": 4}, partition=1)
    table.ingest()
    send(table, {"id": 5})
    table.ingest()

    total, clean = UnknownFields(), table.reports[-1].unknown
    for report in table.reports[:-1]:
        total = total.joined(report.unknown)
    assert [(f.name, f.count, f.kind, total.share(f)) for f in total.ranked] == [
        ("price", 2, "double", 0.5), ("user", 1, "struct<name: string>", 0.25),
    ]  # fmt: skip
    assert (clean.messages, clean.fields) == (1, {})


def test_a_field_moves_from_the_rest_into_its_own_column_when_it_is_declared(lake: MakeLake) -> None:
    rest = {"name": "_rest", "type": "string"}
    table = lake(schema=[ID, rest])
    send(table, {"id": 1, "price": 0.5, "note": "a"}, {"id": 2})
    table.ingest()
    assert rows(table, "id, _rest") == [(1, '{"price":0.5,"note":"a"}'), (2, None)]

    newer = declaring(table, ID, PRICE, rest)
    send(table, {"id": 3, "price": 1.5, "note": "b"})
    newer.ingest()
    assert rows(newer, "price, _rest")[-1] == (1.5, '{"note":"b"}')

    newer.replace(newer.key(hours_ago(0)))
    assert rows(newer, "price, _rest") == [(0.5, '{"note":"a"}'), (None, None), (1.5, '{"note":"b"}')]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["commits", "every"])
def test_a_crash_between_any_effects_of_an_evolving_run_is_mended_by_the_next(lake: MakeLake, tmp_path: Path, every: bool) -> None:
    model = lake(schema=[{"name": "id", "type": "int"}])
    send(model, {"id": 1, "price": 0.5})
    model.ingest()
    send(model, {"id": 2**40, "price": 1.5})
    columns = [{"name": "id", "type": "long"}, PRICE]
    evolving = declaring(model, *columns)
    EFFECTS.arm(None)
    evolving.ingest()
    effects = [seen.split()[0] for seen in EFFECTS.seen]
    at = [i for i, kind in enumerate(effects) if every or kind == "commit"]
    assert effects.count("commit") == 2

    for number in at:
        table = Lake.open(tmp_path / f"crash{number}", model.broker, model.topic, schema=[{"name": "id", "type": "int"}])
        EFFECTS.arm(None)
        table.spec = make_spec(table.topic, schema=[{"name": "id", "type": "int"}], source={"start": "latest"})
        table.ingest()
        EFFECTS.arm(Fault(number, "after", faults.crash))
        table.spec = make_spec(table.topic, schema=columns)
        with pytest.raises(Crash):
            table.replace(table.key(hours_ago(0)))
        EFFECTS.arm(None)

        table.reopened()
        again = declaring(table, *columns)
        again.replace(again.key(hours_ago(0)))

        again.assert_holds({0: [0, 1]})
        assert rows(again, "id, price") == [(1, 0.5), (2**40, 1.5)]
