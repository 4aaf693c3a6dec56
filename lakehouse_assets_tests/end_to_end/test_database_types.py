"""Every type of PostgreSQL, in every way in which Debezium writes it: the table has the values that the database has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.source import Source, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("databases")]

CREATE = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE alltypes (
    id bigint PRIMARY KEY, c_bool boolean, c_i2 smallint, c_i4 integer, c_i8 bigint, c_f4 real, c_f8 double precision,
    c_num numeric(10,2), c_long numeric(38,10), c_whole numeric(5,0), c_free numeric, c_money money,
    c_char char(5), c_varchar varchar(20), c_text text, c_bytea bytea, c_uuid uuid, c_json json, c_jsonb jsonb, c_enum mood,
    c_date date, c_time time, c_time3 time(3), c_timetz timetz, c_ts timestamp, c_ts3 timestamp(3), c_ts0 timestamp(0),
    c_tstz timestamptz, c_interval interval, c_inet inet, c_cidr cidr, c_mac macaddr, c_bit1 bit, c_bit8 bit(8), c_point point,
    c_range int4range, c_tstzrange tstzrange, c_oid oid, a_int int[], a_text text[], a_num numeric(10,2)[], a_uuid uuid[],
    a_ts timestamp[], a_date date[], a_bool boolean[])
"""
FULL = """
INSERT INTO alltypes VALUES (1, true, -32768, 2147483647, 9223372036854775807, 3.4028235e38, 0.1,
    12345678.90, 1234567890123456789012345678.0123456789, 99999, 3.14159265358979323846, '$1,234.56',
    'ab', 'varchar', 'text é 漢 😀', '\\xdeadbeef00ff', '00112233-4455-6677-8899-aabbccddeeff',
    '{"a": 1,  "b":[true,null]}', '{"a": 1,  "b":[true,null]}', 'ok',
    '2026-02-28', '23:59:59.123456', '23:59:59.123', '23:59:59.123456+02', '2026-02-28 23:59:59.123456', '2026-02-28 23:59:59.123',
    '2026-02-28 23:59:59', '2026-02-28 23:59:59.123456+02', '1 year 2 mons 3 days 04:05:06.789',
    '10.0.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '1', '10101010', '(1.5,-2.5)', '[1,10)',
    '["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")', 4294967295, '{1,NULL,3}', '{"a","b,c",NULL}', '{1.10,NULL,2.2}',
    '{00112233-4455-6677-8899-aabbccddeeff}', '{"2026-02-28 23:59:59.123456"}', '{2026-02-28}', '{t,f,NULL}')
"""
CHANGES = (
    "INSERT INTO alltypes (id) VALUES (2)",
    "CREATE TEMP TABLE copied AS SELECT * FROM alltypes WHERE id = 1; UPDATE copied SET id = 3; INSERT INTO alltypes SELECT * FROM copied",
    "INSERT INTO alltypes (id, c_f4, c_f8, c_free, c_date, c_ts, c_tstz, c_bytea, c_text) VALUES "
    "(4, 'NaN', 'Infinity', -0.000000000000000000001, '0001-01-01', '0001-01-01', '1900-01-01 00:00:00.5+00', '', '')",
    "INSERT INTO alltypes (id, c_date, c_ts, c_num, c_whole, c_free, c_f8, a_int) VALUES "
    "(6, '9999-12-31', '9999-12-31 23:59:59.999999', -0.01, -1, 1e20, '-Infinity', '{}')",
    "UPDATE alltypes SET c_num = -c_num, c_ts = c_ts - interval '80 years', a_num = NULL WHERE id = 3",
)
MICROS_OF_MONTH = "30.4375 * 86400 * 1000000"


@dataclass(frozen=True)
class Mode:
    """Settings of Debezium, and what a declaration says where its messages carry no schema."""

    settings: dict[str, str]
    decimals: str | None
    units: dict[str, str]  # of columns whose times are numbers
    cut: bool = False  # to milliseconds, by Debezium


MILLIS = dict.fromkeys(("c_time3", "c_ts3", "c_ts0"), "milliseconds")
ADAPTIVE = {**MILLIS, **dict.fromkeys(("c_time", "c_ts", "a_ts"), "microseconds")}
CONNECT = dict.fromkeys(ADAPTIVE, "milliseconds")
PRECISE = {"decimal_handling_mode": "precise", "time_precision_mode": "adaptive"}
WRAPPED = {
    f"{part}_converter{name}": value
    for part in ("key", "value")
    for name, value in (("", "org.apache.kafka.connect.json.JsonConverter"), ("_schemas_enable", "true"))
}
MODES = {
    "precise adaptive": Mode(PRECISE, "base64", ADAPTIVE),
    "precise adaptive with schemas": Mode(PRECISE | WRAPPED, None, {}),
    "string connect": Mode({"time_precision_mode": "connect"}, "text", CONNECT, cut=True),
    "string isostring": Mode({}, "text", {"a_ts": "microseconds"}),  # as debezium.py recommends
}


_SLOW = [pytest.mark.slow]


