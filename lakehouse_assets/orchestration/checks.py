"""A table spec becomes asset checks. Each names its remedy; numbers are plotted.

The sensor records `lag` by itself; all of them can be executed from the UI.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration import complete_check
from lakehouse_assets.orchestration.metadata import (
    debt_metadata,
    describe_sample,
    describe_unknown,
    unknown_metadata,
)
from lakehouse_assets.orchestration.names import definition_name, table_key
from lakehouse_assets.orchestration.resources import LakehouseResource

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from lakehouse_assets.operations.audit import PositionAudit, StampedOffsets
    from lakehouse_assets.operations.status import TableStatus
    from lakehouse_assets.operations.systems import Systems

_DESCRIPTIONS = {
    "lag": "How many messages the table is behind its topic. Too many: see whether the sensor is on and its runs succeed; "
    "then raise 'workers', or 'checks.max_lag' if that much is fine.",
    "freshness": "How long the oldest waiting message can have waited. Too long: see whether the sensor is on and its "
    "runs succeed.",
    "continuity": "No offset is missing from the table; gaps that the topic itself has, and messages that 'where' leaves out, "
    "are known. Otherwise, or after 'where' was changed: materialize the hours of the missing offsets again.",
    "unique_offsets": "No message stands in the table twice. Otherwise: materialize the hours of these offsets again.",
    "quarantine": "Every message could become a row. Otherwise: correct the declaration or the producer, then materialize the "
    "hours of the messages in the quarantine table again.",
    "unknown_fields": "Every field of the newest messages is read by a column. Otherwise: declare the field with the line "
    "that is shown, or a column _rest that keeps all of them.",
    "timestamps": "No message is stamped more than an hour ahead. Such a message belongs to the slice in which it lies; "
    "correct the producer's clock.",
    "debt": "Small files, deleted rows, manifests and snapshots are taken care of as they come. Otherwise: see whether the "
    "sensor 'debt' is on and its runs succeed; then 'lakehouse maintain', or a longer 'maintenance.window'.",
}
# Of tables in which a message is not one row for good, rows say nothing of offsets.
_LEDGER_DESCRIPTIONS = {
    **{name: text for name, text in _DESCRIPTIONS.items() if name != "unique_offsets"},
    "continuity": "The ledger of the table has no hole: every change up to its newest offset was read. Otherwise: materialize "
    "the hours of the missing offsets again.",
}
_UPSERT_DESCRIPTIONS = {
    **_LEDGER_DESCRIPTIONS,
    "key_uniqueness": "No key stands in the table twice. Otherwise somebody else added rows: materialize an hour in which the "
    "key changed, or delete one of them.",
}


_WARNINGS = {"quarantine", "unknown_fields", "debt", "complete"}  # the table itself is right; somebody should look all the same
_LOOKED_AT = 1000  # newest messages, for fields without a column
_EXAMPLES = 10  # of messages in quarantine, to look at in the UI


def describe_checks(spec: TableSpec) -> Mapping[str, str]:
    """The checks that fit a table, by name: what passes, and the remedy where it does not."""
    fitting = _DESCRIPTIONS if spec.has_row_per_message else _UPSERT_DESCRIPTIONS if spec.is_upsert else _LEDGER_DESCRIPTIONS
    return fitting if spec.event_time is None else {**fitting, "complete": complete_check.DESCRIPTION}


def build_checks(spec: TableSpec) -> dg.AssetChecksDefinition:
    """The checks of one table, each of which can be executed alone."""
    specs = [
        dg.AssetCheckSpec(name, asset=table_key(spec), description=description)
        for name, description in describe_checks(spec).items()
    ]

    @dg.multi_asset_check(name=definition_name(spec, "checks"), specs=specs, can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext, lakehouse: LakehouseResource) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        for name in (name for name in describe_checks(spec) if name in selected):
            found = evaluate_check(name, spec, lakehouse.systems)
            yield dg.AssetCheckResult(
                asset_key=found.asset_key,
                check_name=name,
                passed=found.passed,
                severity=found.severity,
                description=found.description,
                metadata=found.metadata,
            )

    return checks


def evaluate_checks(spec: TableSpec, systems: "Systems") -> Iterator[dg.AssetCheckEvaluation]:
    """Every check of a table, as a run records them."""
    for name in describe_checks(spec):
        yield evaluate_check(name, spec, lambda: systems)


def evaluate_check(name: str, spec: TableSpec, systems: "Callable[[], Systems]") -> dg.AssetCheckEvaluation:
    """One check; an error that keeps it from being answered fails it, with the error's sentence."""
    try:
        passed, description, metadata = _CHECKS[name](spec, systems())
    except LakehouseError as error:
        passed, description, metadata = False, str(error), {"error": dg.MetadataValue.text(type(error).__name__)}
    return _evaluation(spec, name, (passed, description, metadata))


