"""The outside systems of one run, opened once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from pyiceberg.catalog import Catalog

from lakehouse_assets.environment import Environment
from lakehouse_assets.systems.catalog import open_catalog
from lakehouse_assets.systems.kafka import KafkaSource
from lakehouse_assets.systems.registry import SchemaRegistry


@dataclass(frozen=True, slots=True)
class SystemSettings:
    """How to reach them; plain values, so that a worker process can open its own. Secrets are not shown."""

    kafka: Mapping[str, str]
    catalog_name: str
    catalog_properties: Mapping[str, str]
    registry: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"SystemSettings(kafka at {self.kafka.get('bootstrap.servers')}, catalog {self.catalog_name!r})"


@dataclass(frozen=True, slots=True)
class Systems:
    """A Kafka cluster, a catalog, and a schema registry, which may be none: who needs it finds out."""

    settings: SystemSettings
    source: KafkaSource
    catalog: Catalog
    registry: SchemaRegistry


def open_systems(settings: SystemSettings) -> Systems:
    """Open all. Kafka and the registry are contacted when first needed.

    Raises:
        CatalogUnavailableError
    """
    return Systems(
        settings,
        KafkaSource(settings.kafka),
        open_catalog(settings.catalog_name, settings.catalog_properties),
        SchemaRegistry(settings.registry),
    )


@cache
def open_environment_catalog(environment: Environment) -> Catalog:
    """The catalog that an environment names, opened once per process; for what needs no Kafka.

    Raises:
        CatalogUnavailableError, CatalogAccessError
    """
    environment.ensure_home()
    return open_catalog(environment.catalog_name, environment.catalog_properties)


@cache
def open_environment(environment: Environment) -> Systems:
    """The systems that an environment names, opened once per process.

    Raises:
        ConfigurationError: the environment names no Kafka cluster.
        CatalogUnavailableError
    """
    environment.ensure_home()
    settings = SystemSettings(
        environment.require_kafka(),
        environment.catalog_name,
        environment.catalog_properties,
        environment.registry,
    )
    return open_systems(settings)