@pytest.mark.parametrize("mode", [pytest.param(m, id=n, marks=_SLOW if m.cut or "iso" in n else []) for n, m in MODES.items()])
def test_every_type_arrives_as_the_database_has_it_however_debezium_writes_it(
    source: Source, broker: Broker, tmp_path: Path, mode: Mode
) -> None:
    source.execute(CREATE)
    source.execute(FULL)
    source.follow(**mode.settings)
    table = Lake.open(
        tmp_path, broker, source.topic("alltypes"), source={"format": "debezium-json"},
        mode="upsert", key=["id"], schema=declare(mode),
    )  # fmt: skip
    there, here = queries(mode)
    assert_same(table, source, "alltypes", there, here)

    for changes in CHANGES:
        source.execute(changes)
    assert_same(table, source, "alltypes", there, here)
    assert table.quarantined() == []

    source.execute("INSERT INTO alltypes (id, c_date, c_ts, c_tstz) VALUES (5, 'infinity', '-infinity', 'infinity')")
    source.settle()
    table.ingest()
    assert len(table.quarantined()) == 1
    assert judge.query(table.table, "SELECT count(*), bool_or(id = 5) FROM {table}") == [(5, False)]
    source.execute("DELETE FROM alltypes WHERE id = 5")
    assert_same(table, source, "alltypes", there, here)


def declare(mode: Mode) -> list[dict[str, Any]]:
    """The columns, as far as a mode of Debezium needs it said how they are written."""
    columns: list[dict[str, Any]] = [{"name": "id", "type": "long", "required": True}]
    for name, (kind, *_) in TYPES.items():
        column = {"name": name, "type": kind}
        if mode.decimals and "decimal" in kind:
            column["encoding"] = mode.decimals
        if mode.decimals and kind == "binary":
            column["encoding"] = "base64"
        if name in mode.units:
            column["epoch"] = mode.units[name]
        columns.append(column)
    return columns


def queries(mode: Mode) -> tuple[str, str]:
    """Of PostgreSQL, and of DuckDB."""
    there, here = ["id"], ["id"]
    for name, (_, *asked) in TYPES.items():
        one, other = [*asked, name, name][:2] if asked else (name, name)
        if mode.cut and name in ("c_time", "c_ts"):
            one = f"date_trunc('milliseconds', {name})" + ("::time" if name == "c_time" else "")
        if mode.cut and name == "a_ts":
            one = "ARRAY(SELECT date_trunc('milliseconds', t) FROM unnest(a_ts) AS t)"
            one = f"CASE WHEN a_ts IS NOT NULL THEN {one} END"
        there.append(one)
        here.append(other)
    return ", ".join(there), ", ".join(here)


# By column: its type in the table, how PostgreSQL is asked for it, how DuckDB is, where that is not by the name alone.
TYPES: dict[str, tuple[str, ...]] = {
    "c_bool": ("boolean",),
    "c_i2": ("int",),
    "c_i4": ("int",),
    "c_i8": ("long",),
    "c_f4": ("float", "c_f4::float8"),
    "c_f8": ("double",),
    "c_num": ("decimal(10,2)",),
    "c_long": ("decimal(38,10)",),
    "c_whole": ("decimal(5,0)",),
    "c_free": ("string", "c_free::text"),
    "c_money": ("decimal(18,2)", "c_money::numeric(18,2)"),
    "c_char": ("string", "rpad(c_char::text, 5)"),
    "c_varchar": ("string",),
    "c_text": ("string",),
    "c_bytea": ("binary",),
    "c_uuid": ("uuid", "c_uuid::text"),
    "c_json": ("string", "c_json::text"),
    "c_jsonb": ("string", "c_jsonb::text"),
    "c_enum": ("string", "c_enum::text"),
    "c_date": ("date",),
    "c_time": ("time",),
    "c_time3": ("time",),
    "c_timetz": ("time", "(c_timetz AT TIME ZONE 'UTC')::time"),
    "c_ts": ("timestamp",),
    "c_ts3": ("timestamp",),
    "c_ts0": ("timestamp",),
    "c_tstz": ("timestamptz",),
    "c_interval": (
        "long",
        f"((extract(year FROM c_interval) * 12 + extract(month FROM c_interval)) * {MICROS_OF_MONTH} "
        "+ (extract(day FROM c_interval) * 86400 + extract(hour FROM c_interval) * 3600 + extract(minute FROM c_interval) * 60 "
        "+ extract(second FROM c_interval)) * 1000000)::bigint",
    ),
    "c_inet": ("string", "c_inet::text"),
    "c_cidr": ("string", "c_cidr::text"),
    "c_mac": ("string", "c_mac::text"),
    "c_bit1": ("boolean", "c_bit1 = '1'"),
    "c_bit8": ("binary", "decode(to_hex(c_bit8::int), 'hex')"),
    "c_point": ("struct<x:double,y:double>", "ARRAY[c_point[0], c_point[1]]", "[c_point.x, c_point.y]"),
    "c_range": ("string", "c_range::text"),
    "c_tstzrange": ("string", "c_tstzrange::text"),
    "c_oid": ("long",),
    "a_int": ("list<int>",),
    "a_text": ("list<string>",),
    "a_num": ("list<decimal(10,2)>",),
    "a_uuid": ("list<uuid>", "a_uuid::text[]"),
    "a_ts": ("list<timestamp>",),
    "a_date": ("list<date>",),
    "a_bool": ("list<boolean>",),
}
