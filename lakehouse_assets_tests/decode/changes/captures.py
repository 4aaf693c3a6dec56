"""What Debezium 3.6 sent of a PostgreSQL 15, and what had been written there.

In each file of `debezium/` one message a line, in the order of each topic: topic (the table), key, value and headers. The one of
Avro (PostgreSQL 18, Confluent's converter 7.0.16, schemas of a real registry) has base64 for bytes, and the schemas before them.
"""

import json
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column

CAPTURES = ("schemaless_precise_adaptive", "schemas_precise_adaptive", "schemaless_string_connect")
_UUID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def read_capture(name: str, *topics: str) -> ChangeMessages:
    """The messages of some topics of a capture, in its order."""
    lines = (Path(__file__).parent / "debezium" / f"{name}.jsonl").read_text().splitlines()
    found = [message for message in map(json.loads, lines) if message["topic"] in topics]
    return ChangeMessages(
        values=[_encode(one["value"]) for one in found],
        keys=[_encode(one["key"]) for one in found],
        headers=[[(name, value.encode()) for name, value in one["headers"]] for one in found],
    )


def read_avro_capture(*topics: str) -> tuple[ChangeMessages, dict[int, RegisteredSchema]]:
    """The messages of some topics as Avro, in the order of the capture, and the schemas that they name."""
    lines = (Path(__file__).parent / "debezium" / "avro_precise_adaptive.jsonl").read_text().splitlines()
    parts = [json.loads(line) for line in lines]
    found = [part for part in parts if part.get("topic") in topics]
    messages = ChangeMessages(
        values=[_decode(one["value"]) for one in found],
        keys=[_decode(one["key"]) for one in found],
        headers=[[(name, _decode(value)) for name, value in one["headers"]] for one in found],
    )
    return messages, {part["id"]: RegisteredSchema("AVRO", part["schema"]) for part in parts if "schema" in part}


