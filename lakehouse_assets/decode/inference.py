"""Which columns would read some JSON messages: the narrowest types that take every value that was seen.

Hides the order of types, and when a text is surely a time or a UUID. The decoder has the last word: a column for which it
would reject a message is not drafted.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from math import inf, isfinite
from types import MappingProxyType
from typing import Any

from lakehouse_assets.decode.exact import Repeating, Unreadable, parse_object
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.decode.kinds import Fraction, Integer
from lakehouse_assets.decode.rules import (
    Rejected,
    bytes_of_uuid,
    days_of_date,
    decimal_of_text,
    micros_of_time,
    micros_of_timestamp,
)
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.columns import DELETED, ICEBERG_NAMES, OPERATION, REST_COLUMN, SOURCE_POSITION
from lakehouse_assets.model.drafts import ColumnDraft, Draft
from lakehouse_assets.model.types import (
    MAX_DECIMAL_PRECISION,
    DataType,
    ListType,
    MapType,
    Primitive,
    StructField,
    StructType,
)
from lakehouse_assets.model.written import IDENTIFIER_PATTERN, RESERVED_PREFIX

_MOST_COLUMNS = 500  # beyond, the keys of the messages are data
_MOST_MEMBERS = 100  # an object with more keys than this is a map
_MOST_LEVELS = 30  # types may nest 32 deep
_DOUBLE_DIGITS = 17  # more than so many, a double does not keep
_LONGEST_MADE_NAME = 60
# A column of this name would not be read from a field, or not by engines, or stands for something else in upsert tables.
_RESERVED = {REST_COLUMN, *ICEBERG_NAMES, SOURCE_POSITION, DELETED, OPERATION}
_EPOCHS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_FIRST_SECOND, _LAST_SECOND = 946_684_800, 4_102_444_800  # the years 2000 to 2099
_TIME_WORDS = re.compile(r"time|date|stamp|(^|_)(ts|at|on|when|created|updated)($|_)|At$", re.IGNORECASE)
_EVENT_WORDS = re.compile(r"event|occur|happen|created|timestamp|^ts$|^time$|^at$", re.IGNORECASE)
_TEXTS: Mapping[str, Callable[[str], Any]] = {
    "timestamptz": partial(micros_of_timestamp, with_zone=True),
    "timestamp": partial(micros_of_timestamp, with_zone=False),
    "date": days_of_date,
    "time": micros_of_time,
    "uuid": bytes_of_uuid,
}


def infer_from_messages(values: Sequence[bytes]) -> Draft:
    """Draft a column for each field that has one type. Every message that is a JSON object becomes a row by it. Pure."""
    messages: list[dict[str, Any]] = []
    readable: list[bytes] = []
    unreadable: Counter[str] = Counter()
    for value in values:
        try:
            message = parse_object(value)
            _refuse_repeating(message)
        except Unreadable as error:
            unreadable[error.code] += 1
            continue
        messages.append(message)
        readable.append(value)
    left_out: dict[str, str] = {}
    drafts = draft_columns(messages, left_out)
    return Draft(tuple(_keep_proved(drafts, readable, left_out)), left_out, len(messages), unreadable)


def _refuse_repeating(found: Any) -> None:
    if isinstance(found, Repeating):
        raise Unreadable("duplicate_key", "a key repeats")
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        _refuse_repeating(inner)


@dataclass(slots=True)
class _Shape:
    """All values that were seen in one place."""

    count: int = 0
    kinds: set[str] = field(default_factory=set)
    example: Any = None
    lowest: float = inf
    highest: float = -inf
    precision: int = 0  # significant digits
    digits: int = 0  # before the point
    scale: int = 0  # behind it
    is_long: bool = True
    is_finite: bool = True
    is_numeric: bool = True  # each text is a number
    texts: set[str] = field(default_factory=lambda: set(_TEXTS))
    members: "dict[str, _Shape]" = field(default_factory=dict)
    items: "_Shape | None" = None

    def add(self, value: Any) -> None:
        """Take one value into account; null says nothing."""
        if value is None:
            return
        self.example = value if self.example is None else self.example
        self.count += 1
        match value:
            case bool():
                self.kinds.add("true or false")
            case Integer() | Fraction():
                self.kinds.add("whole numbers" if isinstance(value, Integer) else "fractions")
                self._measure(value)
            case str():
                self.kinds.add("texts")
                self._add_text(value)
            case dict():
                self.kinds.add("objects")
                for key, inner in value.items():
                    self.members.setdefault(key, _Shape()).add(inner)
            case list():
                self.kinds.add("lists")
                self.items = self.items or _Shape()
                for inner in value:
                    self.items.add(inner)

    def _add_text(self, value: str) -> None:
        self.texts = {name for name in self.texts if _takes(_TEXTS[name], value)}
        self.is_numeric = self.is_numeric and _takes(lambda text: decimal_of_text(text, 38, 19), value)
        if self.is_numeric:
            self._measure(value)

    def _measure(self, text: str) -> None:
        mantissa, _, exponent = text.lower().partition("e")
        whole, _, part = mantissa.lstrip("+-").partition(".")
        shift = int(exponent) if exponent and len(exponent) < 6 else 0
        self.precision = max(self.precision, len((whole + part.rstrip("0")).lstrip("0")))
        self.digits = max(self.digits, len(whole.lstrip("0")) + shift)
        self.scale = max(self.scale, len(part) - shift)
        self.is_long = self.is_long and isinstance(text, Integer) and len(text) <= 20 and -(2**63) <= int(text) < 2**63
        number = float(text)
        self.is_finite = self.is_finite and isfinite(number)
        self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)


def _takes(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except Rejected:
        return False
    return True


def _type_of(shape: _Shape, place: str, left_out: dict[str, str], level: int = 0) -> DataType | None:
    """The narrowest type of all values; None, with a reason in `left_out`, where there is none."""
    match sorted(shape.kinds):
        case []:
            found: DataType | str = "only null was seen"
        case ["true or false"]:
            found = Primitive("boolean")
        case ["whole numbers"] if shape.is_long:
            found = Primitive("long")
        case ["fractions"] | ["fractions", "whole numbers"] | ["whole numbers"]:
            found = _number_type(shape)
        case ["texts"]:
            found = Primitive(next((name for name in _TEXTS if name in shape.texts), "string"))
        case kinds if "texts" in kinds and set(kinds) <= {"texts", "fractions", "whole numbers"} and shape.is_numeric:
            found = _decimal_type(shape)
        case ["lists"] | ["objects"] if level == _MOST_LEVELS:
            found = "nests deeper than types may"
        case ["lists"]:
            element = _type_of(shape.items or _Shape(), f"{place}[]", left_out, level + 1)
            found = ListType(element) if element is not None else "its items have no type"
        case ["objects"]:
            found = _object_type(shape, place, left_out, level)
        case kinds:
            found = " and ".join(kinds) + " were seen, which no one type reads"
    if isinstance(found, str):
        left_out[place] = found
        return None
    return found


def _number_type(shape: _Shape) -> DataType | str:
    if shape.is_finite and shape.precision <= _DOUBLE_DIGITS:
        return Primitive("double")
    exact = _decimal_type(shape)
    if isinstance(exact, str) and shape.is_finite:
        return Primitive("double")
    return exact


def _decimal_type(shape: _Shape) -> DataType | str:
    scale = max(shape.scale, 0)
    if shape.digits + scale > MAX_DECIMAL_PRECISION:
        return "numbers larger than any type holds were seen"
    return Primitive("decimal", (MAX_DECIMAL_PRECISION, scale))


def _object_type(shape: _Shape, place: str, left_out: dict[str, str], level: int) -> DataType | str:
    if not shape.members:
        return "only empty objects were seen"
    names = {key.lower() for key in shape.members if re.fullmatch(IDENTIFIER_PATTERN, key)}
    if len(names) < len(shape.members) or len(names) > _MOST_MEMBERS:
        return _map_type(shape, place, left_out, level)
    members = {key: _type_of(inner, f"{place}.{key}", left_out, level + 1) for key, inner in shape.members.items()}
    fields = tuple(StructField(key, kind) for key, kind in members.items() if kind is not None)
    return StructType(fields) if fields else "no member of it has a type"


def _map_type(shape: _Shape, place: str, left_out: dict[str, str], level: int) -> DataType | str:
    values = _Shape()
    for inner in shape.members.values():
        values = _joined(values, inner)
    kind = _type_of(values, f"{place}[…]", left_out, level + 1)
    return MapType(Primitive("string"), kind) if kind is not None else "the values of its keys have no one type"


def _joined(one: _Shape, other: _Shape) -> _Shape:
    members = dict(one.members)
    for key, shape in other.members.items():
        members[key] = _joined(members[key], shape) if key in members else shape
    return _Shape(
        count=one.count + other.count,
        kinds=one.kinds | other.kinds,
        example=one.example if one.example is not None else other.example,
        lowest=min(one.lowest, other.lowest),
        highest=max(one.highest, other.highest),
        precision=max(one.precision, other.precision),
        digits=max(one.digits, other.digits),
        scale=max(one.scale, other.scale),
        is_long=one.is_long and other.is_long,
        is_finite=one.is_finite and other.is_finite,
        is_numeric=one.is_numeric and other.is_numeric,
        texts=one.texts & other.texts,
        members=members,
        items=_joined(one.items, other.items) if one.items and other.items else one.items or other.items,
    )


def draft_columns(
    messages: Sequence[Mapping[str, Any]], left_out: dict[str, str], known: Mapping[str, DataType] = MappingProxyType({})
) -> list[ColumnDraft]:
    """A column for each field of objects that has one type: the one that is `known` of it, or that of its values.

    The others, with why, come into `left_out`.
    """
    whole = _Shape()
    for message in messages:
        whole.add(message)
    return list(_draft_each(whole, len(messages), left_out, known))


def _draft_each(
    whole: _Shape, message_count: int, left_out: dict[str, str], known: Mapping[str, DataType]
) -> Iterator[ColumnDraft]:
    common = set(sorted(whole.members, key=lambda key: -whole.members[key].count)[:_MOST_COLUMNS])
    names = name_columns(whole.members)
    for key, shape in whole.members.items():
        if not key or key not in common:
            left_out[key] = "others are more common, and these are too many columns" if key else "a field without a name"
            continue
        kind = known.get(key) or _type_of(shape, key, left_out)
        if kind is None:
            continue
        epoch = _epoch_of(key, shape) if kind == Primitive("long") and key not in known else None
        yield ColumnDraft(
            name=names[key],
            path=(key,),
            type=kind,
            required=shape.count == message_count,
            share=shape.count / message_count,
            example=str(shape.example) if isinstance(shape.example, str) and key not in known else "",
            hint="" if key in known else _hint(shape, kind, epoch),
            event_time=event_time_score(key, kind),
        )


def name_columns(keys: Iterable[str]) -> dict[str, str]:
    """A name for the column of each field, letter case aside no two alike: the field's own wherever that can be one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in sorted(keys, key=lambda key: not _is_name(key)):
        name = key if _is_name(key) else re.sub("[^A-Za-z0-9_]+", "_", key).strip("_")[:_LONGEST_MADE_NAME]
        name = name if _is_name(name) else f"field_{name}".rstrip("_")
        numbered = (f"{name}_{number}" for number in count(2))
        names[key] = next(one for one in chain([name], numbered) if one.lower() not in taken)
        taken.add(names[key].lower())
    return names


