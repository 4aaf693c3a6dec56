"""Which table of the source a change is of, and which of them are meant.

Hides how each format names a table: `schema.table` where the source has schemas, else `database.table`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.decoded import Indices, Mask
from lakehouse_assets.decode.exact import Unreadable

NAME_FIELDS: Final[Sequence[tuple[str, pa.DataType]]] = (("schema", pa.string()), ("db", pa.string()), ("table", pa.string()))
"""The fields of Debezium's block `source` that name a table."""

NO_NAME = "no_table_name"
NO_NAME_REASON = "the message does not say which table it is of, expected one, because of source.tables"


class TableNames:
    """The tables that are meant; all, where none is named."""

    def __init__(self, wanted: Sequence[str] = ()) -> None:
        """`wanted`: names, in which `*` stands for anything."""
        patterns = (".*".join(map(re.escape, name.split("*"))) for name in wanted)
        self._pattern = re.compile("|".join(patterns), re.DOTALL) if wanted else None

    @property
    def are_all(self) -> bool:
        """Whether every table is meant, so that names decide nothing."""
        return self._pattern is None

    def leave_out(self, name: str | None) -> bool:
        """Whether a message is surely of a table that is not meant."""
        return self._pattern is not None and name is not None and self._pattern.fullmatch(name) is None

    def demand(self, name: str | None) -> None:
        """Whether a message may be taken.

        Raises:
            Unreadable: its table has no name, but has to be one that is meant.
        """
        if self._pattern is not None and name is None:
            raise Unreadable(NO_NAME, NO_NAME_REASON)


@dataclass(frozen=True, slots=True)
class NamedRows:
    """The names of many messages' tables: `codes` are places in `names`; None: the message says none."""

    names: Sequence[str | None]
    codes: Indices

    def among(self, rows: Mask) -> frozenset[str]:
        """The names of these messages."""
        codes = np.flatnonzero(np.bincount(self.codes[rows], minlength=len(self.names)))
        found = {self.names[code] for code in codes.tolist()}
        return frozenset(name for name in found if name is not None)

    def find(self, test: Callable[[str | None], bool]) -> Mask:
        """Which messages have a name that passes."""
        return np.array([test(name) for name in self.names], np.bool_)[self.codes]


def read_name(source: Any) -> str | None:
    """The table that the block `source` of Debezium's envelope names."""
    if not isinstance(source, Mapping):
        return None
    found = (source.get(name) for name, _ in NAME_FIELDS)
    return _join(*(one if isinstance(one, str) else "" for one in found))


def read_names(parts: Sequence[pa.Array]) -> NamedRows:
    """The same of many; an array for each of `NAME_FIELDS`."""
    codes = np.zeros(len(parts[0]), np.int64)
    for part in parts:
        found = part.dictionary_encode()
        codes = codes * (len(found.dictionary) + 1) + pc.fill_null(found.indices, len(found.dictionary)).to_numpy()
    if not codes.any():  # as nearly always: one table
        return NamedRows([_join(*(part[0].as_py() or "" for part in parts))] if len(codes) else [], codes)
    _, firsts, places = np.unique(codes, return_index=True, return_inverse=True)
    return NamedRows([_join(*(part[row].as_py() or "" for part in parts)) for row in firsts.tolist()], places)


def join_name(database: Any, table: Any) -> str | None:
    """The name of a table in a database of MySQL's family."""
    return f"{database}.{table}" if isinstance(database, str) and isinstance(table, str) and database and table else None


def _join(schema: str, database: str, table: str) -> str | None:
    above = schema or database
    return (f"{above}.{table}" if above else table) if table else None
