"""The one client of the schema registry: Confluent's API, as far as reading needs it.

Hides HTTP. What an id means never changes, so it is asked once per process. Only the answer that the registry gives for unknown
ids makes an id unknown; whatever else goes wrong says nothing of the message.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import requests
from requests.auth import HTTPBasicAuth

from lakehouse_assets.model.errors import (
    ConfigurationError,
    RegistryAccessError,
    RegistryError,
    RegistryUnavailableError,
    SubjectMissingError,
)
from lakehouse_assets.model.schemas import RegisteredSchema, SubjectVersion

_CONNECT_SECONDS, _ANSWER_SECONDS = 3.0, 5.0
_UNKNOWN_SECONDS = 10.0  # so long an unknown id stays unknown: messages that name it come in numbers
_SCHEMA_UNKNOWN, _SUBJECT_UNKNOWN, _VERSION_UNKNOWN = 40403, 40401, 40402
_TRANSIENT = (requests.codes.request_timeout, requests.codes.too_many_requests)
_REFUSED = (requests.codes.unauthorized, requests.codes.forbidden)


class SchemaRegistry:
    """A registry; contacted when first asked. `settings` bear the names of Confluent's clients. May be shared by threads."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)
        self._schemas: dict[int, RegisteredSchema] = {}
        self._unknown: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"SchemaRegistry({self._settings.get('url')})"

    def schema_of(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of an id, with what it refers to; None: there is no such id.

        Raises:
            RegistryUnavailableError, RegistryAccessError
            ConfigurationError: no registry is named, or what is there is none.
        """
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        if time.monotonic() < self._unknown.get(schema_id, 0.0):
            return None
        answer = self._find(f"read schema {schema_id}", f"schemas/ids/{schema_id}", _SCHEMA_UNKNOWN)
        if answer is None:
            self._unknown[schema_id] = time.monotonic() + _UNKNOWN_SECONDS
            return None
        return self._schemas.setdefault(schema_id, self._read_schema(answer))

    def latest(self, subject: str) -> SubjectVersion:
        """The newest version of a subject.

        Raises:
            SubjectMissingError, RegistryUnavailableError, RegistryAccessError
            ConfigurationError: no registry is named, or what is there is none.
        """
        answer = self._get_version(subject, "latest")
        return SubjectVersion(subject, answer["version"], answer["id"], self._read_schema(answer))

    def register(self, subject: str, schema: RegisteredSchema) -> int:
        """Add a version to a subject, unless it has the schema already; the id of the schema.

        Raises:
            RegistryUnavailableError, RegistryAccessError
            ConfigurationError: no registry is named, what is there is none, or it refuses the schema.
        """
        body = {"schema": schema.text, "schemaType": schema.kind}
        answer = self._ask(f"register a schema of {subject!r}", f"subjects/{quote(subject, safe='')}/versions", "id", body=body)
        return int(answer["id"])

    def _read_schema(self, answer: Mapping[str, Any]) -> RegisteredSchema:
        references: dict[str, str] = {}
        self._gather(answer, references)
        return RegisteredSchema(answer.get("schemaType", "AVRO"), answer["schema"], tuple(references.items()))

    def _gather(self, answer: Mapping[str, Any], references: dict[str, str]) -> None:
        """Add what a schema refers to, depth first; a registry lets nothing refer in a circle."""
        for reference in answer.get("references") or ():
            if reference["name"] not in references:
                referred = self._get_version(reference["subject"], str(reference["version"]))
                self._gather(referred, references)
                references[reference["name"]] = referred["schema"]

    def _get_version(self, subject: str, version: str) -> Mapping[str, Any]:
        path = f"subjects/{quote(subject, safe='')}/versions/{version}"
        answer = self._find(f"read the {version} version of {subject!r}", path, _SUBJECT_UNKNOWN, _VERSION_UNKNOWN)
        if answer is None:
            raise SubjectMissingError(self._url, subject)
        return answer

    @property
    def _url(self) -> str:
        """The address, or several with commas between them."""
        url = self._settings.get("url")
        if url is None:
            raise ConfigurationError("SCHEMA_REGISTRY_URL", "no value", "the address of the messages' schema registry")
        return url

    def _find(self, action: str, path: str, *unknown: int) -> Mapping[str, Any] | None:
        """The schema there; None where the answer is one of `unknown`, the registry's own codes for what it does not have."""
        answer = self._ask(action, path, "schema", unknown)
        return answer if "schema" in answer else None

    def _ask(
        self, action: str, path: str, key: str, unknown: Sequence[int] = (), body: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """The answer, which has `key`, or says that what was asked for is unknown; of the first address that gives one."""
        *others, last = self._url.split(",")
        for url in others:
            try:
                return self._ask_at(url, action, path, key, unknown, body)
            except RegistryUnavailableError:
                continue  # the last one says what is wrong
        return self._ask_at(last, action, path, key, unknown, body)

    def _ask_at(
        self, url: str, action: str, path: str, key: str, unknown: Sequence[int], body: Mapping[str, str] | None
    ) -> Mapping[str, Any]:
        try:
            response = requests.request(
                "GET" if body is None else "POST",
                f"{url}/{path}",
                json=body,
                headers={"Accept": "application/vnd.schemaregistry.v1+json, application/json"} | self._bearer(),
                auth=self._basic(),
                verify=self._settings.get("ssl.ca.location", True),
                cert=self._certificate(),
                timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS),
            )
        except requests.exceptions.SSLError as error:
            raise RegistryAccessError(url, action, _reason(error)) from None
        except requests.RequestException as error:
            raise RegistryUnavailableError(url, action, _reason(error)) from None
        except OSError as error:  # of the files that the settings name
            raise ConfigurationError("SCHEMA_REGISTRY_SSL_*_LOCATION", str(error), "files that can be read") from None
        answer = _json(response)
        if response.status_code == requests.codes.not_found and answer.get("error_code") in unknown:
            return answer
        if response.status_code != requests.codes.ok or key not in answer:
            raise _translate(response, url, action)
        return answer

    def _basic(self) -> HTTPBasicAuth | None:
        # As bytes: the library would encode text as Latin-1, and quote what is none in its error.
        user, _, password = self._settings.get("basic.auth.user.info", "").encode().partition(b":")
        return HTTPBasicAuth(user, password) if user else None

    def _bearer(self) -> dict[str, str]:
        token = self._settings.get("bearer.auth.token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _certificate(self) -> tuple[str, str] | str | None:
        certificate, key = self._settings.get("ssl.certificate.location"), self._settings.get("ssl.key.location")
        return (certificate, key) if certificate and key else certificate


def _translate(response: requests.Response, url: str, action: str) -> RegistryError | ConfigurationError:
    status = f"HTTP {response.status_code}"
    if response.status_code in _REFUSED:
        return RegistryAccessError(url, action, status)
    if response.status_code >= requests.codes.server_error or response.status_code in _TRANSIENT:
        return RegistryUnavailableError(url, action, status)
    return ConfigurationError(
        "SCHEMA_REGISTRY_URL",
        f"{url}, which gives the answer {status} to the request to {action}",
        "an address under which a registry answers by Confluent's API",
    )


def _json(response: requests.Response) -> Mapping[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(error: requests.RequestException) -> str:
    """Why, in short. The library's own sentence holds the address, and headers on the way."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {_CONNECT_SECONDS:g} s of connecting or {_ANSWER_SECONDS:g} s of asking"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    strerror = getattr(cause, "strerror", None)
    return strerror or type(error).__name__
