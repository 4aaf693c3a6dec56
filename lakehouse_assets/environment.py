"""What the machine says: the only reader of environment variables.

Hides where a setting comes from: a variable, a file that a variable names, or what `make dev` left in the home folder.
Opens nothing and contacts nobody; the files it reads are configuration.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import unquote, urlsplit

import yaml

from lakehouse_assets.model.errors import ConfigurationError

DEFAULT_CATALOG_NAME = "lakehouse"
LOCAL_BROKER_ADDRESS = Path("kafka", "bootstrap.servers")  # under home; `make dev` writes it
LOCAL_REGISTRY_ADDRESS = Path("registry", "schema.registry.url")  # likewise
SQLITE_WAIT_SECONDS = 60  # another process may hold SQLite's one write lock for as long as a slow disk takes

# How the names of librdkafka's settings begin (its CONFIGURATION.md, 2.16). A variable KAFKA_<NAME> that begins like one is
# meant for the client, which rejects what it does not know. All others belong to somebody else: KAFKA_HOME, KAFKA_OPTS, a
# broker's KAFKA_LISTENERS, KAFKA_TOPIC of an application, and KAFKA_PORT_9092_TCP, which Kubernetes injects.
_SETTING_BEGINNINGS = (
    "acks", "allow.auto", "api.version", "auto.commit", "auto.offset", "batch", "bootstrap.servers", "broker.address",
    "broker.version", "builtin", "check", "client", "compression", "connections", "coordinator", "debug", "delivery", "enable",
    "enabled_events", "fetch", "group.id", "group.instance", "group.protocol", "group.remote", "heartbeat", "https",
    "interceptors", "internal", "isolation", "linger", "log.connection", "log.queue", "log.thread", "log_level", "max",
    "message", "metadata", "offset", "partition.assignment", "partitioner", "plugin", "queue", "queued", "queuing", "receive",
    "reconnect", "request", "resolve", "retries", "retry", "sasl", "security", "session", "share", "socket", "ssl",
    "statistics", "sticky", "topic.blacklist", "topic.metadata", "transaction", "transactional",
)  # fmt: skip
_UNDERSCORED = {"log.level": "log_level", "enabled.events": "enabled_events"}
_SECRET = re.compile(
    r"password|passphrase|secret|token|key|jaas|pem|assertion|credentials|oauthbearer\.config|user\.info"
)
_REGISTRY_SETTINGS = (
    "url", "basic.auth.user.info", "bearer.auth.token", "ssl.ca.location", "ssl.certificate.location", "ssl.key.location",
)  # fmt: skip
_LOCATION = ".location"  # the path of a key file is no secret, and helps to find a mistake


class Settings(Mapping[str, str]):
    """Read-only settings that can be hashed and printed: secrets show as `***`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = MappingProxyType(dict(values))

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    def __repr__(self) -> str:
        return repr({name: _mask(name, value) for name, value in self._values.items()})

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, str]]]:
        # A mapping proxy can't be pickled, and worker processes are sent settings.
        return type(self), (dict(self._values),)


@dataclass(frozen=True, slots=True)
class Environment:
    """Folders, Kafka, catalog and schema registry, as this process is told. Hashable; printing it shows no secret."""

    home: Path
    tables_dir: Path
    kafka: Settings
    catalog_name: str
    catalog_properties: Settings
    uses_local_kafka: bool
    registry: Settings
    uses_local_registry: bool

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read the variables of this process, or those given.

        Raises:
            ConfigurationError: a variable names a file or folder that can't be used, or a catalog that nobody configured.
        """
        given = {
            name: value for name, value in (os.environ if variables is None else variables).items() if value
        }
        home = Path(given.get("LAKEHOUSE_HOME", ".lakehouse")).expanduser().absolute()
        kafka = _read_kafka(given)
        uses_local_kafka = not kafka.keys() & {"bootstrap.servers", "metadata.broker.list"}
        if uses_local_kafka and (address := read_local_broker(home)):
            kafka["bootstrap.servers"] = address
        catalog_name = given.get("LAKEHOUSE_CATALOG", DEFAULT_CATALOG_NAME)
        return cls(
            home=home,
            tables_dir=_read_tables_dir(given),
            kafka=Settings(kafka),
            catalog_name=catalog_name,
            catalog_properties=Settings(_read_catalog(given, catalog_name, home)),
            uses_local_kafka=uses_local_kafka,
            registry=Settings(_read_registry(given, home)),
            uses_local_registry="SCHEMA_REGISTRY_URL" not in given,
        )

    def require_kafka(self) -> Settings:
        """The client settings.

        Raises:
            ConfigurationError: nothing says where Kafka is.
        """
        if self.kafka.keys() & {"bootstrap.servers", "metadata.broker.list"}:
            return self.kafka
        raise ConfigurationError(
            "KAFKA_BOOTSTRAP_SERVERS",
            f"no value, and no local broker in {self.home}",
            "host:port of a Kafka cluster, or a local broker, which `make dev` starts",
        )

    def ensure_home(self) -> None:
        """Create the home folder, where the local catalog and warehouse lie. Safe to repeat.

        Raises:
            ConfigurationError: it can't be created.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                "LAKEHOUSE_HOME",
                f"{str(self.home)!r} ({error.strerror})",
                "a folder that can be created and written",
            ) from error


def read_local_broker(home: Path) -> str | None:
    """Address of the broker that `make dev` last started under this home, whether it runs or not; None before the first."""
    return _read_address(home / LOCAL_BROKER_ADDRESS)


def _read_address(path: Path) -> str | None:
    return path.read_text().strip() or None if path.is_file() else None