def _decode(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


def _encode(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


@dataclass(frozen=True, slots=True)
class _Type:
    """A column of the table of all types: the declared type, the encodings to declare, and the value of the first row."""

    name: str
    type: str
    value: Any
    epoch: str | None = None
    is_cut: bool = False  # to milliseconds, by time.precision.mode=connect


_TYPES = (
    _Type("c_bool", "boolean", True),
    _Type("c_i2", "int", -32768),
    _Type("c_i4", "int", 2147483647),
    _Type("c_i8", "long", 9223372036854775807),
    _Type("c_f4", "float", 3.4028234663852886e38),
    _Type("c_f8", "double", 0.1),
    _Type("c_num_10_2", "decimal(10, 2)", Decimal("12345678.90")),
    _Type("c_num_38_10", "decimal(38, 10)", Decimal("1234567890123456789012345678.0123456789")),
    _Type("c_num_5_0", "decimal(5, 0)", Decimal(99999)),
    _Type("c_num_free", "string", "3.14159265358979323846"),  # no declared type has room for the three rows
    _Type("c_money", "decimal(20, 2)", Decimal("1234.56")),
    _Type("c_char", "string", "ab   "),
    _Type("c_varchar", "string", "varchar"),
    _Type("c_text", "string", "text é 漢 😀"),
    _Type("c_bytea", "binary", b"\xde\xad\xbe\xef\x00\xff"),
    _Type("c_uuid", "uuid", _UUID),
    _Type("c_json", "string", '{"a": 1,  "b":[true,null]}'),
    _Type("c_jsonb", "string", '{"a": 1, "b": [true, null]}'),
    _Type("c_xml", "string", "<a>1</a>"),
    _Type("c_enum", "string", "ok"),
    _Type("c_date", "date", date(2026, 2, 28)),
    _Type("c_time", "time", time(23, 59, 59, 123456), "microseconds", is_cut=True),
    _Type("c_time3", "time", time(23, 59, 59, 123000), "milliseconds"),
    _Type("c_timetz", "time", time(21, 59, 59, 123456)),
    _Type("c_ts", "timestamp", datetime(2026, 2, 28, 23, 59, 59, 123456), "microseconds", is_cut=True),  # noqa: DTZ001
    _Type("c_ts3", "timestamp", datetime(2026, 2, 28, 23, 59, 59, 123000), "milliseconds"),  # noqa: DTZ001
    _Type("c_ts0", "timestamp", datetime(2026, 2, 28, 23, 59, 59), "milliseconds"),  # noqa: DTZ001
    _Type("c_tstz", "timestamptz", datetime(2026, 2, 28, 21, 59, 59, 123456, tzinfo=UTC)),
    # A year of 365.25 days, a month of 30.4375.
    _Type("c_interval", "long", 37_091_106_789_000),
    _Type("c_inet", "string", "10.0.0.1/24"),
    _Type("c_cidr", "string", "10.0.0.0/8"),
    _Type("c_macaddr", "string", "08:00:2b:01:02:03"),
    _Type("c_bit1", "boolean", True),
    _Type("c_bit8", "binary", b"\xaa"),
    _Type("c_varbit", "binary", b"\x05"),
    _Type("c_point", "struct<x: double, y: double>", {"x": 1.5, "y": -2.5}),
    _Type("c_int4range", "string", "[1,10)"),
    _Type("c_tstzrange", "string", '["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")'),
    _Type("c_oid", "long", 4294967295),
    _Type("c_tsvector", "string", "'a' 'cat' 'fat'"),
    _Type("a_int", "list<int>", [1, None, 3]),
    _Type("a_text", "list<string>", ["a", "b,c", None]),
    _Type("a_num", "list<decimal(10, 2)>", [Decimal("1.10"), None, Decimal("2.20")]),
    _Type("a_uuid", "list<uuid>", [_UUID]),
    _Type("a_ts", "list<timestamp>", [datetime(2026, 2, 28, 23, 59, 59, 123456)], "microseconds", is_cut=True),  # noqa: DTZ001
    _Type("a_date", "list<date>", [date(2026, 2, 28)]),
    _Type("a_bool", "list<boolean>", [True, False, None]),
    _Type("a_int2d", "list<int>", [None, None]),  # Debezium loses what is in a list of lists
    _Type("c_gen", "int", 1),
    _Type("c_def", "string", "dflt"),
)


def columns_of_all_types(capture: str) -> list[DeclaredColumn]:
    """The table of all types as it is declared for a capture."""
    types = [column(one.name, parse_type(one.type), epoch=_epoch(one, capture)) for one in _TYPES]
    return [column("id", "long", required=True), *types]


def rows_of_all_types(capture: str) -> dict[int, dict[str, Any]]:
    """By id, what the rows must be that can be; the fifth holds infinite times and can't."""
    nothing = {one.name: None for one in _TYPES} | {"c_def": "dflt"}
    first = {one.name: _cut(one.value) if one.is_cut and _is_connect(capture) else one.value for one in _TYPES}
    last = datetime(9999, 12, 31, 23, 59, 59, 999000 if _is_connect(capture) else 999999)  # noqa: DTZ001
    return {
        1: {"id": 1, **first},
        2: {"id": 2, **nothing, "c_gen": 1},
        # A streamed row lacks what PostgreSQL computes, a row of the snapshot has it.
        3: {"id": 3, **first, "c_gen": None},
        4: {
            "id": 4,
            **nothing,
            "c_f4": "nan",
            "c_f8": float("inf"),
            "c_num_free": "-0.000000000000000000001",
            "c_date": date(1, 1, 1),
            "c_ts": datetime(1, 1, 1),  # noqa: DTZ001
            "c_tstz": datetime(1900, 1, 1, 0, 0, 0, 500000, tzinfo=UTC),
        },
        6: {
            "id": 6,
            **nothing,
            "c_date": date(9999, 12, 31),
            "c_ts": last,
            "c_num_10_2": Decimal("-0.01"),
            "c_num_5_0": Decimal(-1),
            "c_num_free": "100000000000000000000",
        },
    }


def _epoch(one: _Type, capture: str) -> str | None:
    if capture.startswith("schemas"):
        return None
    return "milliseconds" if one.epoch and _is_connect(capture) else one.epoch


def _is_connect(capture: str) -> bool:
    return capture.endswith("_connect")


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return value.replace(microsecond=value.microsecond // 1000 * 1000)
