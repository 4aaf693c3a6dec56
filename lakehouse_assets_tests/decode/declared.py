"""A declared column as the decoders see it, for tests."""

from dataclasses import dataclass

from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.types import DataType, Primitive


@dataclass(frozen=True, slots=True)
class DeclaredColumn:
    """Has the attributes of a declaration's column that decoding reads."""

    name: str
    type: DataType
    required: bool = False
    path: tuple[str, ...] = ()
    epoch: str | None = None
    encoding: str | None = None


def column(
    name: str,
    kind: str | DataType,
    *,
    path: str = "",
    required: bool = False,
    epoch: str | None = None,
    encoding: str | None = None,
) -> DeclaredColumn:
    """A column of a primitive type named `kind`, or of any other type; `path` is dotted."""
    declared = Primitive(kind) if isinstance(kind, str) else kind
    return DeclaredColumn(name, declared, required, tuple((path or name).split(".")), epoch, encoding)


def decoder(*columns: DeclaredColumn) -> JsonDecoder:
    """A decoder of these columns."""
    return JsonDecoder(columns)
