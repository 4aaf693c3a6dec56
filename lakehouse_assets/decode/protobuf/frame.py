"""What stands before the body of a message in Confluent's wire format: a zero byte, the schema's id, the type's place in it.

The place is a list of indexes, from the outermost message of the schema inwards; the usual one, [0], is one zero byte.
"""

from dataclasses import dataclass

USUAL_SIZE = 6
"""Bytes of a frame whose type is the first of its schema."""

_ID_END = 5
_MOST_INDEXES = 64
_MOST_BYTES = 5  # of a number here


@dataclass(frozen=True, slots=True)
class Frame:
    """Which schema and type, and how many bytes said so."""

    schema_id: int
    path: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Unframed:
    """Why a value has no frame: a stable code, and one clause of reason."""

    code: str
    reason: str


def read_frame(value: bytes) -> Frame | Unframed:
    """The frame of a value."""
    if not value:
        return Unframed("empty", "the value is empty, expected a Protobuf message with the id of its schema")
    if value[0]:
        reason = f"the value begins with the byte {value[0]:#04x}, expected 0x00 and the id of a schema"
        return Unframed("wrong_magic_byte", reason)
    at = _ID_END
    numbers: list[int] = []
    while len(numbers) <= (numbers[0] if numbers else 0):
        found = _read_number(value, at)
        if found is None or not 0 <= found[0] <= (_MOST_INDEXES if not numbers else 2**31):
            return Unframed("broken_protobuf", "the value ends within, or is nonsense in, its schema and type")
        numbers.append(found[0])
        at = found[1]
    return Frame(int.from_bytes(value[1:_ID_END]), tuple(numbers[1:]) or (0,), at)


def _read_number(value: bytes, at: int) -> tuple[int, int] | None:
    """A zigzag number and where it ends."""
    number = 0
    for shift, octet in enumerate(value[at : at + _MOST_BYTES]):
        number |= (octet & 0x7F) << 7 * shift
        if octet < 0x80:
            return number >> 1 ^ -(number & 1), at + shift + 1
    return None
