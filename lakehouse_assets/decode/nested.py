"""Lists, structs and maps around arrays that had to be converted.

Arrow has no builder for extension types (uuid) inside of other types, and no conversion that reaches into
them, so the parts are converted apart and put together again here. Arrays given must not be slices
(offset 0).
"""

from typing import Any

import pyarrow as pa


def with_items(array: pa.ListArray, items: pa.Array, to: pa.DataType) -> pa.ListArray:
    """The list array with other items: same lengths, same nulls."""
    return pa.ListArray.from_arrays(array.offsets, items, type=to, mask=_null_mask(array))


def with_members(array: pa.StructArray, members: list[pa.Array], to: pa.DataType) -> pa.StructArray:
    """The struct array with other members: same nulls."""
    return pa.StructArray.from_arrays(members, fields=list(to), mask=_null_mask(array))


def build_array(items: list[Any], to: pa.DataType) -> pa.Array:
    """An array of Python values; a uuid is given as its 16 bytes, times as integers, a map as pairs."""
    return _restore(pa.array(items, _storage_type(to)), to)


def _null_mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def _storage_type(declared: pa.DataType) -> pa.DataType:
    if isinstance(declared, pa.BaseExtensionType):
        return declared.storage_type
    if pa.types.is_list(declared):
        return pa.list_(_storage_type(declared.value_type))
    if pa.types.is_map(declared):
        return pa.map_(_storage_type(declared.key_type), _storage_type(declared.item_type))
    if pa.types.is_struct(declared):
        return pa.struct([(field.name, _storage_type(field.type)) for field in declared])
    return declared


def _restore(array: pa.Array, to: pa.DataType) -> pa.Array:
    if array.type == to:
        return array
    if pa.types.is_list(to):
        return with_items(array, _restore(array.values, to.value_type), to)
    if pa.types.is_map(to):
        keys, items = _restore(array.keys, to.key_type), _restore(array.items, to.item_type)
        return pa.MapArray.from_arrays(array.offsets, keys, items, type=to, mask=_null_mask(array))
    if pa.types.is_struct(to):
        members = [_restore(array.field(index), field.type) for index, field in enumerate(to)]
        return with_members(array, members, to)
    return pa.ExtensionArray.from_storage(to, array)
