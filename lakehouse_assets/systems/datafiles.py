"""Iceberg's description of a data file, made from the footer that the Parquet writer left. No file is read again."""

from collections.abc import Iterable, Sequence

from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from lakehouse_assets.model.columns import METADATA_COLUMNS, QUARANTINE_POSITION, SOURCE_COLUMNS
from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.systems.parquet import StagedFile
from lakehouse_assets.systems.schema import Base
from lakehouse_assets.systems.snapshots import table_name

# The rows decide which ledger counts when history was cut, and by bounds it is seen which files need not be looked into for
# keys and for newer changes: so these are always kept, however wide the table is.
_BOUNDED = (*METADATA_COLUMNS, *SOURCE_COLUMNS, QUARANTINE_POSITION.partition, QUARANTINE_POSITION.offset)
_METRICS = "write.metadata.metrics.column."


def build_data_files(table: Table, staged: Sequence[StagedFile]) -> list[DataFile]:
    """Describe staged files as files of the table.

    Raises:
        CommitConflictError: the table has another schema or partition spec now than they were staged for.
    """
    refuse_other_base(table, {file.base for file in staged})
    schema = table.schema()
    metrics = {f"{_METRICS}{name}": "truncate(16)" for name in schema.identifier_field_names()}
    always = {f"{_METRICS}{name}": "full" for name in _BOUNDED}
    plan = compute_statistics_plan(schema, {**metrics, **table.metadata.properties, **always})
    mapping = parquet_path_to_id_mapping(schema)
    files = []
    for file in staged:
        statistics = data_file_statistics_from_parquet_metadata(file.footer, plan, mapping)
        described = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=file.location,
            file_format=FileFormat.PARQUET,
            partition=Record(*file.partition),
            file_size_in_bytes=file.size_bytes,
            sort_order_id=None,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
        described.spec_id = table.metadata.default_spec_id  # from_args drops the argument of that name silently
        files.append(described)
    return files


def refuse_other_base(table: Table, staged_for: Iterable[Base]) -> None:
    """Raise if files were staged for a schema or partition spec that is not the table's now.

    Raises:
        CommitConflictError: they have to be staged again.
    """
    now = Base.of(table)
    for base in staged_for:
        if base != now:
            raise CommitConflictError(
                table_name(table),
                f"files were staged for schema {base.schema_id} and partition spec {base.spec_id}, "
                f"the table now has {now.schema_id} and {now.spec_id}",
            )
