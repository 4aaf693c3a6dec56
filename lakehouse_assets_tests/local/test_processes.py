"""No process outlives its owner, and no folder has two."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets.local.errors import AlreadyRunningError
from lakehouse_assets.local.java import resolve_kafka_jars
from lakehouse_assets.local.ownership import FolderLock
from lakehouse_assets.local.ports import find_free_port, is_port_open
from lakehouse_assets.local.processes import ProcessGroup, list_marked, read_log_tail
from lakehouse_assets_tests.waiting import is_alive, wait_until

# A process that starts another one and does not care about SIGTERM; both print who they are.
_STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
_OWNER = """
import sys, time
from pathlib import Path
from lakehouse_assets.local.processes import ProcessGroup
group = ProcessGroup(Path(sys.argv[1]))
group.start([sys.executable, "-c", sys.argv[2]], log=Path(sys.argv[1]) / "child.log")
print("started", flush=True)
time.sleep(600)
"""


def _family(log: Path) -> list[int]:
    wait_until(lambda: log.is_file() and log.read_text().endswith("\n"), 20)
    return [int(pid) for pid in log.read_text().split()]


def test_stopping_a_group_ends_children_and_their_children_also_those_that_refuse(tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path)
    group.start([sys.executable, "-c", _STUBBORN_FAMILY], log=tmp_path / "child.log")
    pids = _family(tmp_path / "child.log")
    assert {found.pid for found in group.list_processes()} == set(pids)

    group.stop(grace_seconds=0.5)

    assert group.list_processes() == []
    wait_until(lambda: not any(map(is_alive, pids)), 5)


def test_an_owner_that_is_killed_takes_its_children_with_it(tmp_path: Path) -> None:
    sleeper = _STUBBORN_FAMILY.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n", "")
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path), sleeper], stdout=subprocess.PIPE)
    pids = _family(tmp_path / "child.log")

    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    wait_until(lambda: not any(map(is_alive, pids)), 20)
    wait_until(lambda: not list_marked(str(tmp_path)), 20)


def test_what_survived_owner_and_watchdog_is_ended_at_the_next_start(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path), _STUBBORN_FAMILY], stdout=subprocess.PIPE
    )
    pids = _family(tmp_path / "child.log")
    watchdog_pid = next(
        p.pid for p in list_marked(str(tmp_path)) if "lakehouse_assets.local.processes" in p.command
    )
    os.kill(watchdog_pid, signal.SIGKILL)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert all(map(is_alive, pids))

    found = ProcessGroup(tmp_path).end_leftovers(grace_seconds=0.2)

    assert set(pids) <= {process.pid for process in found}
    assert not any(map(is_alive, pids))


def test_leftovers_of_another_folder_are_left_alone(tmp_path: Path) -> None:
    other = ProcessGroup(tmp_path / "a")
    process = other.start([sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log")

    assert ProcessGroup(tmp_path).end_leftovers() == []

    assert process.poll() is None
    other.stop()


def test_a_folder_has_one_owner_and_says_who(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire("start it")
    first.describe("make dev (process 7, http://127.0.0.1:3000)")

    with pytest.raises(AlreadyRunningError) as caught:
        second.acquire("start it")

    assert str(caught.value) == (
        f"Cannot start it: make dev (process 7, http://127.0.0.1:3000) runs it already in {tmp_path}. "
        "Use that one, or stop it first, or choose another folder with LAKEHOUSE_HOME."
    )
    first.release()
    second.acquire("start it")
    second.release()


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert is_port_open(port)
        assert find_free_port(port) > port

    assert find_free_port(port) == port


def test_a_log_tail_is_the_end_of_the_file_and_empty_without_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(map(str, range(100))))

    assert read_log_tail(tmp_path / "log").split()[-2:] == ["98", "99"]
    assert read_log_tail(tmp_path / "missing") == ""


def test_a_jar_that_was_cut_off_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resolve_kafka_jars(lambda _: None)
    # The jars of this machine stand in for Maven Central: where they lie is where a Maven user has them.
    root = next(parent for parent in whole[0].parents if parent.name == "repository")
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2" / "repository").symlink_to(root)
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".cache" / "lakehouse_assets" / "java"
    cut = cache / "repository" / whole[0].relative_to(root)
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole[0].read_bytes()[:1000])

    jars = resolve_kafka_jars(lambda _: None)

    assert len(jars) == len(whole)
    assert not cut.exists()
    assert resolve_kafka_jars(lambda _: None) == jars
