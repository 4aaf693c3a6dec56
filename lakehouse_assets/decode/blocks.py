"""Values are decoded in blocks: large enough that the calls cost nothing, small enough to bound memory."""

from collections.abc import Iterator, Sequence

import numpy as np


def split_blocks(values: Sequence[bytes], block_bytes: int) -> Iterator[range]:
    """Runs of at most `block_bytes`, or one larger value; all values, in order."""
    total = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    start = 0
    while start < len(values):
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + block_bytes, side="right")))
        yield range(start, stop)
        start = stop
