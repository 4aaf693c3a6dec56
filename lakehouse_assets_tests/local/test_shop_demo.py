"""The demo's shop: a real database, real changes in topics, and a clear word where it can't be had."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from lakehouse_assets.local.errors import LEFT_OUT
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.local.processes import list_marked
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("postgres")]

COMMAND = [sys.executable, "-m", "lakehouse_assets.local.shop_demo"]


def _variables(kafka: LocalKafka, home: Path, **others: str) -> dict[str, str]:
    return {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "LAKEHOUSE_HOME": str(home), **others}


@pytest.mark.slow
def test_who_runs_the_command_that_it_prints_sees_the_change_in_the_topic_and_nothing_is_left_behind(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    demo = subprocess.Popen(COMMAND, env=_variables(kafka, tmp_path), stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert demo.stdout
    try:
        said = demo.stdout.readline(), demo.stdout.readline()
        subprocess.run(said[1], shell=True, check=True, cwd=tmp_path)  # noqa: S602 - the line is for a shell
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "shop", "auto.offset.reset": "earliest"})
        consumer.subscribe(["shop.public.customers"])
        wait_until(lambda: _after(consumer).items() >= {"id": 1, "city": "Bern"}.items(), 30)
        consumer.close()
        demo.terminate()
        assert demo.wait(30) == 0
    finally:
        demo.kill()
        demo.stdout.close()

    assert re.match(r"postgres/psql postgresql://shop:shop@127\.0\.0\.1:\d+/shop -c ", said[1])
    assert list_marked(f"{tmp_path.resolve()}:") == []


def _after(consumer: Consumer) -> Mapping[str, object]:
    message = consumer.poll(1)
    value = message.value() if message is not None and not message.error() else None
    return (json.loads(value)["after"] or {}) if value else {}


def test_where_debezium_can_not_be_had_it_says_so_and_ends_for_good(kafka: LocalKafka, tmp_path: Path) -> None:
    variables = _variables(kafka, tmp_path, HOME="/dev/null")  # where nothing can be fetched to

    done = subprocess.run(COMMAND, env=variables, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == LEFT_OUT, done.stderr
    assert done.stdout.startswith("Cannot fetch Kafka Connect")
    assert "The tables shop.* get no changes; everything else goes on." in done.stdout
    assert list_marked(f"{tmp_path.resolve()}:") == []
