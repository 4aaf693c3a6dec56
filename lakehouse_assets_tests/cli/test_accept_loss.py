"""`lakehouse accept-loss`, as an operator calls it at night."""

from pathlib import Path

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.conftest import TopicFactory

pytestmark = pytest.mark.kafka


def test_the_command_that_the_error_names_lets_the_table_go_on_and_status_shows_why(
    tmp_path: Path, kafka: LocalKafka, topic: TopicFactory, broker: Broker,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = topic()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    (tmp_path / "clicks.yaml").write_text(
        f"table: ods.clicks\nsource: {{topic: {name}}}\ncommit_interval: 1s\nschema: [{{name: id, type: long}}]\n"
    )
    broker.produce(name, [make_message(i) for i in range(3)])
    assert main(["ingest", "ods.clicks"]) == 0
    broker.produce(name, [make_message(i) for i in range(4)])
    broker.delete_records(name, {0: 5})
    capsys.readouterr()

    assert main(["ingest", "ods.clicks"]) == 1
    assert "lakehouse accept-loss ods.clicks --reason" in capsys.readouterr().err
    assert main(["accept-loss", "ods.clicks", "--reason", "disk full", "--dry-run"]) == 0
    assert main(["ingest", "ods.clicks"]) == 1
    assert main(["accept-loss", "ods.clicks", "--reason", "disk full"]) == 0
    assert main(["ingest", "ods.clicks"]) == 0
    assert main(["accept-loss", "ods.clicks", "--reason", "again"]) == 1
    capsys.readouterr()

    assert main(["status", "ods.clicks"]) == 0
    said = capsys.readouterr().out
    assert f"{name}-0 offsets 3..4 (2 offsets)" in said
    assert "disk full" in said
