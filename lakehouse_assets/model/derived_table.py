"""A table that is computed from others, a slice of event time at a time or as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lakehouse_assets.model.completeness import DAY_MS
from lakehouse_assets.model.layout_spec import PartitionFieldSpec
from lakehouse_assets.model.slices import SliceClock


@dataclass(frozen=True, slots=True)
class DerivedTable:
    """What is declared of such a table; its columns are those of its rows.

    Attributes:
        name: namespace.name.
        column: Its column of event time; None: it has none, and is replaced as a whole.
        clock: Its slices. None: they are not known, so it has no watermark.
        partition_by: The layout of a new table, which one that is there must have. None: the hour or day of event time for a
            new one, and whatever it is for one that is there.
        late_horizon_ms: How long after the end of a slice it is remembered from which inputs it was computed.
    """

    name: str
    column: str | None = None
    clock: SliceClock | None = None
    partition_by: tuple[PartitionFieldSpec, ...] | None = None
    description: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    late_horizon_ms: int = DAY_MS

    @property
    def layout(self) -> tuple[PartitionFieldSpec, ...]:
        """The layout of a new table."""
        if self.partition_by is not None or self.column is None:
            return self.partition_by or ()
        return (PartitionFieldSpec(self.column, self.clock.every if self.clock is not None else "hour"),)