def lag_evaluation(spec: TableSpec, status: "TableStatus") -> dg.AssetCheckEvaluation:
    """The `lag` check as the sensor records it."""
    return _evaluation(spec, "lag", _lag(spec, status))


def complete_evaluation(spec: TableSpec, table: "Table") -> dg.AssetCheckEvaluation:
    """The `complete` check as the sensor records it, of a table that was loaded just now."""
    return _evaluation(spec, "complete", complete_check.judge_slices(spec, table, int(time.time() * 1000)))


_Verdict = tuple[bool, str, Mapping[str, dg.MetadataValue[Any]]]


def _evaluation(spec: TableSpec, name: str, verdict: _Verdict) -> dg.AssetCheckEvaluation:
    passed, description, metadata = verdict
    return dg.AssetCheckEvaluation(
        asset_key=table_key(spec),
        check_name=name,
        passed=passed,
        description=description,
        metadata=metadata,
        severity=dg.AssetCheckSeverity.WARN if name in _WARNINGS else dg.AssetCheckSeverity.ERROR,
    )


def _lag(spec: TableSpec, status: "TableStatus") -> _Verdict:
    metadata = {
        "offset_lag": dg.MetadataValue.int(status.lag),
        "max_lag": dg.MetadataValue.int(spec.checks.max_lag),
        "log_end_total": dg.MetadataValue.int(sum(b.stop for b in status.bounds.values())),
    }
    return (
        status.lag <= spec.checks.max_lag,
        f"{spec.table} is {status.lag:,} messages behind {spec.source.label!r}; at most {spec.checks.max_lag:,} are fine.",
        metadata,
    )