def child_variables(extra: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process and `extra`, for a process that it starts."""
    return {**os.environ, **extra}


def setting_name(variable: str) -> str | None:
    """The librdkafka setting that a variable KAFKA_<NAME> stands for, None where it is not the client's.

    One underscore is a dot, two are an underscore: KAFKA_SASL_USERNAME is `sasl.username`.
    """
    if not variable.startswith("KAFKA_") or variable == "KAFKA_CONFIG_FILE":
        return None
    name = "_".join(part.replace("_", ".") for part in variable.removeprefix("KAFKA_").lower().split("__"))
    name = _UNDERSCORED.get(name, name)
    known = any(name == word or name.startswith((f"{word}.", f"{word}_")) for word in _SETTING_BEGINNINGS)
    return name if known else None


def _mask(name: str, value: str) -> str:
    return "***" if _SECRET.search(name) and not name.endswith(_LOCATION) else value


def _read_kafka(given: Mapping[str, str]) -> dict[str, str]:
    from_file = (
        _read_properties(Path(given["KAFKA_CONFIG_FILE"]).expanduser())
        if "KAFKA_CONFIG_FILE" in given
        else {}
    )
    from_variables = {name: value for variable, value in given.items() if (name := setting_name(variable))}
    return from_file | from_variables


def _read_registry(given: Mapping[str, str], home: Path) -> dict[str, str]:
    """Settings under their names in Confluent's clients. Kubernetes and others have variables of the same prefix."""
    variables = {name: f"SCHEMA_REGISTRY_{name.replace('.', '_').upper()}" for name in _REGISTRY_SETTINGS}
    settings = {name: given[variable] for name, variable in variables.items() if variable in given}
    if "url" not in settings and (address := _read_address(home / LOCAL_REGISTRY_ADDRESS)):
        return {"url": address}
    if "url" in settings:
        urls, users = zip(*map(_split_url, settings["url"].split(",")), strict=True)
        # A password in the address would be shown wherever the address is.
        user_info = next(filter(None, users), None)
        settings = {**({"basic.auth.user.info": user_info} if user_info else {}), **settings, "url": ",".join(urls)}
    return settings


def _split_url(text: str) -> tuple[str, str]:
    """The address without user and password, and those."""
    try:
        url = urlsplit(text.strip())
        is_right = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        is_right = is_right and not url.query and not url.fragment and "@" not in url.path
    except ValueError:
        is_right = False
    if not is_right:
        # The text is not shown: it may hold a password in a place where nobody expects one.
        allowed = "http:// or https://, a host, and perhaps a port and a path; several with commas between them"
        raise ConfigurationError("SCHEMA_REGISTRY_URL", "something else", allowed)
    user_info, _, host = url.netloc.rpartition("@")
    return url._replace(netloc=host).geturl().rstrip("/"), unquote(user_info)


def _read_properties(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "KAFKA_CONFIG_FILE",
            f"{str(path)!r}, which can't be read ({error})",
            "a text file of lines 'name=value'",
        ) from error
    settings = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith(("#", "!")):
            continue
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            # The line itself is not shown: it may be a secret that lost its name.
            raise ConfigurationError(
                "KAFKA_CONFIG_FILE",
                f"no 'name=value' in {path}:{number}",
                "lines 'name=value', and comments after '#'",
            )
        settings[name.strip()] = value.strip()
    return settings


def _read_tables_dir(given: Mapping[str, str]) -> Path:
    if "LAKEHOUSE_TABLES_DIR" not in given:
        return Path(__file__).parent / "tables"
    folder = Path(given["LAKEHOUSE_TABLES_DIR"]).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigurationError(
            "LAKEHOUSE_TABLES_DIR", f"{str(folder)!r}, which is no folder", "an existing folder"
        )
    return folder


def _read_catalog(given: Mapping[str, str], name: str, home: Path) -> dict[str, str]:
    """Nothing where PyIceberg has its own configuration for the name; else a SQLite catalog under home."""
    configured = _configured_catalogs(given)
    if name.lower() in configured:
        return {}
    if name != DEFAULT_CATALOG_NAME:
        # Falling back to a local catalog would fill it in silence where somebody misspelt a real one.
        raise ConfigurationError(
            "LAKEHOUSE_CATALOG",
            repr(name),
            f"a catalog that PyIceberg's configuration names ({', '.join(sorted(configured)) or 'it names none'}), "
            f"or {DEFAULT_CATALOG_NAME!r} for a local one",
        )
    return {
        "type": "sql",
        "uri": f"sqlite:///{home / 'catalog.db'}?timeout={SQLITE_WAIT_SECONDS}",
        # Not `Path.as_uri`: PyIceberg takes the path as it stands and would create folders named `%20`.
        "warehouse": f"file://{home / 'warehouse'}",
    }


def _configured_catalogs(given: Mapping[str, str]) -> set[str]:
    """Names that PyIceberg would find, in lower case; it looks in the first file that has any content, and in variables."""
    prefix = "pyiceberg_catalog__"
    names = {
        variable.lower().removeprefix(prefix).split("__")[0].replace("_", "-")
        for variable in given
        if variable.lower().startswith(prefix)
    }
    folders = [given.get("PYICEBERG_HOME"), str(Path("~").expanduser()), str(Path.cwd())]
    for folder in filter(None, folders):
        if content := _read_pyiceberg_file(Path(folder, ".pyiceberg.yaml")):
            catalogs = next((value for key, value in content.items() if str(key).lower() == "catalog"), None)
            return names | {str(key).lower() for key in catalogs} if isinstance(catalogs, dict) else names
    return names


def _read_pyiceberg_file(path: Path) -> dict[object, object]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # The parser's own text quotes the file, which holds credentials.
        raise ConfigurationError(
            str(path),
            f"a file that can't be read as YAML ({type(error).__name__})",
            "PyIceberg's configuration",
        ) from error
    return content if isinstance(content, dict) else {}
