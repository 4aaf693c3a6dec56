"""The `lakehouse` command: what each verb prints, and with what it ends."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.cli.command import VERBS
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory
from lakehouse_assets_tests.waiting import wait_until

DECLARATION = """
table: ods.clicks
source: {{topic: {topic}}}
commit_interval: 1s
schema:
  - {{name: id, type: long, required: true}}
  - {{name: at, type: timestamptz}}
"""
MESSAGES = ['{"id": 1, "at": "2026-11-25T10:00:00Z"}', '{"id": "x"}', None, '{"id": 4}']

COMMAND = [sys.executable, "-m", "lakehouse_assets.cli"]
HEAVY = {"dagster", "pyiceberg", "pyarrow", "confluent_kafka", "pandas", "duckdb", "pydantic", "yaml", "rich"}

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    return tmp_path / "tables"


@pytest.fixture
def clicks(folder: Path, kafka: LocalKafka, broker: Broker, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """A declared table whose topic has four messages; the table is not there yet."""
    name = topic()
    broker.produce(name, MESSAGES, timestamp_ms=1_790_000_000_000)
    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=name))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    return name


def documents(output: Output) -> list[Any]:
    return [json.loads(line) for line in output.readouterr().out.splitlines()]


def test_validate_prints_file_and_line_of_every_mistake_and_fails(folder: Path, capsys: Output) -> None:
    (folder / "good.yaml").write_text(DECLARATION.format(topic="t"))
    (folder / "bad.yaml").write_text("table: ods.bad\nsource: {topik: t}\nschema:\n  - {name: id, type: lon}\n")

    assert main(["validate"]) == 1

    said = capsys.readouterr()
    assert f"{folder}/bad.yaml:2: " in said.err
    assert f"{folder}/bad.yaml:4: " in said.err
    assert said.out == "right: 1, wrong: 1\n"


def test_validate_takes_files_and_says_the_same_to_a_script(folder: Path, capsys: Output) -> None:
    (folder / "good.yaml").write_text(DECLARATION.format(topic="t"))
    (folder / "bad.yaml").write_text("table: ods.bad\nsource: {topic: t}\nschema:\n  - {name: id, type: lon}\n")

    assert main(["validate", str(folder / "good.yaml"), "--json"]) == 0
    assert main(["validate", str(folder / "bad.yaml"), "--json"]) == 1

    good, bad = documents(capsys)
    assert good == {"tables": ["ods.clicks"], "problems": []}
    (problem,) = bad["problems"]
    assert (problem["line"], problem["path"], problem["suggestion"]) == (4, "schema[0].type", "long")


def test_a_place_that_is_not_there_is_a_wrong_call(folder: Path, capsys: Output) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["validate", str(folder / "nowhere")])

    assert capsys.readouterr().err.endswith("/nowhere', which is no file and no folder\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingset", "ods.clicks"], "found the command 'ingset'; allowed: dev, .* Did you mean 'ingest'\\?"),
        (["peek", "ods.clicks", "--count", "0"], "found '0', expected a number of messages, at least 1"),
        (["new", "ods.clicks", "--topic", "t", "--count", "-4"], "found '-4', expected a number of messages, at least 1"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_what_is_nearest(arguments: list[str], said: str, capsys: Output) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("verb", ["ingest", "plan", "peek", "status"])
def test_an_unknown_table_is_a_wrong_call_and_the_nearest_is_named(folder: Path, capsys: Output, verb: str) -> None:
    (folder / "good.yaml").write_text(DECLARATION.format(topic="t"))

    assert main([verb, "ods.click"]) == 2

    said = capsys.readouterr().err
    assert said == (
        "Cannot find the table 'ods.click': found no declaration of it; declared: ods.clicks. Did you mean 'ods.clicks'?\n"
    )


def test_the_nearest_name_may_be_that_of_a_declaration_that_is_wrong(folder: Path, capsys: Output) -> None:
    (folder / "bad.yaml").write_text("table: ods.clicks\nsource: {topik: t}\n")

    assert main(["ingest", "ods.click"]) == 2

    assert capsys.readouterr().err.endswith("Did you mean 'ods.clicks'?\n")


@pytest.mark.kafka
def test_plan_says_what_a_run_would_read_and_creates_nothing(clicks: str, capsys: Output) -> None:
    assert main(["plan", "ods.clicks"]) == 0
    assert capsys.readouterr().out == (
        f"would create ods.clicks\nwould read {clicks}-0 offsets 0 to 3, at most 4 messages\n"
    )

    assert main(["plan", "ods.clicks", "--json"]) == 0
    (plan,) = documents(capsys)
    assert plan["creates_table"]
    assert plan["reads"] == [{"topic": clicks, "partition": 0, "first_offset": 0, "last_offset": 3}]


@pytest.mark.kafka
def test_plan_says_what_would_change_in_the_columns_and_changes_nothing(clicks: str, folder: Path, capsys: Output) -> None:
    assert main(["ingest", "ods.clicks"]) == 0
    declaration = (folder / "clicks.yaml").read_text()
    (folder / "clicks.yaml").write_text(declaration + "  - {name: price, type: double}\n")
    capsys.readouterr()

    for _ in range(2):
        assert main(["plan", "ods.clicks"]) == 0
        assert capsys.readouterr().out == "would change price: no such column -> double\nods.clicks has everything\n"
    assert main(["plan", "ods.clicks", "--json"]) == 0
    (plan,) = documents(capsys)
    assert plan["changes"] == [{"column": "price", "before": None, "after": "double"}]

    (folder / "clicks.yaml").write_text(declaration.replace("long", "int"))
    assert main(["plan", "ods.clicks"]) == 1
    assert "column id is declared int, the table has long, which can't be narrowed" in capsys.readouterr().err


@pytest.mark.kafka
def test_peek_shows_rows_reasons_and_what_is_skipped(clicks: str, folder: Path, capsys: Output) -> None:
    assert main(["peek", "ods.clicks"]) == 0
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first == f'{clicks}-0 offset 0: {{"id": 1, "at": "2026-11-25T10:00:00Z"}}'
    assert second.startswith(f"{clicks}-0 offset 1: no row: field 'id'")
    assert third == f"{clicks}-0 offset 2: a tombstone, skipped"
    assert fourth == f'{clicks}-0 offset 3: {{"id": 4, "at": null}}'

    assert main(["peek", "ods.clicks", "--count", "2", "--json"]) == 0
    tombstone, newest = documents(capsys)
    assert (tombstone["row"], tombstone["error"], tombstone["skipped"]) == (None, None, "tombstone")
    assert newest == {
        "topic": clicks, "partition": 0, "offset": 3, "timestamp_ms": 1_790_000_000_000, "row": {"id": 4, "at": None}, "error": None,
        "skipped": None, "deletes": False, "unknown_fields": [],
    }  # fmt: skip

    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=clicks) + "where: id = 4\n")
    assert main(["peek", "ods.clicks"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{clicks}-0 offset 0: filtered by where, skipped"


@pytest.mark.kafka
def test_peek_looks_further_back_where_the_end_of_a_log_holds_no_message(clicks: str, broker: Broker, capsys: Output) -> None:
    broker.produce_in_transaction(clicks, ['{"id": 5}'] * 3, abort=True)

    assert main(["peek", "ods.clicks", "--count", "1"]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == f'{clicks}-0 offset 3: {{"id": 4, "at": null}}'


@pytest.mark.kafka
def test_peek_of_a_topic_without_messages_says_so(
    folder: Path, kafka: LocalKafka, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    name = topic()
    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=name))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)

    assert main(["peek", "ods.clicks", "--json"]) == 0

    assert capsys.readouterr() == ("", f"there is no message in '{name}'\n")


@pytest.mark.kafka
def test_peek_names_the_fields_that_no_column_reads(clicks: str, broker: Broker, capsys: Output) -> None:
    broker.produce(clicks, ['{"id": 5, "price": 1.5, "user-id": "x"}'])

    assert main(["peek", "ods.clicks"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "fields without a column, of the rows above:",
        "  price: in 33%, double  - {name: price, type: double}",
        '  user-id: in 33%, string  - {name: user_id, type: string, from: ["user-id"]}',
    ]
    assert main(["peek", "ods.clicks", "--count", "1", "--json"]) == 0
    assert documents(capsys)[0]["unknown_fields"] == ["price", "user-id"]


@pytest.mark.kafka
def test_status_tells_lag_ledger_and_commits_before_and_after_an_ingest(clicks: str, capsys: Output) -> None:
    assert main(["status", "--json"]) == 0
    (before,) = documents(capsys)
    assert (before["table"], before["lag"], before["held"], before["commits"]) == ("ods.clicks", 4, None, [])

    assert main(["ingest", "ods.clicks"]) == 0
    assert "committed 2 rows" in capsys.readouterr().out

    assert main(["status", "--json"]) == 0
    (after,) = documents(capsys)
    assert (after["fresh"], after["waited_seconds"], after["allowed_seconds"]) == (True, 0, 900)
    assert (after["lag"], after["held"], after["missing"]) == (0, {clicks: {"0": [[0, 4]]}}, {})
    assert [(c["operation"], c["added_rows"], c["total_rows"]) for c in after["commits"]] == [("ingest", 2, 2)]
    assert main(["status", "ods.clicks"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"ods.clicks of {clicks!r}\n  behind   0 messages; fresh\n  holds    {clicks}-0 offsets 0..3\n")
    assert re.search(r"^  \S+\+00:00  ingest +\+2 +2$", said, re.MULTILINE)
    assert sorted(load_table("ods.clicks").scan().to_arrow()["id"].to_pylist()) == [1, 4]


@pytest.mark.kafka
def test_status_shows_debt_beside_its_limits_and_what_pays_it(clicks: str, folder: Path, broker: Broker, capsys: Output) -> None:
    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=clicks) + "maintenance: {small_files: 2}\n")
    for number in (5, 6):
        broker.produce(clicks, [f'{{"id": {number}}}'])
        assert main(["ingest", "ods.clicks"]) == 0
    capsys.readouterr()

    assert main(["status", "ods.clicks"]) == 0
    said = capsys.readouterr().out
    assert "\n  owes     compact\n" in said
    assert re.search(r"^  small files in one partition +2 +2 +60 +500  lakehouse compact ods.clicks$", said, re.MULTILINE)
    assert re.search(r"^  manifests to open for a scan +2 +500 +1,000$", said, re.MULTILINE)
    assert main(["status", "--json"]) == 0
    (document,) = documents(capsys)
    assert (document["debt"]["due"], document["debt"]["small_files"], document["debt"]["small_files_limit"]) == (["compact"], 2, 2)
    assert (document["debt"]["late"], document["debt"]["over_hard_limit"], document["debt"]["size_bytes"] > 0) == ([], [], True)


@pytest.mark.kafka
def test_status_says_up_to_where_a_table_is_complete_and_which_topic_partition_holds_it_back(
    clicks: str, folder: Path, capsys: Output
) -> None:
    event_time = "event_time: {column: at, max_ahead: 1000d}\n"
    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=clicks) + event_time)
    assert main(["status", "--json"]) == 0
    (before,) = documents(capsys)
    assert (before["event_time_watermark"], before["held_back_by"], before["late_rows"]) == (None, None, {})

    assert main(["ingest", "ods.clicks"]) == 0
    capsys.readouterr()

    assert main(["status", "--json"]) == 0
    (after,) = documents(capsys)
    assert (after["event_time_watermark"], after["held_back_by"]) == ("2026-11-25T09:55:00.000+00:00", f"{clicks}-0")
    assert main(["status", "ods.clicks"]) == 0
    found = re.search(rf"^  complete up to 2026-11-25T09:55:00.000\+00:00 of event time, .* ago; held back by {clicks}-0$",
                      capsys.readouterr().out, re.MULTILINE)  # fmt: skip
    assert found


@pytest.mark.kafka
def test_replay_says_what_it_moved(clicks: str, folder: Path, capsys: Output) -> None:
    assert main(["replay", "ods.clicks"]) == 0
    assert capsys.readouterr().out == "moved 0 messages into ods.clicks; 0 still can't become rows\n"
    assert main(["ingest", "ods.clicks"]) == 0
    capsys.readouterr()

    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=clicks).replace("name: at,", "name: at, from: nowhere,"))
    assert main(["replay", "ods.clicks", "--json"]) == 0

    assert documents(capsys) == [{"table": "ods.clicks", "moved": 0, "still_bad": 1, "filtered": 0}]


@pytest.mark.kafka
def test_status_of_a_topic_that_is_gone_fails_with_its_sentence(clicks: str, broker: Broker, capsys: Output) -> None:
    broker.delete_topic(clicks)

    assert main(["status", "--json"]) == 1

    (document,) = documents(capsys)
    assert document["error"] == "TopicMissingError"
    assert clicks in document["message"]


@pytest.mark.kafka
def test_the_overview_shows_every_table_though_one_has_no_topic_and_one_is_wrong(
    clicks: str, folder: Path, capsys: Output
) -> None:
    assert main(["ingest", "ods.clicks"]) == 0
    (folder / "again.yaml").write_text(DECLARATION.format(topic=clicks).replace("ods.clicks", "ods.again"))
    (folder / "gone.yaml").write_text(DECLARATION.format(topic="nowhere").replace("ods.clicks", "ods.gone"))
    (folder / "wrong.yaml").write_text(DECLARATION.format(topic="t").replace("ods.clicks", "ods.wrong").replace("long", "lon"))
    capsys.readouterr()

    assert main(["status"]) == 1

    said = capsys.readouterr()
    titles, line, again, mine = said.out.splitlines()
    assert titles.split() == ["table", "topic", "behind", "freshness", "last", "commit", "rows", "debt"]
    assert again.split()[:5] == ["ods.again", clicks, "4", "never", "filled"]
    assert mine.split()[:4] == ["ods.clicks", clicks, "0", "fresh"]
    assert mine.split()[-3:] == ["ago", "2", "none"]
    assert len(line) >= len(again.rstrip())
    wrong, gone = said.err.splitlines()
    assert f"{folder}/wrong.yaml:6: " in wrong
    assert gone.startswith("Cannot read ods.gone: topic 'nowhere' does not exist")
    assert main(["status", "--json"]) == 1
    assert [(d["table"], d.get("error")) for d in documents(capsys)] == [
        ("ods.again", None), ("ods.clicks", None), (None, "DeclarationError"), ("ods.gone", "TopicMissingError"),
    ]  # fmt: skip
    assert main(["plan", "ods.wrong"]) == 1
    assert f"{folder}/wrong.yaml:6: " in capsys.readouterr().err


@pytest.mark.kafka
def test_status_says_when_messages_wait_longer_than_is_allowed(clicks: str, folder: Path, broker: Broker, capsys: Output) -> None:
    (folder / "clicks.yaml").write_text(DECLARATION.format(topic=clicks) + "checks: {max_age: 1s}\n")
    assert main(["ingest", "ods.clicks"]) == 0
    broker.produce(clicks, ['{"id": 5}'])

    def is_late() -> bool:
        capsys.readouterr()
        assert main(["status", "ods.clicks", "--json"]) == 0
        (document,) = documents(capsys)
        return not document["fresh"]

    wait_until(is_late, 30)
    assert main(["status", "ods.clicks"]) == 0
    assert re.search(r"behind   1 messages; LATE: \d+ s without a commit, 1 s allowed", capsys.readouterr().out)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_the_help_of_every_verb_loads_nothing_heavy(verb: str) -> None:
    # What it loads is what its time goes into; a clock would measure the machine.
    program = (
        "import sys\nfrom lakehouse_assets.cli import main\ntry:\n    main([*sys.argv[1:], '--help'])\nexcept SystemExit as end:\n"
        f"    sys.exit(end.code or ' '.join({HEAVY} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", program, *verb.split()], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
    assert f"usage: lakehouse {verb}".strip() in done.stdout


def test_a_reader_that_has_seen_enough_ends_the_command_without_a_word(folder: Path) -> None:
    with subprocess.Popen([*COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 141
