"""A declaration that can't become a table is shown as an asset with a failed check; the other tables load."""

from collections.abc import Iterator, Sequence

import dagster as dg

from lakehouse_assets.declarations.loading import BrokenDeclaration

_CHECK = "declaration"
_SENSOR_SECONDS = 30


def build_broken_asset(broken: BrokenDeclaration) -> dg.AssetSpec:
    """Stands where the table would be; can't be materialized."""
    return dg.AssetSpec(
        key=_key(broken),
        group_name="broken_declarations",
        kinds={"iceberg"},
        description=f"**{broken.file} can't become a table.**\n\n{_problem_table(broken)}\n\n"
        "Correct the file, then reload the code location.",
        metadata={"file": broken.file, "mistakes": len(broken.problems)},
    )


def build_broken_check(broken: BrokenDeclaration) -> dg.AssetChecksDefinition:
    """Fails, and says file, line, found and allowed."""

    @dg.asset_check(
        asset=_key(broken),
        name=_CHECK,
        description="Whether the declaration can become a table. Otherwise: correct the file, then reload the code location.",
    )
    def declaration() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=str(broken.error), metadata=_metadata(broken))

    return declaration


def build_broken_sensor(broken: Sequence[BrokenDeclaration]) -> dg.SensorDefinition:
    """Records the failed checks without a run, as soon as the definitions are loaded."""

    @dg.sensor(
        name="broken_declarations",
        minimum_interval_seconds=_SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Shows mistakes in declaration files as failed checks.",
    )
    def broken_declarations(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        said = "\n".join(str(one.error) for one in broken)
        if context.cursor == said:
            return dg.SensorResult(skip_reason=f"{len(broken)} files can't become tables; see their checks.")
        return dg.SensorResult(asset_events=list(_evaluations(broken)), cursor=said)

    return broken_declarations


def _evaluations(broken: Sequence[BrokenDeclaration]) -> Iterator[dg.AssetCheckEvaluation]:
    for one in broken:
        yield dg.AssetCheckEvaluation(
            asset_key=_key(one), check_name=_CHECK, passed=False, description=str(one.error), metadata=_metadata(one)
        )


def _metadata(broken: BrokenDeclaration) -> dict[str, dg.MetadataValue]:
    records = [
        dg.TableRecord(
            {"line": p.line, "where": p.path, "found": p.found, "allowed": p.allowed, "did you mean": p.suggestion or ""}
        )
        for p in broken.problems
    ]
    return {"file": dg.MetadataValue.text(broken.file), "mistakes": dg.MetadataValue.table(records)}


def _problem_table(broken: BrokenDeclaration) -> str:
    rows = [f"| {p.line} | `{p.path}` | {p.found} | {p.allowed} | {p.suggestion or ''} |" for p in broken.problems]
    return "\n".join(["| line | where | found | allowed | did you mean |", "| --- | --- | --- | --- | --- |", *rows])


def _key(broken: BrokenDeclaration) -> dg.AssetKey:
    return dg.AssetKey(broken.name.split("."))
