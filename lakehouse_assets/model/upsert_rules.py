"""The rules of upsert tables, and which parts of a declaration are theirs alone."""

from collections.abc import Iterator

from lakehouse_assets.model.columns import DELETED, OPERATION, SOURCE_POSITION
from lakehouse_assets.model.facts import SpecFacts
from lakehouse_assets.model.mistakes import Mistake

_PLATFORM_NAMES = (SOURCE_POSITION, DELETED, OPERATION)

Location = tuple[str | int, ...]
Finding = tuple[Location, Mistake]


def find_upsert_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    """Every mistake of mode, key and source against each other, with its place."""
    if facts.mode == "upsert":
        yield from _find_key_mistakes(facts)
        yield from _find_name_mistakes(facts)
    if facts.mode == "append":
        yield from _find_append_mistakes(facts)
    if facts.is_change_stream:
        yield from _find_place_mistakes(facts)
    elif facts.keeps_change_log and facts.mode == "upsert" and facts.format is not None:
        allowed = "keep_change_log of change streams; a second table with mode: append keeps every message"
        yield ("keep_change_log",), Mistake(f"keep_change_log for messages of {facts.format}", allowed)


def _find_key_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    if "key" not in facts.given:
        yield ("mode",), Mistake("upsert without a key", "mode: upsert with key: the columns that name a row")
    elif facts.key is not None and not facts.key:
        yield ("key",), Mistake("an empty list", "at least one column, because of mode: upsert")
    beside = {column.name: column.beside for column in facts.columns if column.beside in ("expr", "from_header")}
    for i, name in enumerate(facts.key or ()):
        if name in beside:
            # A message without a value names its row by its key alone.
            found = f"{name!r}, which is " + ("derived" if beside[name] == "expr" else "in a header")
            yield ("key", i), Mistake(found, "columns that values and keys of messages hold, without expr and from_header")


def _find_name_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    for i, column in enumerate(facts.columns):
        if column.name is not None and column.name.lower() in _PLATFORM_NAMES:
            allowed = f"names other than {', '.join(_PLATFORM_NAMES)}, which are the platform's own in upsert tables"
            yield ("schema", i, "name"), Mistake(repr(column.name), allowed)


def _find_append_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    if facts.is_change_stream:
        place: Location = ("mode",) if "mode" in facts.given else ("source", "format")
        allowed = "mode: upsert with change streams; keep_change_log: true keeps every change as well"
        yield place, Mistake(f"{facts.format} with mode: append", allowed)
    for key, is_set in (("on_delete", facts.marks_deletes), ("keep_change_log", facts.keeps_change_log)):
        if is_set:
            yield (key,), Mistake(f"{key} with mode: append", f"{key} with mode: upsert only")


def _find_place_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    for i, column in enumerate(facts.columns):
        if column.beside in ("from_key", "from_header"):
            found = f"{column.beside} in messages of {facts.format}"
            yield ("schema", i, column.beside), Mistake(found, "columns of the row that a change is about, and expr")
