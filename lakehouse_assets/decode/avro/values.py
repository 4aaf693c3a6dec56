"""Raw values of many messages, as both Avro decoders hand them to conversions, and what a conversion is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.rules import Rejected

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Doubt = Callable[[Mask], None]
"""Called with what only the exact decoder may judge; what stands there in the array is of no account."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Runs of bytes of one buffer, ascending and apart from each other."""

    data: pa.Buffer
    starts: Integers
    stops: Integers

    def to_array(self) -> pa.Array:
        """As binary."""
        count = len(self.starts)
        # Every run and every gap is a value; one `take` of Arrow's then copies the runs.
        bounds = np.empty(2 * count, np.int32)
        bounds[0::2], bounds[1::2] = self.starts, self.stops
        both = pa.BinaryArray.from_buffers(pa.binary(), max(0, 2 * count - 1), [None, pa.py_buffer(bounds), self.data])
        return both.take(pa.array(np.arange(0, 2 * count, 2)))

    def to_matrix(self, size: int) -> npt.NDArray[np.uint8]:
        """One line of `size` bytes each, from where each begins; of a run that is shorter, as many bytes from somewhere."""
        places = self.starts[:, None] + np.arange(size)
        short = self.stops - self.starts < size
        if short.any():
            places[short] = 0
        octets: npt.NDArray[np.uint8] = np.frombuffer(self.data, np.uint8)[places]
        return octets


@dataclass(frozen=True, slots=True)
class Conversion:
    """`many(raw, doubt)` gives an Arrow array; `one(raw)` what such an array stores, or raises `Rejected`."""

    many: Callable[[Any, Doubt], pa.Array]
    one: Callable[[Any], Any]


def convert_each(found: Sequence[Any], read: Callable[[Any], Any], to: pa.DataType, doubt: Doubt) -> pa.Array:
    """Each of them by `read`; what it refuses is doubted."""
    values: list[Any] = []
    refused = np.zeros(len(found), np.bool_)
    for place, one in enumerate(found):
        try:
            values.append(read(one))
        except Rejected:
            values.append(None)
            refused[place] = True
    if refused.any():
        doubt(refused)
    return pa.array(values, to)
