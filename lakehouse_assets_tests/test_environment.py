"""Where a setting comes from, and that no secret is ever shown."""

import pickle
from pathlib import Path

import pytest

from lakehouse_assets.environment import Environment, Settings, setting_name
from lakehouse_assets.model.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyIceberg looks for its configuration in the user's home and in the current folder.
    (tmp_path / "user").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path / "here")


def test_with_nothing_set_everything_lies_under_the_current_folder(tmp_path: Path) -> None:
    environment = Environment.read({})

    home = tmp_path / "here" / ".lakehouse"
    assert environment.home == home
    assert environment.catalog_name == "lakehouse"
    assert environment.catalog_properties == {
        "type": "sql",
        "uri": f"sqlite:///{home}/catalog.db?timeout=60",
        "warehouse": f"file://{home}/warehouse",
    }
    assert environment.kafka == {}
    assert environment.uses_local_kafka
    assert (environment.tables_dir / "demo_flights.yaml").is_file()


def test_reading_creates_nothing(tmp_path: Path) -> None:
    Environment.read({})

    assert list((tmp_path / "here").iterdir()) == []


def test_a_relative_home_becomes_absolute(tmp_path: Path) -> None:
    assert Environment.read({"LAKEHOUSE_HOME": "state"}).home == tmp_path / "here" / "state"


def test_the_home_folder_is_made_once_and_again(tmp_path: Path) -> None:
    environment = Environment.read({"LAKEHOUSE_HOME": "a/b"})

    environment.ensure_home()
    environment.ensure_home()

    assert (tmp_path / "here" / "a" / "b").is_dir()


def test_a_home_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "here" / "taken").write_text("")
    environment = Environment.read({"LAKEHOUSE_HOME": "taken"})

    with pytest.raises(ConfigurationError, match="LAKEHOUSE_HOME"):
        environment.ensure_home()


def test_without_any_kafka_the_error_says_what_to_do(tmp_path: Path) -> None:
    environment = Environment.read({})

    with pytest.raises(ConfigurationError, match="KAFKA_BOOTSTRAP_SERVERS.*make dev"):
        environment.require_kafka()


def test_the_local_broker_is_used_where_no_cluster_is_named(tmp_path: Path) -> None:
    address = tmp_path / "here" / ".lakehouse" / "kafka" / "bootstrap.servers"
    address.parent.mkdir(parents=True)
    address.write_text("127.0.0.1:9093\n")

    environment = Environment.read({"KAFKA_BOOTSTRAP_SERVERS": ""})

    assert environment.require_kafka() == {"bootstrap.servers": "127.0.0.1:9093"}
    assert environment.uses_local_kafka


def test_a_named_cluster_goes_before_the_local_broker(tmp_path: Path) -> None:
    address = tmp_path / "here" / ".lakehouse" / "kafka" / "bootstrap.servers"
    address.parent.mkdir(parents=True)
    address.write_text("127.0.0.1:9093")

    environment = Environment.read({"KAFKA_BOOTSTRAP_SERVERS": "prod:9092"})

    assert environment.require_kafka() == {"bootstrap.servers": "prod:9092"}
    assert not environment.uses_local_kafka


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "bootstrap.servers"),
        ("KAFKA_SASL_USERNAME", "sasl.username"),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "sasl.oauthbearer.client.secret"),
        ("KAFKA_SSL_CA_LOCATION", "ssl.ca.location"),
        ("KAFKA_SSL_KEY_PASSWORD", "ssl.key.password"),
        ("KAFKA_SOCKET_TIMEOUT_MS", "socket.timeout.ms"),
        ("KAFKA_CLIENT_ID", "client.id"),
        ("KAFKA_DEBUG", "debug"),
        ("KAFKA_LOG_LEVEL", "log_level"),
        ("KAFKA_LOG__LEVEL", "log_level"),
        ("KAFKA_SASL_USRNAME", "sasl.usrname"),
        ("KAFKA_CONFIG_FILE", None),
        ("KAFKA_HOME", None),
        ("KAFKA_OPTS", None),
        ("KAFKA_HEAP_OPTS", None),
        ("KAFKA_LOG_DIRS", None),
        ("KAFKA_LOG4J_OPTS", None),
        ("KAFKA_BROKER_ID", None),
        ("KAFKA_LISTENERS", None),
        ("KAFKA_TOPIC", None),
        ("KAFKA_PORT_9092_TCP_ADDR", None),
        ("KAFKA_SERVICE_HOST", None),
        ("SASL_USERNAME", None),
    ],
)
def test_a_variable_is_the_clients_when_it_begins_like_one_of_its_settings(
    variable: str, setting: str | None
) -> None:
    assert setting_name(variable) == setting


