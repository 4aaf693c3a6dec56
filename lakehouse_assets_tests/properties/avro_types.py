"""Avro types with the declared type that each becomes, and values of both, for hypothesis."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import strategies as st

_names = count()


@dataclass(frozen=True)
class AvroType:
    """A schema, the declared type as text, values for the writer, and what of the oracle's reading becomes a row's value."""

    schema: Any
    declared: str
    values: st.SearchStrategy[Any]
    row_value: Callable[[Any], Any] = lambda value: value


def _named(kind: str, **parts: Any) -> dict[str, Any]:
    return {"type": kind, "name": f"T{next(_names)}", **parts}


def _micros(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


_LONGS = st.integers(-(2**63), 2**63 - 1)
_FLOATS = st.floats(width=32, allow_nan=False)
_DOUBLES = st.floats(allow_nan=False)
_TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))


def _scalars() -> list[AvroType]:
    to_millis = lambda value: value.replace(microsecond=value.microsecond // 1000 * 1000)  # noqa: E731
    return [
        AvroType("boolean", "boolean", st.booleans()),
        AvroType("int", "int", st.integers(-(2**31), 2**31 - 1)),
        AvroType("int", "long", st.integers(-(2**31), 2**31 - 1)),
        AvroType("int", "double", st.integers(-(2**31), 2**31 - 1), float),
        AvroType("long", "long", _LONGS),
        AvroType("long", "double", _LONGS, float),
        AvroType("float", "float", _FLOATS),
        AvroType("float", "double", _FLOATS),
        AvroType("double", "double", _DOUBLES),
        AvroType("string", "string", st.text(max_size=20)),
        AvroType("bytes", "binary", st.binary(max_size=20)),
        AvroType({"type": "string", "logicalType": "uuid"}, "uuid", st.uuids()),
        AvroType({"type": "int", "logicalType": "date"}, "date", st.dates()),
        AvroType({"type": "int", "logicalType": "time-millis"}, "time", st.times().map(to_millis)),
        AvroType({"type": "long", "logicalType": "time-micros"}, "time", st.times()),
        AvroType({"type": "long", "logicalType": "timestamp-millis"}, "timestamptz", _TIMES.map(to_millis).map(_micros)),
        AvroType({"type": "long", "logicalType": "timestamp-micros"}, "timestamptz", _TIMES.map(_micros)),
        AvroType({"type": "long", "logicalType": "local-timestamp-micros"}, "timestamp", _TIMES),
        AvroType({"type": "long", "logicalType": "local-timestamp-millis"}, "timestamp", _TIMES.map(to_millis)),
        AvroType({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}, "decimal(12, 3)", _decimals(12, 3)),
        AvroType({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 10}, "decimal(32, 12)", _decimals(30, 10)),
        AvroType({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}, "decimal(38, 0)", _decimals(38, 0)),
    ]


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda unscaled: Decimal(unscaled).scaleb(-scale) if precision < 28 else _exact(unscaled, scale))


def _exact(unscaled: int, scale: int) -> Decimal:
    return Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale))


@st.composite
def _named_scalars(draw: st.DrawFn) -> AvroType:
    kind = draw(st.sampled_from(["enum", "fixed", "decimal"]))
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from("ABCDEFGH"), min_size=1, unique=True))
        return AvroType(_named("enum", symbols=symbols), "string", st.sampled_from(symbols))
    if kind == "fixed":
        size = draw(st.integers(1, 20))
        return AvroType(_named("fixed", size=size), draw(st.sampled_from([f"fixed[{size}]", "binary"])), st.binary(min_size=size, max_size=size))
    schema = _named("fixed", size=16, logicalType="decimal", precision=20, scale=4)
    return AvroType(schema, "decimal(20, 4)", _decimals(20, 4))


@st.composite
def _lists(draw: st.DrawFn, items: st.SearchStrategy[AvroType]) -> AvroType:
    item = draw(items)
    return AvroType(
        {"type": "array", "items": item.schema},
        f"list<{item.declared}>",
        st.lists(item.values, max_size=4) | st.lists(item.values, min_size=9, max_size=10),
        lambda value: [item.row_value(one) for one in value],
    )


@st.composite
def _maps(draw: st.DrawFn, items: st.SearchStrategy[AvroType]) -> AvroType:
    item = draw(items)
    return AvroType(
        {"type": "map", "values": item.schema},
        f"map<string, {item.declared}>",
        st.dictionaries(st.text(max_size=5), item.values, max_size=4),
        lambda value: [(key, item.row_value(one)) for key, one in value.items()],
    )


@st.composite
def _optionals(draw: st.DrawFn, items: st.SearchStrategy[AvroType]) -> AvroType:
    item = draw(items.filter(lambda one: not isinstance(one.schema, list)))
    branches = draw(st.permutations(["null", item.schema]))
    return AvroType(
        list(branches),
        item.declared,
        st.none() | item.values,
        lambda value: None if value is None else item.row_value(value),
    )


@st.composite
def _unions(draw: st.DrawFn) -> AvroType:
    """Of several that become one."""
    branches = draw(st.permutations(["null", "int", "long"]))
    return AvroType(list(branches), "long", st.none() | st.integers(-(2**40), 2**40))


@st.composite
def _records(draw: st.DrawFn, items: st.SearchStrategy[AvroType]) -> AvroType:
    members = {f"m{place}": item for place, item in enumerate(draw(st.lists(items, min_size=1, max_size=3)))}
    return AvroType(
        _named("record", fields=[{"name": name, "type": item.schema} for name, item in members.items()]),
        f"struct<{', '.join(f'{name}: {item.declared}' for name, item in members.items())}>",
        st.fixed_dictionaries({name: item.values for name, item in members.items()}),
        lambda value: {name: item.row_value(value[name]) for name, item in members.items()},
    )


def avro_types() -> st.SearchStrategy[AvroType]:
    """Any type, nested a little."""
    leaves = st.sampled_from(_scalars()) | _named_scalars() | _unions()
    return st.recursive(leaves, lambda inner: _lists(inner) | _maps(inner) | _optionals(inner) | _records(inner), max_leaves=5)


