"""Iceberg's types in Iceberg's own spelling, as plain values.

Hides the grammar of `decimal(10,2)`, `list<string>`, `map<string,long>` and `struct<a:int,b:string>`. Pure:
the adapters turn these values into Arrow and PyIceberg types.
"""

import re
from dataclasses import dataclass

from lakehouse_assets.model.mistakes import Mistake, nearest


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive type. `parameters`: (precision, scale) of a decimal, (length,) of a fixed, else nothing."""

    name: str
    parameters: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.name == "fixed":
            return f"fixed[{self.parameters[0]}]"
        return f"{self.name}({', '.join(map(str, self.parameters))})" if self.parameters else self.name


@dataclass(frozen=True, slots=True)
class ListType:
    """A list; elements may be null."""

    element: "DataType"

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True, slots=True)
class MapType:
    """A map; keys are required, values may be null."""

    key: "DataType"
    value: "DataType"

    def __str__(self) -> str:
        return f"map<{self.key}, {self.value}>"


@dataclass(frozen=True, slots=True)
class StructField:
    """A named member of a struct; may be null."""

    name: str
    type: "DataType"


@dataclass(frozen=True, slots=True)
class StructType:
    """A struct of named, optional fields."""

    fields: tuple[StructField, ...]

    def __str__(self) -> str:
        return f"struct<{', '.join(f'{field.name}: {field.type}' for field in self.fields)}>"


PRIMITIVE_NAMES = (
    "boolean", "int", "long", "float", "double", "decimal", "date", "time", "timestamp", "timestamptz",
    "string", "uuid", "fixed", "binary",
)  # fmt: skip

DataType = Primitive | ListType | MapType | StructType

TYPE_PATTERN = (  # a coarse check for editors; `parse_type` is the exact one
    rf"^\s*({'|'.join(name for name in PRIMITIVE_NAMES if name not in ('decimal', 'fixed'))}"
    r"|decimal\(\s*[0-9]+\s*,\s*[0-9]+\s*\)|fixed(\[\s*[0-9]+\s*\]|\(\s*[0-9]+\s*\))|(list|map|struct)\s*<.+>)\s*$"
)
MAX_DECIMAL_PRECISION = 38  # Iceberg spec, "Primitive Types"
_MAX_DEPTH = 32  # a limit of ours: deeper text would exhaust Python's stack before it could be reported
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[0-9]+|\S)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALLOWED = f"{', '.join(PRIMITIVE_NAMES)}, list<...>, map<..., ...>, struct<name: ..., ...>".replace(
    "decimal,", "decimal(precision, scale),"
).replace("fixed,", "fixed[length],")
_NAMES_ELSEWHERE = {
    "array": "list", "bigint": "long", "bool": "boolean", "bytes": "binary", "char": "string",
    "datetime": "timestamptz", "float32": "float", "float64": "double", "int32": "int", "int64": "long",
    "integer": "int", "number": "double", "numeric": "decimal", "object": "struct", "record": "struct",
    "row": "struct", "smallint": "int", "str": "string", "text": "string", "timestamp_tz": "timestamptz",
    "tinyint": "int", "varchar": "string",
}  # fmt: skip


def parse_type(text: str) -> DataType:
    """Read a type in Iceberg's spelling. `parse_type(str(t)) == t`; `fixed(16)` is `fixed[16]`.

    Raises:
        ValueError: the text is no such type; says what was found and what is allowed.
    """
    reader = _TypeReader(text)
    found = reader.read_type(depth=0)
    if reader.token:
        raise reader.mistake("the end of the type")
    return found


def list_maps(kind: DataType) -> list[MapType]:
    """Every map in a type, itself included."""
    match kind:
        case Primitive():
            return []
        case ListType():
            return list_maps(kind.element)
        case MapType():
            return [kind, *list_maps(kind.key), *list_maps(kind.value)]
        case StructType():
            return [inner for field in kind.fields for inner in list_maps(field.type)]


class _TypeReader:
    """Reads one type text from left to right; `token` is the next one, empty at the end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        self.at = 0

    @property
    def token(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def read_type(self, depth: int) -> DataType:
        if depth > _MAX_DEPTH:
            raise ValueError(Mistake(f"a type nested {depth} deep", f"at most {_MAX_DEPTH} levels"))
        match self.token:
            case "list":
                return self.read_list(depth)
            case "map":
                return self.read_map(depth)
            case "struct":
                return self.read_struct(depth)
            case "decimal":
                return self.read_decimal()
            case "fixed":
                return self.read_fixed()
            case name if name in PRIMITIVE_NAMES:
                self.at += 1
                return Primitive(name)
            case name:
                known = (*PRIMITIVE_NAMES, "list", "map", "struct")
                raise self.mistake(_ALLOWED, _NAMES_ELSEWHERE.get(name.lower()) or nearest(name, known))

    def read_list(self, depth: int) -> ListType:
        self.take("list", "<")
        element = self.read_type(depth + 1)
        self.take(">")
        return ListType(element)

    def read_map(self, depth: int) -> MapType:
        self.take("map", "<")
        key = self.read_type(depth + 1)
        self.take(",")
        value = self.read_type(depth + 1)
        self.take(">")
        return MapType(key, value)

    def read_struct(self, depth: int) -> StructType:
        self.take("struct", "<")
        fields = [self.read_field(depth, set())]
        taken = {fields[0].name.lower()}
        while self.token == ",":
            self.take(",")
            fields.append(self.read_field(depth, taken))
            taken.add(fields[-1].name.lower())
        self.take(">")
        return StructType(tuple(fields))

    def read_field(self, depth: int, taken: set[str]) -> StructField:
        name = self.token
        if not _NAME.fullmatch(name):
            raise self.mistake("a field name of letters, digits and underscores, not beginning with a digit")
        if name.lower() in taken:
            raise self.mistake("each field name once, letter case aside")
        self.at += 1
        self.take(":")
        return StructField(name, self.read_type(depth + 1))

    def read_decimal(self) -> Primitive:
        self.take("decimal", "(")
        precision = self.read_number(1, MAX_DECIMAL_PRECISION, "a precision")
        self.take(",")
        scale = self.read_number(0, precision, "a scale")
        self.take(")")
        return Primitive("decimal", (precision, scale))

    def read_fixed(self) -> Primitive:
        self.take("fixed")
        closing = {"[": "]", "(": ")"}.get(self.token)
        if closing is None:
            raise self.mistake("fixed[length], for example fixed[16]")
        self.at += 1
        length = self.read_number(1, 2**31 - 1, "a length in bytes")
        self.take(closing)
        return Primitive("fixed", (length,))

    def read_number(self, smallest: int, largest: int, what: str) -> int:
        token = self.token
        if not (
            token.isascii() and token.isdigit() and len(token) <= 10 and smallest <= int(token) <= largest
        ):
            raise self.mistake(f"{what} from {smallest} to {largest}")
        self.at += 1
        return int(token)

    def take(self, *tokens: str) -> None:
        for token in tokens:
            if self.token != token:
                raise self.mistake(repr(token))
            self.at += 1

    def mistake(self, allowed: str, suggestion: str | None = None) -> ValueError:
        found = repr(self.token) if self.token else "the end"
        where = "" if self.token == self.text.strip() else f" in {self.text!r}"
        return ValueError(Mistake(found + where, allowed, suggestion))
