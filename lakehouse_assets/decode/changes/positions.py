"""Where a change stands in its source's own log, as one number: of two changes of one row, the larger is newer.

PostgreSQL has one: the LSN. MySQL and MariaDB have the number of the binlog's file, the position in it and the row within the
event; they are packed into 20, 32 and 11 bits, so that the numbers sort as the log does. Rows of one event from the 2,048th on
count as equal (between equals the messages' order decides); where files have numbers of more than 20 bits, there is none.
Oracle has the SCN. Other sources have none. Positions of two servers, and of one whose log was begun anew, can't be compared.
"""

import re
from typing import Any

from lakehouse_assets.decode.kinds import Integer

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


def _whole(found: Any) -> int | None:
    if type(found) is not Integer or len(found) > _MAX_DIGITS or not 0 <= (number := int(found)) < _LIMIT:
        return None
    return number