def test_settings_come_from_a_file_and_variables_go_before_it(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "# the cluster\n! old style\n\nbootstrap.servers = prod:9092\nsasl.password=a=b#c\nsasl.username=from file\n"
    )

    environment = Environment.read({"KAFKA_CONFIG_FILE": str(file), "KAFKA_SASL_USERNAME": "me"})

    assert environment.require_kafka() == {
        "bootstrap.servers": "prod:9092",
        "sasl.password": "a=b#c",
        "sasl.username": "me",
    }
    assert not environment.uses_local_kafka


def test_a_line_of_the_file_without_a_name_is_named_but_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("bootstrap.servers=prod:9092\nhunter2\n")

    with pytest.raises(ConfigurationError, match=r"client\.properties:2") as caught:
        Environment.read({"KAFKA_CONFIG_FILE": str(file)})

    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_CONFIG_FILE"):
        Environment.read({"KAFKA_CONFIG_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "sasl.jaas.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.assertion.private.key.passphrase",
    ],
)
def test_secrets_are_never_printed(name: str) -> None:
    environment = Environment.read({"KAFKA_" + name.upper().replace(".", "_"): "hunter2"})

    assert environment.kafka == {name: "hunter2"}
    assert "hunter2" not in repr(environment) + str(environment) + f"{environment.kafka}"
    assert f"'{name}': '***'" in repr(environment)


def test_what_is_no_secret_is_printed() -> None:
    shown = repr(Environment.read({"KAFKA_SASL_USERNAME": "me", "KAFKA_SSL_KEY_LOCATION": "/keys/me.pem"}))

    assert "'sasl.username': 'me'" in shown
    assert "/keys/me.pem" in shown


def test_the_folder_of_tables_must_exist(tmp_path: Path) -> None:
    assert Environment.read({"LAKEHOUSE_TABLES_DIR": str(tmp_path)}).tables_dir == tmp_path
    with pytest.raises(ConfigurationError, match=r"LAKEHOUSE_TABLES_DIR.*no folder"):
        Environment.read({"LAKEHOUSE_TABLES_DIR": str(tmp_path / "missing")})


@pytest.mark.parametrize("folder", ["user", "here", "own"])
def test_pyicebergs_own_file_is_left_to_pyiceberg(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / ".pyiceberg.yaml").write_text("catalog:\n  Lakehouse:\n    uri: http://rest\n")

    environment = Environment.read({"PYICEBERG_HOME": str(tmp_path / "own")})

    assert environment.catalog_properties == {}


def test_pyicebergs_own_variables_are_left_to_pyiceberg() -> None:
    environment = Environment.read(
        {"LAKEHOUSE_CATALOG": "my-rest", "PYICEBERG_CATALOG__MY_REST__URI": "http://rest"}
    )

    assert environment.catalog_name == "my-rest"
    assert environment.catalog_properties == {}


def test_a_file_for_other_catalogs_leaves_ours_local(tmp_path: Path) -> None:
    (tmp_path / "here" / ".pyiceberg.yaml").write_text("catalog:\n  other:\n    uri: http://rest\n")

    assert Environment.read({}).catalog_properties["type"] == "sql"


