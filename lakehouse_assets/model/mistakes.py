"""What is wrong with a value that a person wrote: what was found, what is allowed, what is nearest.

Readers of such values raise `ValueError(Mistake(...))`: the error's text is a sentence, its first argument
keeps the facts apart for the report with file and line.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

_NAMED: Final = 12


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong value. `found` and `allowed` are phrases without a full stop."""

    found: str
    allowed: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f" Did you mean {self.suggestion!r}?" if self.suggestion else ""
        return f"found {self.found}; allowed: {self.allowed}.{hint}"


def describe(value: object) -> str:
    """A found value as a phrase, shortened; nothing where it is None."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The most similar of `names`, letter case aside; None where none reaches `cutoff` (0 to 1)."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def list_names(names: Collection[str]) -> str:
    """The first of them, and how many more there are."""
    shown = list(names)[:_NAMED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
