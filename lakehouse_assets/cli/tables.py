"""The declared tables that a verb is about, and the systems they are in."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import DeclarationError, UnknownTableError
from lakehouse_assets.model.mistakes import nearest
from lakehouse_assets.model.spec import TableSpec

if TYPE_CHECKING:
    from lakehouse_assets.operations.systems import Systems


def choose_tables(environment: Environment, names: Sequence[str]) -> list[TableSpec]:
    """The tables of these names, or every one where none is named; the log of a table's changes is a table too.

    Raises:
        UnknownTableError: nothing declares a table of that name.
        DeclarationError: its declaration is wrong.
    """
    declared = load_declarations(environment.tables_dir)
    by_name = {spec.table: spec for spec in declared.tables}
    wrong = {broken.name: broken.error for broken in declared.broken}
    for name in names:
        if name in wrong:
            raise wrong[name]
        if name not in by_name:
            raise UnknownTableError(name, sorted(by_name), nearest(name, by_name))
    return [by_name[name] for name in names] if names else list(declared.tables)


def list_broken(environment: Environment) -> list[DeclarationError]:
    """What is wrong with the declarations that are."""
    return [broken.error for broken in load_declarations(environment.tables_dir).broken]


def open_systems(environment: Environment) -> "Systems":
    """Kafka and the catalog."""
    from lakehouse_assets.operations.systems import open_environment

    return open_environment(environment)


def now_ms() -> int:
    """Now, ms since 1970."""
    return int(time.time() * 1000)
