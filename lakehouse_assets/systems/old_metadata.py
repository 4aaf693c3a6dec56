"""Finds metadata files that a table has no use for any more: those that left its log and were not deleted then.

Whoever commits deletes what leaves the log, where the table says so; a crash, or a writer that does not, leaves them. They are
found by the logs of older files, so that only files which once were the table's are taken, never one of a commit on its way.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pyiceberg.table import Table

from lakehouse_assets.systems.metadata_cache import read_logged

_LOGS: Final = 20  # that are followed; what is older is left to the removal of orphans
_THREADS: Final = 16


def list_old_metadata(table: Table) -> list[str]:
    """Metadata files that exist and may go; none where the table does not say that they may.

    Raises:
        OSError: one can't be read.
    """
    if table.properties.get("write.metadata.delete-after-commit.enabled", "false").lower() != "true":
        return []
    log = [entry.metadata_file for entry in table.metadata.metadata_log]
    seen, left = {table.metadata_location, *log}, []
    for _ in range(_LOGS):
        if not log:
            break
        oldest = read_logged(table.io, log[0])
        if oldest is None:
            break
        log = [entry.metadata_file for entry in oldest.metadata_log]
        left += [location for location in log if location not in seen]
        seen.update(log)
    with ThreadPoolExecutor(_THREADS) as pool:
        there = pool.map(lambda location: table.io.new_input(location).exists(), left)
        return [location for location, exists in zip(left, there, strict=True) if exists]
