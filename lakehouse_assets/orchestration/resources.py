"""The outside systems as one Dagster resource.

Opened at first use and kept for the life of the process: a code server's sensors tick every few seconds over the same clients.
PyIceberg and Arrow are imported here at first use, so that loading definitions stays fast.
"""

from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse_assets.environment import Environment

if TYPE_CHECKING:
    from lakehouse_assets.operations.systems import Systems


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Kafka and the catalog, as the environment says."""

    def systems(self) -> "Systems":
        """The open systems.

        Raises:
            ConfigurationError: the environment names no Kafka cluster.
            CatalogUnavailableError
        """
        return open_environment(Environment.read())


@cache
def open_environment(environment: Environment) -> "Systems":
    """The systems that an environment names, opened once per process."""
    from lakehouse_assets.operations.systems import SystemSettings, open_systems

    environment.ensure_home()
    settings = SystemSettings(
        environment.require_kafka(),
        environment.catalog_name,
        environment.catalog_properties,
        environment.registry,
    )
    return open_systems(settings)
