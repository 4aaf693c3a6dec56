"""The client of the schema registry, against a real one."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse_assets.local.ports import HOST
from lakehouse_assets.model.errors import (
    ConfigurationError,
    RegistryAccessError,
    RegistryUnavailableError,
    SubjectMissingError,
)
from lakehouse_assets.systems.registry import SchemaRegistry
from lakehouse_assets_tests.registry import Registry, gate
from lakehouse_assets_tests.secured_kafka import Authority

pytestmark = pytest.mark.xdist_group("registry")


@pytest.fixture
def client(registry: Registry) -> SchemaRegistry:
    return SchemaRegistry({"url": registry.url})


def test_a_schema_is_found_by_its_id_and_asked_for_once(registry: Registry, client: SchemaRegistry) -> None:
    schema_id = registry.register("once-value", {"type": "record", "name": "Once", "fields": []})

    found = client.schema_of(schema_id)
    registry.server.stop()
    try:
        assert client.schema_of(schema_id) is found
    finally:
        registry.server.start()

    assert found is not None
    assert found.kind == "AVRO"
    assert json.loads(found.text)["name"] == "Once"


def test_an_id_that_the_registry_does_not_know_is_no_error(client: SchemaRegistry) -> None:
    assert client.schema_of(987_654) is None


def test_references_come_before_what_needs_them(registry: Registry, client: SchemaRegistry) -> None:
    city = {"type": "record", "name": "City", "fields": [{"name": "name", "type": "string"}]}
    home = {"type": "record", "name": "Home", "fields": [{"name": "city", "type": "City"}]}
    person = {"type": "record", "name": "Person", "fields": [{"name": "home", "type": "Home"}]}
    registry.register("city", city)
    registry.register("home", home, references=[("City", "city", 1)])
    schema_id = registry.register("person", person, references=[("Home", "home", 1)])

    found = client.schema_of(schema_id)

    assert found is not None
    assert [name for name, _ in found.references] == ["City", "Home"]


def test_the_latest_version_of_a_subject(registry: Registry, client: SchemaRegistry) -> None:
    registry.register("grows-value", {"type": "record", "name": "Grows", "fields": []})
    more = {"name": "more", "type": ["null", "long"], "default": None}
    schema_id = registry.register("grows-value", {"type": "record", "name": "Grows", "fields": [more]})

    latest = client.latest("grows-value")

    assert (latest.version, latest.schema_id) == (2, schema_id)
    assert "more" in latest.schema.text


@pytest.mark.parametrize("subject", ["nobody-value", "a/b c%?#-value"])
def test_a_subject_that_is_missing_is_named(client: SchemaRegistry, subject: str) -> None:
    with pytest.raises(SubjectMissingError) as caught:
        client.latest(subject)

    assert repr(subject) in str(caught.value)


@pytest.mark.parametrize("user_info", ["", "ann:wrong", "bob:hunter2", "ann:пароль€"])
def test_a_wrong_password_is_called_authentication_and_not_shown(registry: Registry, user_info: str) -> None:
    with gate(registry.url, "ann", "hunter2") as url:
        client = SchemaRegistry({"url": url, "basic.auth.user.info": user_info})
        with pytest.raises(RegistryAccessError, match="authentication") as caught:
            client.schema_of(1)

    assert not caught.value.retryable
    for secret in filter(None, ("hunter2", *user_info.split(":")[1:])):
        assert secret not in str(caught.value) + repr(caught.value) + repr(client)


def test_the_right_password_opens(registry: Registry) -> None:
    schema_id = registry.register("guarded-value", {"type": "record", "name": "Guarded", "fields": []})
    with gate(registry.url, "ann", "p:w") as url:
        assert SchemaRegistry({"url": url, "basic.auth.user.info": "ann:p:w"}).schema_of(schema_id) is not None


def test_a_certificate_is_checked_against_the_authority_that_the_setting_names(registry: Registry, tmp_path: Path) -> None:
    schema_id = registry.register("tls-value", {"type": "record", "name": "Tls", "fields": []})
    ours, other = Authority.create("ours"), Authority.create("another")
    user = {"basic.auth.user.info": "ann:hunter2"}
    with gate(registry.url, "ann", "hunter2", ours.write_key_store(tmp_path / "server.pem")) as url:
        trusting = {**user, "url": url, "ssl.ca.location": str(ours.write_certificate(tmp_path / "ours.pem"))}
        assert SchemaRegistry(trusting).schema_of(schema_id) is not None

        for authority in (None, str(other.write_certificate(tmp_path / "other.pem"))):
            distrusting = {**user, "url": url} | ({"ssl.ca.location": authority} if authority else {})
            with pytest.raises(RegistryAccessError, match="certificate") as caught:
                SchemaRegistry(distrusting).schema_of(schema_id)
            assert "hunter2" not in str(caught.value)

        with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_SSL"):
            SchemaRegistry({**trusting, "ssl.ca.location": str(tmp_path / "nowhere.pem")}).schema_of(schema_id)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes requests and never answers."""
    with socket.create_server((HOST, 0)) as server:
        yield f"http://{HOST}:{server.getsockname()[1]}"


def test_a_registry_that_hangs_is_given_up_on_within_seconds(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(RegistryUnavailableError) as caught:
        SchemaRegistry({"url": silent}).schema_of(1)

    assert time.monotonic() - began < 10
    assert caught.value.retryable


def test_a_registry_that_is_away_is_transient() -> None:
    with pytest.raises(RegistryUnavailableError, match="refused"):
        SchemaRegistry({"url": f"http://{HOST}:1"}).schema_of(1)


def test_of_several_addresses_the_first_that_answers_is_taken(registry: Registry) -> None:
    schema_id = registry.register("several-value", {"type": "record", "name": "Several", "fields": []})

    assert SchemaRegistry({"url": f"http://{HOST}:1,{registry.url}"}).schema_of(schema_id) is not None
    with pytest.raises(RegistryUnavailableError, match=f"{HOST}:2"):
        SchemaRegistry({"url": f"http://{HOST}:1,http://{HOST}:2"}).schema_of(schema_id)


def test_a_wrong_path_is_a_wrong_setting_and_no_unknown_id(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL"):
        SchemaRegistry({"url": f"{registry.url}/elsewhere"}).schema_of(1)


def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL"):
        SchemaRegistry({}).schema_of(1)
