"""Keys of every type that a key may have, with the values at which types are wont to go wrong."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

KEYS: dict[str, list[object]] = {
    "boolean": [False, True],
    "int": [-(2**31), -1, 0, 1, 7, 2**31 - 1],
    "long": [-(2**63), -1, 0, 1, 7, 2**63 - 1],
    "decimal(9, 2)": [Decimal("-1234567.89"), Decimal("-0.01"), Decimal("0.00"), Decimal("0.10"), Decimal("9999999.99")],
    "decimal(38, 10)": [Decimal("-1234567890123456789012345678.0123456789"), Decimal("0E-10"), Decimal("1.0000000001")],
    "date": [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(2026, 11, 27), date(9999, 12, 31)],
    "time": [time(0), time(12, 30, 1, 5), time(23, 59, 59, 999_999)],
    "timestamp": [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(2026, 11, 27, 1, 2, 3, 4)],
    "timestamptz": [datetime(1960, 1, 1, tzinfo=UTC), datetime(2026, 11, 27, 1, 2, 3, 4, tzinfo=UTC)],
    "string": ["", "a", "a" * 40, "a" * 40 + "b", "é", "\U0010ffff" * 20, "\U0001f600", "\uffff", "Z"],
    "uuid": [UUID(int=0).bytes, UUID(int=2**127).bytes, UUID(int=2**128 - 1).bytes, UUID(int=77).bytes],
    "fixed[3]": [b"\x00\x00\x00", b"\x7f\x01\x02", b"\x80\x00\x00", b"\xff\xff\xff"],
    "binary": [b"", b"\x00", b"\x00\x00", b"\xff" * 20, b"\xff" * 21, b"abc", b"\x80"],
}
