"""A table spec becomes assets: its topic, and the table itself, partitioned by hour or day.

No logic lives here: a body opens the systems, calls an operation and reports what it hears.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.checking import ChecksBeside
from lakehouse_assets.orchestration.checks import evaluate_checks
from lakehouse_assets.orchestration.following import Relay
from lakehouse_assets.orchestration.metadata import (
    Metadata,
    commit_line,
    commit_metadata,
    describe_table,
    quarantine_metadata,
    quarantine_table_metadata,
    table_metadata,
)
from lakehouse_assets.orchestration.names import (
    IO_MANAGER,
    KAFKA_TIME,
    ROWLESS_TAG,
    SLICES_TAG,
    definition_name,
    quarantine_key,
    table_key,
    topic_key,
    topic_keys,
)
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.orchestration.slice_metadata import PARTITION_ROWS
from lakehouse_assets.orchestration.stopping import stop_at_boundary

if TYPE_CHECKING:
    from lakehouse_assets.operations.ingest import CommitReport
    from lakehouse_assets.operations.systems import Systems



class MaterializeConfig(dg.Config):
    """How to materialize. The default is right for people; the sensor says `continue`, or `follow`."""

    mode: Literal["replace", "continue", "follow"] = "replace"


def build_topic_assets(specs: Sequence[TableSpec]) -> list[dg.AssetSpec]:
    """The external assets of the topics that tables are downstream of; a pattern is one."""
    labels = {topic_key(topic): f"Kafka topic `{topic}`." for spec in specs for topic in spec.source.named_topics}
    labels |= {
        topic_key(pattern): f"Every Kafka topic that matches `{pattern}`."
        for spec in specs
        if (pattern := spec.source.topic_pattern) is not None
    }
    return [
        dg.AssetSpec(key=key, group_name="kafka", kinds={"kafka"}, description=text) for key, text in sorted(labels.items())
    ]


def build_quarantine_asset(spec: TableSpec) -> dg.AssetSpec:
    """The external asset of the quarantine table; the table's own runs report what they put there."""
    return dg.AssetSpec(
        key=quarantine_key(spec),
        deps=topic_keys(spec),
        group_name=spec.namespace,
        owners=list(spec.owners),
        kinds={"iceberg"},
        description=f"Messages of `{spec.source.label}` that can't become rows of `{spec.table}`, as they came, and why. "
        "After the declaration was corrected, materialize their hours: what can be read then moves into the table.",
        metadata=quarantine_table_metadata(spec),
    ).with_io_manager_key(IO_MANAGER)


