"""`lakehouse plan`: what a run would change in the table's columns, and read, now; or what materialising an hour would."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from lakehouse_assets.cli.printing import add_json, print_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.offsets import TopicRanges
    from lakehouse_assets.model.spec import TableSpec
    from lakehouse_assets.model.sql_table_spec import SqlTableSpec
    from lakehouse_assets.operations.systems import Systems

HELP = "what a run, or materializing an hour, would change and read now; creates and writes nothing"
_WRONG_CALL = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name")
    parser.add_argument("--partition", metavar="KEY", help="materialize this hour or day, as 2026-11-27-03:00 or 2026-11-27")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print what of the columns would change, and the ranges of offsets that the table lacks."""
    from lakehouse_assets.cli.tables import choose_computed, choose_tables, open_systems
    from lakehouse_assets.operations.decoding import resolve_columns
    from lakehouse_assets.operations.status import read_status
    from lakehouse_assets.systems.catalog import plan_changes
    from lakehouse_assets.systems.schema import TableShape

    for computed in choose_computed(environment, [arguments.table]):
        return _plan_computed(arguments, environment, computed)
    (declared,) = choose_tables(environment, [arguments.table])
    systems = open_systems(environment)
    spec = resolve_columns(systems, declared)
    if arguments.partition is not None:
        return _plan_partition(systems, spec, arguments.partition, as_json=arguments.json)
    changes = plan_changes(systems.catalog, TableShape.declared(spec))
    status = read_status(systems, spec)
    if arguments.json:
        print_json(
            table=spec.table, topic=spec.source.label, mode=spec.mode, key=list(spec.key), creates_table=status.ledger is None,
            lag=status.lag, changes=[{"column": c.column, "before": c.before, "after": c.after} for c in changes],
            reads=_ranges(status.missing),
        )  # fmt: skip
        return 0
    if status.ledger is None:
        rows = f", one row per {', '.join(spec.key)}" if spec.is_upsert else ""
        print(f"would create {spec.table}{rows}")
    for change in changes:
        print(f"would change {change}")
    _print_ranges("would read", status.missing, "")
    if not status.missing:
        print(f"{spec.table} has everything")
    return 0


def _plan_computed(arguments: argparse.Namespace, environment: "Environment", spec: "SqlTableSpec") -> int:
    from lakehouse_assets.cli.computed import plan_run, print_plan
    from lakehouse_assets.cli.tables import now_ms, open_catalog
    from lakehouse_assets.model.slices import TimeSlice

    clock, key = spec.clock, arguments.partition
    try:
        within = TimeSlice(*clock.window_ms(key)) if clock is not None and key is not None else None
    except ValueError:
        within = None
    if key is not None and within is None:
        allowed = f"as {clock.key(now_ms())}" if clock is not None else "no partition: the table is computed as a whole"
        print(f"--partition: found {key!r}; allowed: {allowed}", file=sys.stderr)
        return _WRONG_CALL
    plan = plan_run(open_catalog(environment), spec, within)
    if arguments.json:
        print_json(**plan)
    else:
        print_plan(plan)
    return 0


def _plan_partition(systems: "Systems", spec: "TableSpec", key: str, *, as_json: bool) -> int:
    from lakehouse_assets.cli.tables import now_ms
    from lakehouse_assets.model.slices import SliceClock
    from lakehouse_assets.operations.preview import preview

    clock = SliceClock(spec.partitions.every, spec.partitions.start)
    try:
        clock.window_ms(key)
    except ValueError:
        form = "an hour" if clock.every == "hour" else "a day"
        print(f"--partition: found {key!r}; allowed: {form} as {clock.key(now_ms())}", file=sys.stderr)
        return _WRONG_CALL
    found = preview(systems, spec, [key], now_ms)
    if as_json:
        print_json(
            table=spec.table, topic=spec.source.label, mode=spec.mode, partition=key, creates_table=found is None,
            reads_again=_ranges(found.again) if found else [], reads=_ranges(found.onward) if found else [],
        )  # fmt: skip
        return 0
    if found is None:
        print(f"there is no {spec.table} yet; a run would create it")
        return 0
    if spec.is_upsert:
        _print_ranges("would read again", found.again, f", from the start of {key} to where the table stands")
        _print_ranges("would read", found.onward, f", to the end of {key}")
        print(
            "rows whose keys have a change there become what the log says, also those that somebody else changed or deleted; "
            "all others stay as they are"
        )
    else:
        _print_ranges("would replace the rows of", found.again, "")
        _print_ranges("would read", found.onward, "")
    if not found.again and not found.onward:
        print(f"Kafka has no message of {key}")
    return 0


def _ranges(ranges: "TopicRanges") -> list[dict[str, Any]]:
    return [
        {**log._asdict(), "first_offset": r.start, "last_offset": r.stop - 1}
        for log, held in ranges.partitions.items()
        for r in held
    ]


def _print_ranges(what: str, ranges: "TopicRanges", where: str) -> None:
    for log, held in ranges.partitions.items():
        for r in held:
            print(f"{what} {log} offsets {r.start} to {r.stop - 1}, at most {r.stop - r.start:,} messages{where}")
