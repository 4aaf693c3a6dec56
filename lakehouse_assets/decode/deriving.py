"""Rows get their derived columns, and `where` leaves rows out: the SQL of a declaration, run on decoded batches.

Every expression is evaluated in DuckDB's `TRY`, so that an error makes one row bad and says nothing of the others. A struct
around the value tells an error, which makes it null, from a value that is null. `where` comes first, so it can protect columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.decoded import BadValue, Decoded, Decoder, Messages
from lakehouse_assets.decode.rules import MAX_MICROS, MIN_MICROS
from lakehouse_assets.expressions import (
    Expression,
    find_columns,
    find_expression_mistakes,
    list_expressions,
    open_session,
    say,
    sql_type,
)
from lakehouse_assets.model.errors import DeclarationError, Problem
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import Primitive

_CODE = "expression_failed"
_SENTENCES = 20  # failures of a batch for which DuckDB is asked again what it says, at 1.5 ms each
_DAY_MICROS = 86_400_000_000
# What one row can be guilty of. Of anything else that DuckDB raises, as a lack of memory, no row is.
_ROW_ERRORS = (duckdb.DataError, duckdb.ProgrammingError, duckdb.NotSupportedError)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """The values of one expression, one for each row; null where it `failed`."""

    values: pa.Array
    failed: Mask


@dataclass(frozen=True, slots=True)
class Derived:
    """What became of some rows. `kept`: those that are in `table`, ascending; `filtered`: those that `where` leaves out."""

    table: pa.Table
    kept: npt.NDArray[np.int64]
    filtered: npt.NDArray[np.int64]
    bad: list[BadValue]


class DerivingDecoder:
    """Decodes with another decoder, then applies the expressions of the declaration."""

    def __init__(self, deriver: "Deriver", decoder: Decoder) -> None:
        """`decoder` gives the columns that are declared without `expr`."""
        self._deriver, self._decoder = deriver, decoder

    def decode(self, messages: Messages) -> Decoded:
        """As every decoder. A message for which an expression fails is bad, as is one without a required derived value."""
        decoded = self._decoder.decode(messages)
        at = decoded.rows(len(messages))
        derived = self._deriver.derive(decoded.table, at)
        bad = sorted([*decoded.bad, *derived.bad], key=lambda one: one.index)
        return Decoded(derived.table, tuple(bad), decoded.unknown, at[derived.filtered])


class Deriver:
    """Applies the expressions of a declaration to rows of the columns that the message holds."""

    def __init__(self, spec: TableSpec) -> None:
        """Read the expressions.

        Raises:
            DeclarationError: an expression is wrong. In a declaration from a file, loading finds that, with file and line.
        """
        found = find_expression_mistakes(spec)
        if found:
            raise DeclarationError(
                [Problem(spec.table, 1, ".".join(map(str, at)), m.found, m.allowed, m.suggestion) for at, m in found]
            )
        self._columns, self._session = spec.columns, open_session()
        expressions = {one.place: one for one in list_expressions(spec)}
        self.where = expressions.pop(("where",), None)
        self.derived = list(expressions.values())

    def reads(self, expression: Expression) -> frozenset[str]:
        """The columns that an expression reads."""
        names = find_columns(self._session, expression.sql)
        return frozenset(column.name for column in self._columns if column.name.lower() in names)

    def derive(self, table: pa.Table, at: npt.NDArray[np.int64]) -> Derived:
        """All declared columns of the rows that `where` lets through. `at`: index of each row's message, for the bad ones."""
        rows = np.arange(len(table))
        bad: list[BadValue] = []
        filtered = rows[:0]
        if self.where is not None:
            (passes,) = self._evaluate(table, [self.where])
            bad += self._explain(table, at, self.where, passes.failed)
            is_true = _to_mask(passes.values)
            filtered = rows[~is_true & ~passes.failed]
            table, at, rows = table.filter(pa.array(is_true)), at[is_true], rows[is_true]
        whole, is_bad, worse = self._derive(table, at)
        return Derived(whole.filter(pa.array(~is_bad)) if worse else whole, rows[~is_bad], filtered, [*bad, *worse])

    def _derive(self, table: pa.Table, at: npt.NDArray[np.int64]) -> tuple[pa.Table, Mask, list[BadValue]]:
        """The declared columns of all rows, and which of them are bad."""
        is_bad = np.zeros(len(table), np.bool_)
        bad: list[BadValue] = []
        derived: dict[str, pa.Array] = {}
        for expression, found in zip(self.derived, self._evaluate(table, self.derived), strict=True):
            values, misfits = _fit(found.values, expression.type)
            is_missing = _to_mask(values.is_null()) & ~found.failed & ~misfits & expression.is_required
            bad += self._explain(table, at, expression, found.failed & ~is_bad)
            for mask, code, fault in (
                (misfits, _CODE, "is out of range, expected"),
                (is_missing, "missing_required", "is null, expected"),
            ):
                reason = f"{expression.label} {fault} {expression.type}"
                bad += [BadValue(int(at[row]), code, reason) for row in np.flatnonzero(mask & ~is_bad)]
            is_bad |= found.failed | misfits | is_missing
            derived[expression.column] = values
        arrays = [derived[c.name] if c.expr is not None else table.column(c.name) for c in self._columns]
        return pa.table(arrays, names=[c.name for c in self._columns]), is_bad, bad

    def _evaluate(self, table: pa.Table, expressions: Sequence[Expression]) -> list[_Evaluated]:
        """The values of some expressions, which fail in single rows only."""
        if not expressions or not len(table):
            return [_Evaluated(pa.nulls(0, _loose_type(one.type)), np.empty(0, np.bool_)) for one in expressions]
        selected = ", ".join(f"TRY({{'v': {_cast(one)}}})" for one in expressions)
        try:
            found = self._select(selected, table)
        except _ROW_ERRORS:
            # Some errors pass through TRY. Whose it is shows where one expression meets one row.
            if len(expressions) > 1:
                return [self._evaluate(table, [one])[0] for one in expressions]
            if len(table) > 1:
                middle = len(table) // 2
                halves = [self._evaluate(half, expressions)[0] for half in (table[:middle], table[middle:])]
                values = pa.concat_arrays([half.values for half in halves])
                return [_Evaluated(values, np.concatenate([half.failed for half in halves]))]
            return [_Evaluated(pa.nulls(1, _loose_type(expressions[0].type)), np.ones(1, np.bool_))]
        return [_unwrap(column.combine_chunks(), one.type) for column, one in zip(found.columns, expressions, strict=True)]

    def _select(self, selected: str, table: pa.Table) -> pa.Table:
        self._session.register("batch", table)
        return self._session.execute(f"SELECT {selected} FROM batch").to_arrow_table()

    def _explain(
        self, table: pa.Table, at: npt.NDArray[np.int64], expression: Expression, failed: Mask
    ) -> Iterator[BadValue]:
        for number, row in enumerate(np.flatnonzero(failed).tolist()):
            reason = "it fails as for others of the same batch"
            if number < _SENTENCES:
                try:
                    self._select(_cast(expression), table.slice(row, 1))
                except _ROW_ERRORS as error:
                    reason = say(error)
            yield BadValue(int(at[row]), _CODE, f"{expression.label}: {reason}")


