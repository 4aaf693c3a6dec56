"""The declared tables that a verb is about, and the systems they are in."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import DeclarationError, UnknownTableError
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.mistakes import nearest
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from lakehouse_assets.operations.systems import Systems


def choose_tables(environment: Environment, names: Sequence[str]) -> list[TableSpec]:
    """The tables of these names that have a topic, or every one where none is named; a log of changes is a table too.

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
            computed = {spec.table for spec in declared.computed}
            known = sorted({*by_name, *wrong, *computed})  # what is wrong or computed may be meant too, and then says so
            is_computed = name in computed
            raise UnknownTableError(name, known, nearest(name, known), is_computed=is_computed)
    return [by_name[name] for name in names] if names else list(declared.tables)


def choose_computed(environment: Environment, names: Sequence[str]) -> list[SqlTableSpec]:
    """Those of these names that are computed by SQL, or every such table where none is named."""
    return [spec for spec in load_declarations(environment.tables_dir).computed if not names or spec.table in names]


def choose_policies(environment: Environment, catalog: "Catalog", names: Sequence[str]) -> dict[str, MaintenanceSpec]:
    """How each of these tables is looked after, or every declared one where none is named.

    One that is named needs not be declared: then as by default.

    Raises:
        UnknownTableError: the catalog has no table of that name.
        DeclarationError: its declaration is wrong.
        CatalogUnavailableError, CatalogAccessError
    """
    from lakehouse_assets.systems.catalog import find_table

    declared = load_declarations(environment.tables_dir)
    policies = dict(declared.policies)
    wrong = {broken.name: broken.error for broken in declared.broken}
    for name in names:
        if name in wrong:
            raise wrong[name]
        find_table(catalog, name, policies)
    return {name: policies.get(name, MaintenanceSpec()) for name in names} if names else policies


def list_broken(environment: Environment) -> list[DeclarationError]:
    """What is wrong with the declarations that are."""
    return [broken.error for broken in load_declarations(environment.tables_dir).broken]


def open_systems(environment: Environment) -> "Systems":
    """Kafka and the catalog."""
    from lakehouse_assets.operations.systems import open_environment

    return open_environment(environment)


def open_catalog(environment: Environment) -> "Catalog":
    """The catalog alone, for what needs no Kafka."""
    from lakehouse_assets.systems.catalog import open_catalog

    environment.ensure_home()
    return open_catalog(environment.catalog_name, environment.catalog_properties)


def now_ms() -> int:
    """Now, ms since 1970."""
    return int(time.time() * 1000)
