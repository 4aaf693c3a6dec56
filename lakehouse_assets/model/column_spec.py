"""What a declaration may say of one column: its type, and where in a message its value is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lakehouse_assets.model import fields
from lakehouse_assets.model.columns import REST_COLUMN
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.types import DataType, ListType, Primitive

_TIMESTAMPS = ("timestamp", "timestamptz")
_ENCODED = {"text": ("decimal",), "base64": ("decimal", "binary", "fixed"), "hex": ("binary", "fixed")}
_ENCODED_FORMAT = "debezium-json"
_TYPES_OF_TEXT = ("string", "binary", "int", "long")  # what a whole key or header may be


class ColumnSpec(Declared):
    """One column of the table. A field that a message lacks becomes null, never zero."""

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...

    name: fields.ColumnName = Field(description="Name of the column.")
    type: fields.ColumnType = Field(
        description="Type in Iceberg's spelling. Maps have string keys, because JSON has no others."
    )
    required: bool = Field(
        default=False,
        strict=True,
        description="Whether every row has a value. A message without one can't become a row.",
    )
    doc: str = Field(
        default="",
        strict=True,
        description="What the column means; kept in the table, shown by query engines.",
    )
    path: fields.MessagePath = Field(
        default_factory=tuple,
        validation_alias="from",
        serialization_alias="from",
        description="Where the message holds the value, if not in a field of the column's name: another "
        'name, a path into nested objects (a.b), or a list where names contain dots (["a.b", "c"]).',
    )
    epoch: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] | None = Field(
        default=None,
        description="For timestamp and timestamptz: the message carries a number of these since 1970 instead "
        "of ISO 8601 text. For debezium-json also for time (since midnight), for lists of these, and in nanoseconds.",
    )
    encoding: Literal["text", "base64", "hex"] | None = Field(
        default=None,
        description="For debezium-json without schemas: what text of a decimal (text or base64) or of binary and fixed (base64 "
        "or hex) is. Left out, text that could be either is bad.",
    )
    from_key: fields.KeyPlace | None = Field(
        default=None,
        description="Instead of 'from': the message's key. true is the whole key, for string, binary, int and long (as text); "
        "where keys are JSON objects, a path into them as in 'from'.",
    )
    from_header: str | None = Field(
        default=None,
        strict=True,
        min_length=1,
        description="Instead of 'from': the last header of this name, for string, binary, int and long (as text).",
    )
    expr: fields.Sql | None = Field(
        default=None,
        description="The column is derived: an SQL expression, in DuckDB's dialect, over the columns that the message "
        "holds. Instead of the keys that say where it is in the message.",
    )

    @model_validator(mode="before")
    @classmethod
    def _path_is_the_name(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if any(data.get(place) is not None for place in ("from_key", "from_header", "expr")):
            return {name: value for name, value in data.items() if name not in ("from", "path") or value}
        return {**data, "from": [data["name"]]} if data.get("name") and not data.keys() & {"from", "path"} else data

    @field_validator("from_key", "from_header")
    @classmethod
    def _place_is_the_only_one(cls, place: Any, info: ValidationInfo) -> Any:
        if place is None:
            return place
        is_given = {"from": bool(info.data.get("path")), "from_key": info.data.get("from_key") is not None}
        for other in (name for name, given in is_given.items() if given):
            if other != info.field_name:
                raise ValueError(Mistake(f"{info.field_name} beside {other}", "one of from, from_key and from_header"))
        kind = info.data.get("type")
        is_text = isinstance(kind, Primitive) and kind.name in _TYPES_OF_TEXT
        if (place == () or info.field_name == "from_header") and kind is not None and not is_text:
            raise ValueError(Mistake(f"{info.field_name} on a column of type {kind}", ", ".join(_TYPES_OF_TEXT)))
        return place

    @model_validator(mode="after")
    def _rest_is_an_optional_text(self) -> Self:
        if self.name == REST_COLUMN:
            is_text = self.type == Primitive("string") and not self.required and self.epoch is None
            if not is_text or not self.is_in_value or self.path != (REST_COLUMN,):
                allowed = f"{{name: {REST_COLUMN}, type: string}}, which keeps the fields that no other column reads"
                raise ValueError(Mistake(f"a column {REST_COLUMN} of another kind", allowed))
        return self

    @property
    def is_in_value(self) -> bool:
        """Whether the message's value has it, not its key or a header."""
        return self.from_key is None and self.from_header is None

    @field_validator("epoch")
    @classmethod
    def _epoch_fits_the_type(cls, epoch: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("type")
        if epoch is not None and kind is not None and _name_of_items(kind) not in (*_TIMESTAMPS, "time"):
            found = f"{epoch!r} on a column of type {kind}"
            raise ValueError(Mistake(found, "epoch on timestamp and timestamptz only"))
        return epoch

    @field_validator("encoding")
    @classmethod
    def _encoding_fits_the_type(cls, encoding: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("type")
        if encoding is not None and kind is not None and _name_of_items(kind) not in _ENCODED[encoding]:
            found = f"{encoding!r} on a column of type {kind}"
            raise ValueError(Mistake(found, f"encoding: {encoding} on {' and '.join(_ENCODED[encoding])} only"))
        return encoding

    def find_format_mistake(self, kind: str) -> Mistake | None:
        """What is said of this column that messages of the format `kind` don't need."""
        if kind == _ENCODED_FORMAT:
            return None
        if self.encoding is not None:
            return Mistake(f"encoding on {self.name!r} of {kind} messages", f"encoding with format: {_ENCODED_FORMAT} only")
        is_plain = isinstance(self.type, Primitive) and self.type.name in _TIMESTAMPS and self.epoch != "nanoseconds"
        if self.epoch is not None and not is_plain:
            found = f"epoch: {self.epoch} on {self.name!r}, which is {self.type}, of {kind} messages"
            allowed = "epoch: seconds, milliseconds or microseconds on timestamp and timestamptz"
            return Mistake(found, f"{allowed}; others with format: {_ENCODED_FORMAT} only")
        return None

    @field_validator("expr")
    @classmethod
    def _expr_stands_alone(cls, expr: str | None, info: ValidationInfo) -> str | None:
        beside = [key for key in ("epoch", "encoding", "from_key", "from_header") if info.data.get(key) is not None]
        beside += ["from"] if info.data.get("path") else []
        if expr is not None and beside:
            raise ValueError(Mistake(f"expr beside {beside[0]}", "expr alone: it says where the value comes from"))
        kind = info.data.get("type")
        if expr is not None and kind is not None and not isinstance(kind, Primitive):
            raise ValueError(Mistake(f"expr on a column of type {kind}", "expr on columns of a primitive type"))
        return expr


def _name_of_items(kind: DataType) -> str | None:
    """The name of a primitive type, or of that in a list."""
    while isinstance(kind, ListType):
        kind = kind.element
    return kind.name if isinstance(kind, Primitive) else None