def _cast(expression: Expression) -> str:
    # The text ends on a line of its own, because it may end in a comment.
    return f"CAST(({expression.sql}\n) AS {sql_type(expression.type)})"


def _to_mask(flags: pa.Array) -> Mask:
    """True where a flag is; null counts as false."""
    mask: Mask = pc.fill_null(flags, False).to_numpy(zero_copy_only=False)
    return mask


def _loose_type(declared: Primitive) -> pa.DataType:
    return pa.binary() if declared.name == "fixed" else arrow_type(declared)


def _unwrap(structs: pa.Array, declared: Primitive) -> _Evaluated:
    values = pc.struct_field(structs, "v")
    if declared.name == "boolean":  # DuckDB gives them as bytes
        values = values.storage
    return _Evaluated(values.cast(_loose_type(declared)), _to_mask(structs.is_null()))


def _fit(values: pa.Array, declared: Primitive) -> tuple[pa.Array, Mask]:
    """The values in exactly the declared type, null where DuckDB's type holds more than the declared one; and where."""
    match declared:
        case Primitive("float" | "double"):
            fits = pc.is_finite(values)
        case Primitive("timestamp" | "timestamptz"):
            fits = _is_between(values.cast(pa.int64()), MIN_MICROS, MAX_MICROS)
        case Primitive("date"):
            fits = _is_between(values.cast(pa.int32()), MIN_MICROS // _DAY_MICROS, MAX_MICROS // _DAY_MICROS)
        case Primitive("time"):
            fits = _is_between(values.cast(pa.int64()), 0, _DAY_MICROS - 1)
        case Primitive("fixed", (length,)):
            fits = pc.equal(pc.binary_length(values), length)
        case _:
            return values, np.zeros(len(values), np.bool_)
    misfits = _to_mask(pc.invert(fits))
    if misfits.any():
        values = pc.if_else(pa.array(misfits), pa.scalar(None, values.type), values)
    return values.cast(arrow_type(declared)), misfits


def _is_between(numbers: pa.Array, low: int, high: int) -> pa.Array:
    return pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
