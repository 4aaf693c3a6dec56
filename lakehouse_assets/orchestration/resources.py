"""The outside systems as one Dagster resource.

Opened at first use and kept for the life of the process: a code server's sensors tick every few seconds over the same clients.
PyIceberg and Arrow are imported here at first use, so that loading definitions stays fast.
"""

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
        from lakehouse_assets.operations.systems import open_environment

        return open_environment(Environment.read())