def _is_name(key: str) -> bool:
    is_reserved = key.lower().startswith(RESERVED_PREFIX) or key.lower() in _RESERVED
    return re.fullmatch(IDENTIFIER_PATTERN, key) is not None and not is_reserved


def _epoch_of(key: str, shape: _Shape) -> str | None:
    """The unit in which whole numbers look like times since 1970, if their name says so too."""
    for unit, factor in _EPOCHS.items():
        plausible = _FIRST_SECOND * factor <= shape.lowest and shape.highest <= _LAST_SECOND * factor
        if plausible and _TIME_WORDS.search(key):
            return unit
    return None


def _hint(shape: _Shape, kind: DataType, epoch: str | None) -> str:
    if epoch is not None:
        return f"looks like {epoch} since 1970: type: timestamptz, epoch: {epoch}"
    if kind == Primitive("string") and shape.is_numeric and shape.scale > 0:
        return f"only numbers were seen: type: decimal(18, {shape.scale})?"
    return ""


def event_time_score(key: str, kind: DataType) -> int:
    """How much a column looks like the time of the event; 0: it is no time."""
    order = [Primitive("date"), Primitive("timestamp"), Primitive("timestamptz")]
    return 1 + order.index(kind) + 3 * bool(_EVENT_WORDS.search(key)) if kind in order else 0


def _keep_proved(drafts: Sequence[ColumnDraft], readable: Sequence[bytes], left_out: dict[str, str]) -> Iterator[ColumnDraft]:
    """Those by which the decoder makes a row of every message."""
    if drafts and not JsonDecoder([declare(draft) for draft in drafts]).decode(readable).bad:
        yield from drafts
        return
    for draft in drafts:
        bad = JsonDecoder([declare(draft)]).decode(readable).bad
        if bad:
            left_out[draft.path[0]] = bad[0].reason
        else:
            yield draft


def declare(draft: ColumnDraft) -> ColumnSpec:
    """The column as the file declares it."""
    return ColumnSpec(name=draft.name, path=draft.path, type=draft.type, required=draft.required)
