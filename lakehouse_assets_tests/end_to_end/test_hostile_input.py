"""What others write into a topic reaches no path, no query, no format string and no terminal; what is secret reaches nobody."""

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.errors import StorageError
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.command import call_lakehouse, place_variables

pytestmark = pytest.mark.kafka

HOSTILE = [
    "../../../tmp/escaped", "/etc/passwd", "%s%n", "{0.__class__}", "{table}", "'; DROP TABLE clicks; --", "a/b=c/../d",
    "\x1b[31mred\x1b[0m", "line\nCannot ingest ods.clicks: forged", "\x00\x07\x9b31m", "\u202egnp.exe", "x" * 300,
]  # fmt: skip
DECLARATION = """
table: ods.clicks
source: {{topic: {topic}}}
commit_interval: 1s
partition_by: [name]
schema:
  - {{name: name, type: string}}
  - {{name: number, type: long}}
  - {{name: kind, type: string, from_header: kind}}
"""


def declare(folder: Path, topic: str) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "clicks.yaml").write_text(DECLARATION.format(topic=topic))


def fill(broker: Broker, topic: str) -> None:
    """Each text as a value's field, and where a number should be; as key, header name and header."""
    for text in HOSTILE:
        headers = [("kind", text.encode()), (text.replace("\x00", ""), text.encode())]
        values = [json.dumps({"name": text, "number": 1}), json.dumps({"name": text, "number": text}), text]
        broker.produce(topic, values, key=text, headers=headers)


def test_hostile_texts_are_rows_and_quarantined_messages_and_nothing_else(
    tmp_path: Path, kafka: LocalKafka, broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = topic()
    declare(tmp_path, name)
    fill(broker, name)
    for variable, value in (place_variables(tmp_path) | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}).items():
        monkeypatch.setenv(variable, value)
    printed = []

    for call in (["plan", "ods.clicks"], ["peek", "ods.clicks", "--count", "50"], ["ingest", "ods.clicks"], ["status"],
                 ["replay", "ods.clicks"], ["new", "ods.other", "--topic", name],
                 ["query", "SELECT name, kind, number FROM ods.clicks"],
                 ["query", "SELECT error_code, error, key, headers FROM ods.clicks__quarantine"]):  # fmt: skip
        assert main(call) == 0, call
        printed.append("".join(capsys.readouterr()))

    for text in printed:
        assert not [one for one in text if not (one.isprintable() or one == "\n")]
        assert "\nCannot ingest" not in text
    assert main(["query", "--json", "SELECT name, kind FROM ods.clicks"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((row["name"], row["kind"]) for row in rows) == sorted((text, text) for text in HOSTILE)
    outside = [path for path in tmp_path.rglob("*") if "escaped" in path.name and "warehouse" not in path.parts]
    assert not outside
    assert not Path("/tmp/escaped").exists()


def test_an_error_shows_no_control_characters_of_what_it_quotes() -> None:
    error = StorageError("write", "s3://bucket", "\x1b]0;owned\x07 \x9b2J\r")

    assert str(error) == (
        r"Cannot write s3://bucket: \x1b]0;owned\x07 \x9b2J\r. Nothing was published. "
        "Check free space and access rights, then run again."
    )


SECRETS = {
    "KAFKA_SASL_PASSWORD": "mark-of-kafka",
    "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "ann:mark-of-registry",
    "PYICEBERG_CATALOG__LAKEHOUSE__TOKEN": "mark-of-token",
    "PYICEBERG_CATALOG__LAKEHOUSE__CREDENTIAL": "user:mark-of-credential",
    "PYICEBERG_CATALOG__LAKEHOUSE__S3__SECRET_ACCESS_KEY": "mark-of-store",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "ann",
}
MARK = b"mark-of-"


SQL, REST = {"PYICEBERG_CATALOG__LAKEHOUSE__TYPE": "sql"}, {"PYICEBERG_CATALOG__LAKEHOUSE__TYPE": "rest"}
URI = "PYICEBERG_CATALOG__LAKEHOUSE__URI"
slow = partial(pytest.param, marks=pytest.mark.slow)  # some try again for a while


@pytest.mark.parametrize(
    ("wrong", "works"),
    [
        ({}, True),
        slow(SQL | {URI: "postgresql+psycopg2://ann:mark-of-uri@127.0.0.1:1/lake"}, False),
        slow(SQL | {URI: "oracle://ann:mark-of-uri@127.0.0.1:1/lake"}, False),
        slow(REST | {URI: "http://ann:mark-of-uri@127.0.0.1:1"}, False),
        slow({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, False),
        slow({"SCHEMA_REGISTRY_URL": "http://127.0.0.1:1", "FORMAT": "avro"}, False),
    ],
    ids=["nothing", "a database that is away", "no driver", "a catalog that is away", "a broker without passwords", "no registry"],
)
def test_secrets_are_in_nothing_that_is_printed_logged_or_kept(
    tmp_path: Path, kafka: LocalKafka, broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], wrong: dict[str, str], works: bool,
) -> None:  # fmt: skip
    name = topic()
    declare(tmp_path, name)
    fill(broker, name)
    if kind := wrong.get("FORMAT"):
        declaration = tmp_path / "tables" / "clicks.yaml"
        declaration.write_text(declaration.read_text().replace(f"topic: {name}", f"topic: {name}, format: {kind}"))
        broker.produce(name, [b"\0\0\0\0\1x"])
    place = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "PYICEBERG_CATALOG__LAKEHOUSE__TYPE": "sql",
        "PYICEBERG_CATALOG__LAKEHOUSE__URI": f"sqlite:///{tmp_path}/catalog.db",
        "PYICEBERG_CATALOG__LAKEHOUSE__WAREHOUSE": f"file://{tmp_path}/warehouse",
    }
    variables = SECRETS | place | wrong
    heard = b""
    looks = (["peek", "ods.clicks"], ["plan", "ods.clicks"]) if wrong else ()
    for call in (["ingest", "ods.clicks"], ["status", "--json"], *looks):
        done = call_lakehouse(tmp_path, *call, variables=variables)
        heard += (done.stdout + done.stderr).encode()
        assert (done.returncode == 0) == works or wrong.get("FORMAT") or call[0] == "peek"
        assert "Traceback" not in done.stderr

    run_in_dagster(tmp_path, variables, monkeypatch)

    heard += "".join(capfd.readouterr()).encode()
    assert heard
    assert MARK not in heard
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert MARK not in path.read_bytes(), path


def run_in_dagster(folder: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick and a run, whose events and logs are kept under `folder`."""
    for variable, value in (place_variables(folder) | variables).items():
        monkeypatch.setenv(variable, value)
    kept = folder / "dagster"
    kept.mkdir()
    with dg.instance_for_test(temp_dir=str(kept)) as instance:
        job = build_definitions(Environment.read()).resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["ods", "clicks"])], partition_key="2026-01-01-00:00", raise_on_error=False,
            run_config={"ops": {"ods__clicks": {"config": {"mode": "continue"}}}},
        )  # fmt: skip
    assert [path for path in kept.rglob("*.db") if sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone()]
