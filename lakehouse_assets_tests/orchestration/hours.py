"""Tables whose event-time watermark a test moves, without Kafka: every commit is a real one."""

import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog import Catalog

from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import EventTimes, WatermarkMove
from lakehouse_assets.operations.event_times import count_arrivals
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests.builders import HOUR_MS, make_delivery, make_spec, make_table

_COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]


def ago(hours: int) -> int:
    """When the hour began that is so many hours before this one, ms since 1970."""
    return int(time.time() * 1000) // HOUR_MS * HOUR_MS - hours * HOUR_MS


def hour(number: int) -> str:
    """Its partition."""
    return datetime.fromtimestamp(ago(number) / 1000, UTC).strftime("%Y-%m-%d-%H:00")


def declare(table: str = "ods.clicks", start_ms: int | None = None, **event_time: Any) -> TableSpec:
    """A table whose slices begin five hours before this one."""
    start = datetime.fromtimestamp((ago(5) if start_ms is None else start_ms) / 1000, UTC).isoformat()
    return make_spec(table=table, schema=_COLUMNS, event_time={"column": "at", "max_disorder": "0s", "start": start, **event_time})


class Watermarks:
    """Moves watermarks, by one row after the other."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._offsets: Counter[str] = Counter()

    def commit(self, spec: TableSpec, watermark_ms: int, hours: Mapping[int, int] | None = None) -> None:
        """Rows that move the watermark; `hours` says when they happened, where that matters."""
        make_table(self._catalog, make_spec(table=spec.table))  # which columns it has does not
        log, offset = TopicPartition("clicks", 0), self._offsets[spec.table]
        self._offsets[spec.table] += 1
        move = WatermarkMove({log: watermark_ms}, frozenset([log]), frozenset(), 0)
        arrivals = count_arrivals(spec, EventTimes(hours=hours or {}))
        table = self._catalog.load_table(spec.table)
        delivery = make_delivery(table, {0: range(offset, offset + 1)}, watermark=move, arrivals=arrivals)
        publish(self._catalog, spec.table, delivery)