def _check_lag(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.waiting import read_waiting

    return _lag(spec, read_waiting(systems, spec))


def _check_freshness(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.waiting import read_waiting

    status = read_waiting(systems, spec)
    limit = spec.checks.max_age.total_seconds()
    waited = status.waited_seconds(int(time.time() * 1000))
    has_begun, age = waited is not None, waited or 0.0
    description = (
        f"the oldest waiting message came after the last commit, {age:.0f} s ago; at most {limit:.0f} s are fine."
        if has_begun
        else f"nothing was committed yet, and {status.lag:,} messages wait."
    )
    return has_begun and age <= limit, description, {"age_seconds": dg.MetadataValue.float(round(age, 1))}


def _load(spec: TableSpec, systems: "Systems") -> "Table | None":
    from lakehouse_assets.systems.catalog import load_table

    return load_table(systems.catalog, spec.table)


def _check_continuity(spec: TableSpec, systems: "Systems") -> _Verdict:
    return (_compare_rows if spec.has_row_per_message else _look_for_holes)(spec, systems)


def _look_for_holes(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.audit import find_holes
    from lakehouse_assets.systems.history import read_ledger

    table = _load(spec, systems)
    ledger = read_ledger(table) if table is not None else None
    if ledger is None or not ledger.held:
        return True, "the table has no rows yet", {}
    holes = find_holes(ledger)
    found = f"holes in the ledger: {holes}" if holes else f"the ledger has every offset of {ledger.held}"
    metadata = {"hole_offsets": dg.MetadataValue.int(holes.span), **_losses_metadata(ledger)}
    return not holes, found + _describe_losses(ledger), metadata


def _losses_metadata(ledger: Ledger) -> Mapping[str, dg.MetadataValue[Any]]:
    return {"accepted_losses": dg.MetadataValue.md("\n".join(f"- {one}" for one in ledger.losses))} if ledger.losses else {}


def _describe_losses(ledger: Ledger) -> str:
    return f"; {len(ledger.losses)} accepted losses" if ledger.losses else ""


def _compare_rows(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.audit import read_lost
    from lakehouse_assets.operations.status import read_status

    if (audited := _audit(spec, systems)) is None:
        return True, "the table has no rows yet", {}
    _, ledger, audit = audited
    status = read_status(systems, spec)
    lost = read_lost(systems, spec, audit.gaps, status.bounds)
    faults: dict[str, object] = {
        "lost": _describe_offsets(spec, lost),
        "holes in the ledger": audit.holes,
        "rows outside the ledger": audit.unledgered,
    }
    found = "; ".join(f"{name}: {ranges}" for name, ranges in faults.items() if ranges)
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "rows_looked_at": dg.MetadataValue.int(audit.row_count),
        "topic_gap_offsets": dg.MetadataValue.int(audit.gaps.span - lost.offsets.span),
        "lost_offsets": dg.MetadataValue.int(lost.offsets.span),
        **_losses_metadata(ledger),
    }
    return not found, (found or f"{audit.row_count:,} rows, no offset missing") + _describe_losses(ledger), metadata


def _check_unique_offsets(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.audit import stamp_duplicates

    if (audited := _audit(spec, systems)) is None:
        return True, "the table has no rows yet", {}
    table, ledger, audit = audited
    metadata = {
        "rows_looked_at": dg.MetadataValue.int(audit.row_count),
        "duplicate_offsets": dg.MetadataValue.int(audit.duplicates.span),
    }
    if not audit.duplicates:
        return True, f"{audit.row_count:,} rows, none twice", metadata
    found = _describe_offsets(spec, stamp_duplicates(table, ledger, audit.duplicates))
    return False, f"twice in the table: {found}", metadata


def _check_key_uniqueness(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.systems.key_audit import audit_keys

    table = _load(spec, systems)
    if table is None:
        return True, "the table has no rows yet", {}
    began = time.monotonic()
    audit = audit_keys(table, spec.key)
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "rows_looked_at": dg.MetadataValue.int(audit.row_count),
        "duplicate_keys": dg.MetadataValue.int(audit.duplicate_keys),
        "seconds": dg.MetadataValue.float(round(time.monotonic() - began, 2)),
    }
    if not audit.duplicate_keys:
        return True, f"{audit.row_count:,} rows, each with a key of its own", metadata
    metadata["examples"] = dg.MetadataValue.table(
        [dg.TableRecord({name: str(value) for name, value in example.items()}) for example in audit.examples]
    )
    first = ", ".join(f"{name} {audit.examples[0][name]}" for name in spec.key)
    return False, f"{audit.duplicate_keys:,} keys stand more than once, among them {first}", metadata


def _check_quarantine(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.quarantine import load_quarantine, read_examples

    table = load_quarantine(systems, spec)
    count, examples = read_examples(table, _EXAMPLES) if table is not None else (0, [])
    metadata: dict[str, dg.MetadataValue[Any]] = {"quarantined_records": dg.MetadataValue.int(count)}
    if not count:
        return True, "no message is in quarantine", metadata
    clock = SliceClock(spec.partitions.every, spec.partitions.start)
    stamps = [example["timestamp"] for example in examples]
    hours = sorted({clock.key(int(stamp.timestamp() * 1000)) for stamp in stamps if stamp is not None})
    metadata["examples"] = dg.MetadataValue.table(
        [dg.TableRecord({name: str(value) for name, value in example.items()}) for example in examples]
    )
    first = examples[0]
    text = (
        f"{count:,} messages are in {spec.quarantine_table}, among them partition {first['partition']} offset "
        f"{first['offset']}: {first['error']}; materialize {', '.join(hours) or 'their hours'} once that is corrected"
    )
    return False, text, metadata


def _check_unknown_fields(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.peek import find_unknown

    unknown = find_unknown(systems, spec, _LOOKED_AT).unkept(has_rest=spec.keeps_rest)
    if not unknown.fields:
        if not unknown.messages:
            return True, "there is no message whose fields could be unknown", unknown_metadata(unknown)
        found = f"every field of the newest {unknown.messages:,} messages is read or kept by a column"
        return True, found, unknown_metadata(unknown)
    return False, f"of the newest {describe_sample(unknown)}: {describe_unknown(unknown)}", unknown_metadata(unknown)


def _describe_offsets(spec: TableSpec, found: "StampedOffsets") -> str:
    """The offsets and the partitions to materialize; empty without offsets."""
    if found.stamps_ms is None:
        return str(found.offsets) if found.offsets else ""
    clock = SliceClock(spec.partitions.every, spec.partitions.start)
    first, last = (clock.key(stamp) for stamp in found.stamps_ms)
    return f"{found.offsets}; materialize {first}" + (f" to {last}" if last != first else "")


def _check_timestamps(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.operations.audit import count_ahead

    table = _load(spec, systems)
    count, newest_ms = count_ahead(table, int(time.time() * 1000)) if table is not None else (0, None)
    metadata = {"rows_ahead": dg.MetadataValue.int(count)}
    if newest_ms is None:
        return True, "no message is stamped ahead of time", metadata
    newest = datetime.fromtimestamp(newest_ms / 1000, UTC)
    return False, f"{count:,} messages are stamped ahead of time, the farthest {newest:%Y-%m-%d %H:%M} UTC", metadata


def _check_debt(spec: TableSpec, systems: "Systems") -> _Verdict:
    from lakehouse_assets.systems.measuring import measure_debt

    if (table := _load(spec, systems)) is None:
        return True, "there is no table yet", {}
    now_ms = int(time.time() * 1000)
    debt = measure_debt(table, spec.maintenance, now_ms)
    late = [str(measure) for measure in debt.measures(spec.maintenance) if measure.is_late]
    due = ", ".join(debt.due(spec.maintenance)) or "nothing"
    held = f"{debt.data_files:,} data files, {debt.manifests:,} manifests, {debt.snapshots:,} snapshots; {due} is due"
    return not late, "; ".join(late) or held, debt_metadata(debt, spec.maintenance, now_ms)


def _check_complete(spec: TableSpec, systems: "Systems") -> _Verdict:
    if (table := _load(spec, systems)) is None:
        return True, "there is no table yet", {}
    return complete_check.judge_slices(spec, table, int(time.time() * 1000))


def _audit(spec: TableSpec, systems: "Systems") -> "tuple[Table, Ledger, PositionAudit] | None":
    from lakehouse_assets.operations.audit import FILTERED_WINDOW_OFFSETS, WINDOW_OFFSETS, audit_positions
    from lakehouse_assets.operations.quarantine import load_quarantine
    from lakehouse_assets.systems.history import read_ledger

    table = _load(spec, systems)
    ledger = read_ledger(table) if table is not None else None
    if table is None or ledger is None or not ledger.held:
        return None
    window = WINDOW_OFFSETS if spec.where is None else FILTERED_WINDOW_OFFSETS
    return table, ledger, audit_positions(table, ledger, load_quarantine(systems, spec), window)


_CHECKS: dict[str, Callable[[TableSpec, "Systems"], _Verdict]] = {
    "lag": _check_lag,
    "freshness": _check_freshness,
    "continuity": _check_continuity,
    "unique_offsets": _check_unique_offsets,
    "key_uniqueness": _check_key_uniqueness,
    "quarantine": _check_quarantine,
    "unknown_fields": _check_unknown_fields,
    "timestamps": _check_timestamps,
    "debt": _check_debt,
    "complete": _check_complete,
}
