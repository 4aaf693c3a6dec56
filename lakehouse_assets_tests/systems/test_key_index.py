"""Keys are found where they stand and nowhere else, whatever is looked through."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.systems.key_index import KeyIndex, to_comparable

TYPES = {
    pa.int64(): st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1),
    pa.string(): st.text("ab\u00e9\0", max_size=3),
    pa.large_string(): st.text("ab\u00e9\0", max_size=3),
    pa.binary(): st.binary(max_size=2),
    pa.bool_(): st.booleans(),
    pa.decimal128(9, 2): st.integers(-300, 300).map(lambda cents: Decimal(cents).scaleb(-2)),
    pa.timestamp("us"): st.integers(-5, 5),
}


@st.composite
def keys_and_rows(draw: st.DrawFn) -> tuple[list[pa.DataType], list[tuple[object, ...]], list[tuple[object, ...]]]:
    types = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3))
    row = st.tuples(*[TYPES[kind] for kind in types])
    keys = draw(st.lists(row, min_size=1, max_size=30, unique=True))
    rows = draw(st.lists(row | st.sampled_from(keys), max_size=60))
    return types, keys, rows


def columns_of(types: list[pa.DataType], rows: list[tuple[object, ...]]) -> list[pa.Array]:
    return [to_comparable(pa.array([row[at] for row in rows], kind)) for at, kind in enumerate(types)]


@given(case=keys_and_rows(), bounded=st.booleans())
def test_exactly_the_rows_of_the_keys_are_found(
    case: tuple[list[pa.DataType], list[tuple[object, ...]], list[tuple[object, ...]]], bounded: bool
) -> None:
    types, keys, rows = case
    names = np.arange(len(keys)) * 10
    columns = columns_of(types, rows)
    index = KeyIndex(columns_of(types, keys), names)
    if bounded and rows:
        plain = [column.to_pylist() for column in columns]
        index = index.between([(min(values), max(values)) for values in plain])

    at, found = index.find(columns) if len(index) else (np.empty(0, np.int64), np.empty(0, np.int64))

    expected = [(place, 10 * keys.index(row)) for place, row in enumerate(rows) if row in keys]
    assert list(zip(at.tolist(), found.tolist(), strict=True)) == expected


def test_rows_without_a_value_are_no_key() -> None:
    index = KeyIndex([pa.array([0, 1])], np.array([5, 6]))

    at, found = index.find([pa.array([None, 1, None, 0])])

    assert (at.tolist(), found.tolist()) == ([1, 3], [6, 5])
