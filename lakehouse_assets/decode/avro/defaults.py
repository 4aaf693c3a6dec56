"""Defaults of schemas: what stands in a schema as JSON, as the bytes that a message would have."""

import struct
from typing import Any

from lakehouse_assets.decode.avro.exact import BadBody, read_body
from lakehouse_assets.decode.avro.plan import Plan
from lakehouse_assets.decode.avro.schema import Array, Enum, Map, Node, Record, Scalar, Union
from lakehouse_assets.decode.decoded import BrokenSchema


def read_default(plan: Plan, node: Node, default: Any) -> Any:
    """What `plan`, of one thing wanted, gives for the default of a field of this type.

    Raises:
        BrokenSchema: it is no value of the type, or none that the column can have.
    """
    try:
        return read_body(plan, _encode(node, default), 0)[0]
    except (ValueError, TypeError, KeyError, struct.error, OverflowError, RecursionError) as error:
        raise BrokenSchema(f"a default is no value of its field's type ({error})") from None
    except BadBody as error:
        raise BrokenSchema(f"a default can't become what the column is ({error.reason})") from None


def _encode(node: Node, value: Any) -> bytes:
    match node:
        case Union(branches):
            return _encode_branch(branches, value)
        case Record(_, fields):
            return b"".join(_encode(field.node, value.get(field.name, field.default)) for field in fields)
        case Array(items):
            return _encode_items([_encode(items, item) for item in value])
        case Map(values):
            return _encode_items([_encode_bytes(key.encode()) + _encode(values, item) for key, item in value.items()])
        case Enum(symbols):
            return _encode_long(symbols.index(value))
        case Scalar(kind):
            return _encode_scalar(kind, value)


def _encode_branch(branches: tuple[Node, ...], value: Any) -> bytes:
    """The first branch that takes it: the rule was once the first, and is any now."""
    for number, branch in enumerate(branches):
        try:
            return _encode_long(number) + _encode(branch, value)
        except (ValueError, TypeError, KeyError, AttributeError, struct.error):
            continue
    raise ValueError(f"{value!r} in no branch of the union")


def _encode_items(items: list[bytes]) -> bytes:
    return (_encode_long(len(items)) + b"".join(items) if items else b"") + b"\0"


def _encode_scalar(kind: str, value: Any) -> bytes:
    match kind, value:
        case "null", None:
            return b""
        case "boolean", bool():
            return bytes([value])
        case "int" | "long", int() if not isinstance(value, bool):
            return _encode_long(value)
        case "float" | "double", int() | float() if not isinstance(value, bool):
            return struct.pack("<f" if kind == "float" else "<d", value)
        case "string", str():
            return _encode_bytes(value.encode())
        case "bytes", str():
            return _encode_bytes(value.encode("latin-1"))
        case "fixed", str():
            return value.encode("latin-1")
        case _:
            raise ValueError(f"{value!r} for {kind}")


def _encode_bytes(value: bytes) -> bytes:
    return _encode_long(len(value)) + value


def _encode_long(value: int) -> bytes:
    number = (value << 1) ^ (value >> 63)
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
