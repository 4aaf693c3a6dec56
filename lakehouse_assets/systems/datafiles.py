"""Iceberg's description of a data file, made from the footer that the Parquet writer left. No file is read again."""

from collections.abc import Sequence

from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from lakehouse_assets.model.columns import METADATA_COLUMNS, QUARANTINE_POSITION
from lakehouse_assets.systems.parquet import StagedFile

# The rows decide which ledger counts when history was cut, so these bounds are always kept, however wide the table is.
_BOUNDED = (*METADATA_COLUMNS, QUARANTINE_POSITION.partition, QUARANTINE_POSITION.offset)
_METRICS = {f"write.metadata.metrics.column.{name}": "full" for name in _BOUNDED}


def build_data_files(table: Table, staged: Sequence[StagedFile]) -> list[DataFile]:
    """Describe files that were staged under the table's current schema and default partition spec."""
    schema = table.schema()
    plan = compute_statistics_plan(schema, {**table.metadata.properties, **_METRICS})
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
