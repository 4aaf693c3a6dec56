"""A cluster that asks for TLS, a password and rights, reached with the settings as docs/operations.md says to give them."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.errors import ConfigurationError, SourceAccessError
from lakehouse_assets.operations.systems import open_environment
from lakehouse_assets.reading import load_table
from lakehouse_assets.systems.kafka import KafkaSource
from lakehouse_assets_tests import judge, ports
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.secured_kafka import (
    PASSWORD,
    STRANGER,
    USER,
    Authority,
    broker_settings,
    give_password,
    let_in,
    secured_servers,
)
from lakehouse_assets_tests.test_docs import OPERATIONS
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("secured_kafka")]

_DECLARATION = """
table: ods.clicks
source: {{topic: {topic}}}
commit_interval: 1s
workers: {workers}
schema:
  - {{name: id, type: long, required: true}}
"""
_WRONG_PASSWORD = "wrong-and-never-to-be-shown"
_MESSAGES = 20

_numbers = count()
slow = partial(pytest.param, marks=pytest.mark.slow)

Settings = Mapping[str, str]


class Cluster:
    """A secured broker, and the files that its clients need."""

    def __init__(self, folder: Path) -> None:
        port = ports.port_of(ports.SECURED_KAFKA)
        authority = Authority.create("the cluster's")
        self.servers = secured_servers(port)
        self.trusted = authority.write_certificate(folder / "authority.pem")
        self.untrusted = Authority.create("somebody else's").write_certificate(folder / "other.pem")
        settings = broker_settings(port, authority.write_key_store(folder / "broker.pem"))
        self.kafka = LocalKafka(folder / "kafka", port=port, settings=settings)

    def create_topic(self) -> str:
        """With messages in two topic partitions."""
        broker = Broker(self.kafka.bootstrap_servers)
        topic = broker.create_topic(f"clicks_{next(_numbers)}", 2)
        for partition in (0, 1):
            broker.produce(topic, [json.dumps({"id": i}) for i in range(_MESSAGES)], partition=partition)
        return topic


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    opened = Cluster(tmp_path_factory.mktemp("secured"))
    with opened.kafka:
        let_in(opened.kafka, USER)
        give_password(opened.kafka, STRANGER)
        yield opened


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`user(workers=1, **variables)` declares a table of a new topic and sets what a user sets, changed by `variables`."""

    def prepare(workers: int = 1, **variables: str) -> None:
        tables = tmp_path / "tables"
        tables.mkdir()
        (tables / "clicks.yaml").write_text(_DECLARATION.format(topic=cluster.create_topic(), workers=workers))
        right = {
            "KAFKA_BOOTSTRAP_SERVERS": cluster.servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CA_LOCATION": str(cluster.trusted),
        }
        assert set(right) <= set(re.findall(r"\w+(?==)", OPERATIONS))  # as the documents say
        places = {"LAKEHOUSE_HOME": str(tmp_path / "home"), "LAKEHOUSE_TABLES_DIR": str(tables)}
        for name, value in (right | places | variables).items():
            monkeypatch.setenv(name, value)

    return prepare


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for the answer that a client without access never gets."""
    monkeypatch.setattr("lakehouse_assets.systems.kafka.REQUEST_SECONDS", 1.5)


def held() -> list[judge.Position]:
    return judge.read_positions(load_table("ods.clicks"))


EVERY_MESSAGE = [(partition, offset) for partition in (0, 1) for offset in range(_MESSAGES)]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", slow("PLAIN")])
def test_with_the_right_variables_each_message_lands_once(
    user: Callable[..., None], mechanism: str, capsys: pytest.CaptureFixture[str]
) -> None:
    user(KAFKA_SASL_MECHANISM=mechanism)

    assert main(["ingest", "ods.clicks"]) == 0
    assert main(["status"]) == 0

    assert "behind   0 messages" in capsys.readouterr().out
    assert held() == EVERY_MESSAGE


def test_a_file_of_settings_does_the_same_as_variables(
    user: Callable[..., None], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user()
    for name in ("SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD", "SSL_CA_LOCATION"):
        monkeypatch.delenv(f"KAFKA_{name}")
    settings = tmp_path / "client.properties"
    settings.write_text(
        f"# of the cluster\nsecurity.protocol=SASL_SSL\nsasl.mechanism = SCRAM-SHA-512\nsasl.username={USER}\n"
        f"sasl.password={PASSWORD}\nssl.ca.location={cluster.trusted}\n"
    )
    monkeypatch.setenv("KAFKA_CONFIG_FILE", str(settings))

    assert main(["ingest", "ods.clicks"]) == 0

    assert held() == EVERY_MESSAGE


def test_worker_processes_are_let_in_too(user: Callable[..., None]) -> None:
    user(workers=2)

    assert main(["ingest", "ods.clicks"]) == 0

    assert held() == EVERY_MESSAGE


INGEST, STATUS = ["ingest", "ods.clicks"], ["status"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("command", "wrong", "reason"),
    [
        (INGEST, {"KAFKA_SASL_PASSWORD": _WRONG_PASSWORD}, "invalid credentials"),
        (STATUS, {"KAFKA_SSL_CA_LOCATION": "untrusted"}, "certificate verify failed"),
        (INGEST, {"KAFKA_SASL_USERNAME": STRANGER}, "Topic authorization failed"),
        slow(STATUS, {"KAFKA_SASL_PASSWORD": _WRONG_PASSWORD, "KAFKA_SASL_MECHANISM": "PLAIN"}, "Invalid username or password"),
        slow(INGEST, {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, "Unsupported SASL mechanism"),
        slow(STATUS, {"KAFKA_SASL_USERNAME": STRANGER}, "Topic authorization failed"),
    ],
    ids=["password", "authority", "rights", "password of PLAIN", "mechanism", "rights to know"],
)
def test_who_is_not_let_in_reads_one_sentence_that_says_why_and_no_password(
    user: Callable[..., None], cluster: Cluster, command: list[str], wrong: Settings, reason: str,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    user(**{name: str(cluster.untrusted) if value == "untrusted" else value for name, value in wrong.items()})
    caplog.set_level(logging.DEBUG)

    assert main(command) == 1

    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("Cannot describe topic")
    assert f"the Kafka cluster at {cluster.servers} refused access" in printed.err
    assert reason in printed.err
    assert_no_password(printed.err, caplog.text)


@pytest.mark.usefixtures("impatient")
def test_a_refusal_stays_one_until_the_same_client_is_let_in(user: Callable[..., None], cluster: Cluster) -> None:
    user(KAFKA_SASL_USERNAME="newcomer")
    topic = cluster.create_topic()
    source = open_environment(Environment.read()).source
    for _ in range(2):
        with pytest.raises(SourceAccessError) as caught:
            source.describe("ods.clicks", [topic])
        assert not caught.value.retryable
        assert_no_password(str(caught.value), repr(caught.value))

    let_in(cluster.kafka, "newcomer")

    wait_until(lambda: is_let_in(source, topic), 30)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("KAFKA_SECURITY_PROTOCOL", "SASLSSL", "SASLSSL"),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA512", "Unsupported SASL mechanism: SCRAM-SHA512"),
        ("KAFKA_SSL_CA_LOCATION", "/nowhere/authority.pem", "ssl.ca.location"),
        ("KAFKA_SASL_PASSWRD", PASSWORD, "sasl.passwrd"),
    ],
    ids=["protocol", "mechanism", "missing file", "misspelt name"],
)
def test_a_setting_that_the_client_does_not_take_is_a_configuration_error_that_names_it(
    user: Callable[..., None], variable: str, value: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    user(**{variable: value})

    assert main(["ingest", "ods.clicks"]) == 1

    printed = capfd.readouterr().err
    assert printed.startswith("Cannot use the setting for the Kafka client: found ")
    assert reason in printed
    assert printed.count("\n") == 1
    assert_no_password(printed)
    with pytest.raises(ConfigurationError):
        open_environment(Environment.read()).source.describe("ods.clicks", ["clicks"])


def test_what_is_printed_of_the_settings_shows_no_password(user: Callable[..., None]) -> None:
    user()

    environment = Environment.read()
    systems = open_environment(environment)

    assert_no_password(repr(environment), str(environment.kafka), repr(systems), repr(systems.settings), repr(systems.source))
    assert "'sasl.password': '***'" in repr(environment)
    assert f"'sasl.username': '{USER}'" in repr(environment)


def is_let_in(source: KafkaSource, topic: str) -> bool:
    """Whether it is answered."""
    with suppress(SourceAccessError):
        return bool(source.describe("ods.clicks", [topic]).logs)
    return False


def assert_no_password(*texts: str) -> None:
    for text in texts:
        assert PASSWORD not in text
        assert _WRONG_PASSWORD not in text
