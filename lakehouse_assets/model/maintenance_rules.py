"""The rules of `maintenance` against the columns of the table."""

from collections.abc import Iterator

from lakehouse_assets.model.facts import SpecFacts
from lakehouse_assets.model.mistakes import Mistake, list_names, nearest
from lakehouse_assets.model.types import Primitive
from lakehouse_assets.model.upsert_rules import Finding


def find_maintenance_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    """Every mistake of what files are sorted by, with its place."""
    kinds = {column.name: column.type for column in facts.columns if column.name is not None} | dict(facts.metadata_columns)
    for i, name in enumerate(facts.sort_by):
        if name is None:
            continue
        place, kind = ("maintenance", "sort_by", i), kinds.get(name)
        if name in facts.sort_by[:i]:
            yield place, Mistake(f"{name!r} a second time", "each column once")
        elif name not in kinds and facts.are_columns_known:
            yield place, Mistake(f"the column {name!r}", f"columns of the table: {list_names(kinds)}", nearest(name, kinds))
        elif kind is not None and not isinstance(kind, Primitive):
            yield place, Mistake(f"{name!r} of type {kind}", "columns of a primitive type: others have no order")
    if facts.is_zorder and len(facts.sort_by) < 2:
        found = f"zorder of {len(facts.sort_by) or 'no'} column{'' if facts.sort_by else 's'}"
        yield ("maintenance", "sort_order"), Mistake(found, "zorder with sort_by: at least two columns")
