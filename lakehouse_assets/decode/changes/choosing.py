"""Which of its forms each column of a row's image has: assumed, then learnt from messages."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.connect import ConnectType
from lakehouse_assets.decode.changes.encodings import EncodedColumn
from lakehouse_assets.decode.changes.forms import Form, list_forms
from lakehouse_assets.decode.changes.images import type_at
from lakehouse_assets.decode.wire import Suspects


class ImageForms:
    """How images of one type are given to Arrow's reader."""

    def __init__(self, columns: Sequence[EncodedColumn], source: ConnectType | None) -> None:
        """`source`: the type of the image, where messages say it."""
        self.columns = columns
        self._forms = [list_forms(one.type, one.epoch, one.encoding, type_at(one, source)) for one in columns]
        self._chosen = [forms[0] for forms in self._forms if forms]
        self._is_learnt = False
        self.can_be_read = all(self._forms) and _have_paths_of_their_own(columns)

    def __iter__(self) -> Iterator[tuple[EncodedColumn, Form]]:
        """The columns and the forms that were chosen."""
        return zip(self.columns, self._chosen, strict=True)

    @property
    def is_learnt(self) -> bool:
        """Whether images were looked at."""
        return self._is_learnt

    def learn(self, images: Sequence[Any]) -> bool:
        """Chooses forms that fit some images; whether others than before."""
        self._is_learnt = True
        chosen = [
            next((form for form in forms if all(map(form.fits, _list_found(images, column.path)))), now)
            for column, forms, now in zip(self.columns, self._forms, self._chosen, strict=True)
        ]
        is_new = any(one is not other for one, other in zip(chosen, self._chosen, strict=True))
        self._chosen = chosen
        return is_new

    def plan(self, names: frozenset[str] | None = None) -> pa.StructType:
        """The type of the image, with the columns of these names only."""
        root: dict[str, Any] = {}
        for column, form in self:
            if names is None or column.name in names:
                node = root
                for key in column.path[:-1]:
                    node = node.setdefault(key, {})
                node[column.path[-1]] = form.wire
        return _struct_of(root)


def members_of(image: pa.StructArray) -> dict[str, pa.Array]:
    """What stands in the images, by name."""
    return {member.name: array for member, array in zip(image.type, image.flatten(), strict=True)}


def find_column(members: Mapping[str, pa.Array], path: Sequence[str], suspects: Suspects) -> pa.Array:
    """A column of images with these members.

    An object on the way to it with none of its members may be a placeholder, of which nothing is read.
    """
    array = members[path[0]]
    for key in path[1:]:
        inside = members_of(array)
        suspects.add(pc.and_(array.is_valid(), reduce(pc.and_, (member.is_null() for member in inside.values()))))
        array = inside[key]
    return array


def _struct_of(node: dict[str, Any]) -> pa.StructType:
    return pa.struct([(key, _struct_of(child) if isinstance(child, dict) else child) for key, child in node.items()])


def _have_paths_of_their_own(columns: Sequence[EncodedColumn]) -> bool:
    paths = [column.path for column in columns]
    ways = {path[:length] for path in paths for length in range(1, len(path))}
    return len(set(paths)) == len(paths) and ways.isdisjoint(paths)


def _list_found(images: Sequence[Any], path: Sequence[str]) -> list[Any]:
    found = []
    for image in images:
        value = image
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.append(value)
    return found


def no_suspects(count: int) -> Suspects:
    """None of so many rows."""
    return Suspects(np.zeros(count, np.bool_))