def build_table_asset(spec: TableSpec) -> dg.AssetsDefinition:
    """The asset of a table. Materializing replaces slices, unless the configuration says `continue`."""

    @dg.multi_asset(
        name=definition_name(spec, "table"),
        specs=[
            dg.AssetSpec(
                key=table_key(spec),
                deps=topic_keys(spec),
                skippable=True,  # each slice is reported when it lands, not once at the end
                description=describe_table(spec),
                metadata=table_metadata(spec),
                group_name=spec.namespace,
                owners=list(spec.owners),
                tags={SLICES_TAG: KAFKA_TIME},
                kinds={"iceberg", "upsert"} if spec.is_upsert else {"iceberg"},
            ).with_io_manager_key(IO_MANAGER)
        ],
        partitions_def=build_partitions(SliceClock(spec.partitions.every, spec.partitions.start)),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def table(
        context: dg.AssetExecutionContext, config: MaterializeConfig, lakehouse: LakehouseResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        run = _TableRun(context, spec)
        with stop_at_boundary() as stop:
            try:
                if config.mode != "replace":
                    run.ingest(lakehouse, stop, follows=config.mode == "follow")
                elif spec.is_upsert:
                    yield from run.fold_again(lakehouse, stop)
                else:
                    yield from run.replace(lakehouse, stop)
            except LakehouseError as error:
                # The sentence is the whole story; what can pass by itself was tried again already.
                raise dg.Failure(description=str(error), allow_retries=False) from error

    return table


class _TableRun:
    """One run of one table: calls the operation, reports each landed commit."""

    def __init__(self, context: dg.AssetExecutionContext, spec: TableSpec) -> None:
        self._context, self._spec = context, spec
        self._clock = SliceClock(spec.partitions.every, spec.partitions.start)

    def ingest(self, lakehouse: LakehouseResource, stop: Callable[[], bool], *, follows: bool) -> None:
        from lakehouse_assets.operations.following import rehearse, run_follow
        from lakehouse_assets.operations.ingest import run_ingest

        systems = lakehouse.systems()
        relay = Relay(self._context.instance, self._context.run, self._spec, stop, follows=follows)
        if relay.succeeds:
            rehearse(systems, self._spec, _now_ms)
        relay.begin()

        with ChecksBeside(self._spec, systems, self._context.log_event) as checks:

            def report(commit: "CommitReport") -> None:
                self._report_commit(commit)
                checks.look()

            end = relay.find_reason_to_end
            ingest = partial(run_follow, find_reason_to_end=end) if follows else partial(run_ingest, stop=stop)
            result = ingest(systems, self._spec, on_commit=report, on_retry=self._report_retry, now_ms=_now_ms)
            self._context.instance.add_run_tags(
                self._context.run.run_id, {ROWLESS_TAG: json.dumps(result.rowless.to_lists())}
            )
        self._context.log.info(f"{result.ended}: {result.row_count:,} rows in {result.commits} commits")

    def replace(self, lakehouse: LakehouseResource, stop: Callable[[], bool]) -> Iterator[dg.MaterializeResult[Any]]:
        """Replace the run's slices. Several are reported as they land; a single one is the step's result."""
        from lakehouse_assets.operations.replace import run_replace

        keys = list(self._context.partition_keys)
        self._context.log.info(f"replacing {len(keys)} {self._spec.partitions.every}s, {min(keys)} to {max(keys)}")
        landed: dict[str, Metadata] = {}

        def report(key: str, commit: "CommitReport | None") -> None:
            landed[key] = self._describe_slice(key, commit)
            if len(keys) > 1:
                self._materialized(key, landed[key])

        systems = lakehouse.systems()
        done = run_replace(
            systems,
            self._spec,
            keys,
            stop=stop,
            on_slice=report,
            on_retry=self._report_retry,
            now_ms=_now_ms,
        )
        if len(done) < len(keys):
            self._context.log.warning(f"stopped after {len(done)} of {len(keys)}; the others are as they were")
        elif len(keys) == 1:
            yield dg.MaterializeResult(metadata=landed[keys[0]])
        else:
            self._record_checks(systems)

    def fold_again(self, lakehouse: LakehouseResource, stop: Callable[[], bool]) -> Iterator[dg.MaterializeResult[Any]]:
        """Fold the log again from the first of the run's slices on, to the end of the last one, or the table's position."""
        from lakehouse_assets.operations.refolding import run_refold

        keys = sorted(self._context.partition_keys)
        self._context.log.info(f"folding the log again from {keys[0]} on, at least to the end of {keys[-1]}")
        counts: Counter[str] = Counter()
        last: list[CommitReport] = []

        def report(commit: "CommitReport") -> None:
            self._context.log.info(commit_line(commit))
            self._report_quarantined(commit)
            for begin_ms, changes in commit.slice_rows.items():
                counts[self._clock.key(begin_ms)] += changes
            last[:] = [commit]

        systems = lakehouse.systems()
        done = run_refold(
            systems,
            self._spec,
            keys,
            stop=stop,
            on_commit=report,
            on_retry=self._report_retry,
            now_ms=_now_ms,
            on_progress=lambda read, total: self._context.log.info(f"read {read:,} of {total:,} offsets again"),
        )
        if not done:
            self._context.log.warning("stopped before the end; what the table shows is right up to its ledger")
            return
        described = {key: commit_metadata(self._spec, last[0], counts[key]) if last else {} for key in keys}
        if len(keys) == 1:
            yield dg.MaterializeResult(metadata=described[keys[0]])
            return
        for key, metadata in described.items():
            self._materialized(key, metadata)
        self._record_checks(systems)

    def _report_commit(self, report: "CommitReport") -> None:
        self._context.log.info(commit_line(report))
        self._report_quarantined(report)
        now_ms = _now_ms()
        for begin_ms, rows in sorted(report.slice_rows.items()):
            # A message may be stamped up to an hour ahead; its partition may not exist yet.
            self._materialized(self._clock.key(min(begin_ms, now_ms)), commit_metadata(self._spec, report, rows))

    def _report_quarantined(self, report: "CommitReport") -> None:
        if report.bad_codes:
            self._context.log_event(
                dg.AssetMaterialization(quarantine_key(self._spec), metadata=quarantine_metadata(report))
            )

    def _record_checks(self, systems: "Systems") -> None:
        for evaluation in evaluate_checks(self._spec, systems):
            self._context.log_event(evaluation)

    def _describe_slice(self, key: str, report: "CommitReport | None") -> Metadata:
        if report is None:
            self._context.log.info(f"{key}: no message in Kafka, no row in the table")
            return {PARTITION_ROWS: dg.MetadataValue.int(0)}
        self._context.log.info(f"{key}: {commit_line(report)}")
        self._report_quarantined(report)
        shown = commit_metadata(self._spec, report, report.row_count)
        return {**shown, PARTITION_ROWS: dg.MetadataValue.int(report.row_count)}

    def _materialized(self, key: str, metadata: Metadata) -> None:
        self._context.log_event(dg.AssetMaterialization(table_key(self._spec), partition=key, metadata=metadata))

    def _report_retry(self, error: LakehouseError, seconds: float) -> None:
        self._context.log.warning(f"trying again in {seconds:g} s: {error}")


def _now_ms() -> int:
    return int(time.time() * 1000)
