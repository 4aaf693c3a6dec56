"""Opens a table for people who only want to read it."""

from typing import TYPE_CHECKING

from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import ConfigurationError

if TYPE_CHECKING:
    from pyiceberg.table import Table


def load_table(name: str) -> "Table":
    """The PyIceberg table `namespace.name` of the catalog that the environment names.

    Raises:
        ConfigurationError: there is no such table.
        CatalogUnavailableError
    """
    from lakehouse_assets.systems import catalog

    environment = Environment.read()
    opened = catalog.open_catalog(environment.catalog_name, environment.catalog_properties)
    table = catalog.load_table(opened, name)
    if table is None:
        raise ConfigurationError("table", repr(name), f"a table of the catalog {environment.catalog_name!r}")
    return table
