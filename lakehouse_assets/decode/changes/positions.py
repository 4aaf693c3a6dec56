"""Where a change stands in its source's own log, as one number: of two changes of one row, the larger is newer.

PostgreSQL has one: the LSN. MySQL and MariaDB have the number of the binlog's file, the position in it and the row within the
event; they are packed into 20, 32 and 11 bits, so that the numbers sort as the log does. Rows of one event from the 2,048th on
count as equal (between equals the messages' order decides); where files have numbers of more than 20 bits, there is none.
Oracle has the SCN. Other sources have none. Positions of two servers, and of one whose log was begun anew, can't be compared.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.kinds import Integer
from lakehouse_assets.decode.wire import Suspects

SOURCE_FIELDS = (("lsn", pa.int64()), ("file", pa.string()), ("pos", pa.int64()), ("row", pa.int64()), ("scn", pa.string()))
ROW_BITS, POSITION_BITS, FILE_BITS = 11, 32, 20
_FILE = re.compile(r".*\.([0-9]{1,18})", re.DOTALL)
_LIMIT = 2**63
_MAX_DIGITS = 19


def read_position(source: Any) -> int | None:
    """The position that the block `source` of Debezium's envelope names, as `decode.exact` reads JSON."""
    if not isinstance(source, dict):
        return None
    lsn = _whole(source.get("lsn"))
    if lsn is not None:
        return lsn
    file, place = source.get("file"), _whole(source.get("pos"))
    if type(file) is str and place is not None:
        return pack_binlog(file, place, _whole(source.get("row")) or 0)
    scn = source.get("scn")
    return _whole(scn if type(scn) is not str or not re.fullmatch("[0-9]+", scn) else Integer(scn))


def pack_binlog(file: str, place: int, row: int) -> int | None:
    """A place in MySQL's log; None where it has no room."""
    match = _FILE.fullmatch(file)
    if match is None or not 0 <= (number := int(match[1])) < 2**FILE_BITS or place < 0:
        return None
    place, row = min(place, 2**POSITION_BITS - 1), min(max(row, 0), 2**ROW_BITS - 1)
    return number << (POSITION_BITS + ROW_BITS) | place << ROW_BITS | row


def read_positions(source: Sequence[pa.Array], suspects: Suspects) -> pa.Array:
    """The same of many, an array for each of `SOURCE_FIELDS`. Those that are not as usual are suspected."""
    lsn, file, place, row, scn = source
    if lsn.null_count < len(lsn) and pc.min(lsn).as_py() < 0:
        suspects.add(pc.less(lsn, 0))
    if not lsn.null_count or (file.null_count == len(file) and scn.null_count == len(scn)):
        return lsn
    if scn.null_count < len(scn):
        suspects.add(pc.and_(scn.is_valid(), lsn.is_null()))
    return pc.coalesce(lsn, _pack_many(file, place, row))


def _pack_many(file: pa.Array, place: pa.Array, row: pa.Array) -> pa.Array:
    names = file.dictionary_encode()
    bases = [pack_binlog(name, 0, 0) for name in names.dictionary.to_pylist()]
    base = pa.array(bases, pa.int64()).take(names.indices)
    places, rows = _clipped(place, POSITION_BITS), _clipped(row, ROW_BITS)
    packed = pc.fill_null(base, 0).to_numpy() | places << ROW_BITS | rows
    is_there = pc.and_(base.is_valid(), pc.fill_null(pc.greater_equal(place, 0), False))
    return pc.if_else(is_there, pa.array(packed), pa.scalar(None, pa.int64()))


def _clipped(numbers: pa.Array, bits: int) -> npt.NDArray[np.int64]:
    clipped: npt.NDArray[np.int64] = np.clip(pc.fill_null(numbers, 0).to_numpy(), 0, 2**bits - 1)
    return clipped


def _whole(found: Any) -> int | None:
    if type(found) is not Integer or len(found) > _MAX_DIGITS or not 0 <= (number := int(found)) < _LIMIT:
        return None
    return number
