"""Aligned columns for people."""

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size

_GAP = "  "


class Grid:
    """Lines of cells whose columns stand under each other. The widths come from the first rows; what follows may be wider."""

    def __init__(
        self, titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[bool], widest: int | None
    ) -> None:
        """`numbers`: which columns stand to the right. `widest`: cells above it are cut, which shows."""
        self._titles, self._numbers, self._widest = titles, numbers, widest
        cells = zip(titles, *(map(self._cut, row) for row in rows), strict=True)
        self._widths = [max(map(cell_len, column)) for column in cells]

    def head(self) -> str:
        """The titles."""
        return f"{self._line(self._titles)}\n{_GAP.join('-' * width for width in self._widths)}"

    def lines(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """Each row."""
        for row in rows:
            yield self._line([self._cut(cell) for cell in row])

    def _cut(self, cell: str) -> str:
        if self._widest is None or cell_len(cell) <= self._widest:
            return cell
        return set_cell_size(cell, self._widest - 1) + "…"

    def _line(self, cells: Sequence[str]) -> str:
        padded = []
        for cell, width, is_number in zip(cells, self._widths, self._numbers, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if is_number else cell + space)
        return _GAP.join(padded).rstrip()