def test_pyiceberg_reads_only_the_first_file_that_has_content(tmp_path: Path) -> None:
    (tmp_path / "user" / ".pyiceberg.yaml").write_text("catalog:\n  other:\n    uri: http://rest\n")
    (tmp_path / "here" / ".pyiceberg.yaml").write_text("catalog:\n  lakehouse:\n    uri: http://rest\n")

    assert Environment.read({}).catalog_properties["type"] == "sql"


def test_a_misspelt_catalog_is_an_error_and_never_a_new_local_one(tmp_path: Path) -> None:
    (tmp_path / "here" / ".pyiceberg.yaml").write_text("catalog:\n  prod:\n    uri: http://rest\n")

    with pytest.raises(ConfigurationError, match=r"'prd'.*prod"):
        Environment.read({"LAKEHOUSE_CATALOG": "prd"})


def test_a_broken_file_of_pyiceberg_is_an_error_that_quotes_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "here" / ".pyiceberg.yaml").write_text("catalog: [hunter2\n")

    with pytest.raises(ConfigurationError, match=r"\.pyiceberg\.yaml") as caught:
        Environment.read({})

    assert "hunter2" not in str(caught.value)


def test_an_environment_is_a_value_that_can_be_hashed_and_sent_to_another_process() -> None:
    variables = {"KAFKA_BOOTSTRAP_SERVERS": "a:1", "KAFKA_SASL_PASSWORD": "x"}
    environment = Environment.read(variables)

    assert hash(environment) == hash(Environment.read(variables))
    assert pickle.loads(pickle.dumps(environment)) == environment
    assert environment != Environment.read({"KAFKA_BOOTSTRAP_SERVERS": "b:1"})


def test_the_registrys_settings_are_named_as_in_confluents_clients() -> None:
    registry = Environment.read(
        {
            "SCHEMA_REGISTRY_URL": "https://registry/api/",
            "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "ann:hunter2",
            "SCHEMA_REGISTRY_SSL_CA_LOCATION": "/ca.pem",
            "SCHEMA_REGISTRY_PORT": "tcp://10.0.0.1:80",  # Kubernetes sets it beside a service of this name
        }
    ).registry

    assert dict(registry) == {
        "url": "https://registry/api",
        "basic.auth.user.info": "ann:hunter2",
        "ssl.ca.location": "/ca.pem",
    }
    assert "hunter2" not in repr(registry)


def test_a_password_in_the_registrys_address_leaves_the_address() -> None:
    registry = Environment.read({"SCHEMA_REGISTRY_URL": "http://ann:hunt%40er2@registry:8081"}).registry

    assert dict(registry) == {"url": "http://registry:8081", "basic.auth.user.info": "ann:hunt@er2"}


def test_several_addresses_of_a_registry_stand_with_commas_between_them() -> None:
    registry = Environment.read({"SCHEMA_REGISTRY_URL": "http://ann:hunter2@a:1/, https://b/api"}).registry

    assert dict(registry) == {"url": "http://a:1,https://b/api", "basic.auth.user.info": "ann:hunter2"}


@pytest.mark.parametrize("url", ["http://registry?token=hunter2", "http://ann:1/hunter2@registry", "registry:8081", "ftp://registry", "http://", "ann:hunter2@registry", "http://[registry"])
def test_an_address_that_is_none_is_an_error_that_does_not_quote_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL") as caught:
        Environment.read({"SCHEMA_REGISTRY_URL": url})

    assert "hunter2" not in str(caught.value)
    assert "registry" not in str(caught.value)


def test_settings_are_read_only() -> None:
    with pytest.raises(TypeError):
        Settings({"a": "b"})["a"] = "c"  # type: ignore[index]


def test_the_variables_of_the_process_are_read_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "real:9092")

    assert Environment.read().require_kafka()["bootstrap.servers"] == "real:9092"
