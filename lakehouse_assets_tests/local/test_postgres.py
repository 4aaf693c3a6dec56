"""The database on this machine: what it was told stays, and nothing of it outlives its owner."""

import signal
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from lakehouse_assets.local.processes import list_marked
from lakehouse_assets_tests import ports
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.waiting import is_alive, wait_until

pytestmark = pytest.mark.xdist_group("postgres")

_OWNER = """
import sys, time
from pathlib import Path
from lakehouse_assets.local.postgres import LocalPostgres
server = LocalPostgres(Path(sys.argv[1]), port=int(sys.argv[2]))
server.start()
print(server.pid, server.uri("postgres"), flush=True)
time.sleep(600)
"""


def test_what_was_committed_is_there_after_its_owner_was_killed_and_no_process_is_left(tmp_path: Path) -> None:
    folder, port = tmp_path / "postgres", ports.port_of(ports.LOCAL_POSTGRES)
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(folder), str(port)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner.stdout:
        pid, uri = owner.stdout.readline().split()
    session = psycopg2.connect(uri)
    with session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 1 AS id")

    owner.send_signal(signal.SIGKILL)
    owner.wait()

    with PostgresServer(folder, port=port) as server:
        wait_until(lambda: not is_alive(int(pid)), 20)
        assert server.execute("SELECT id FROM kept") == [(1,)]
        server.kill()
        server.start()
        assert server.execute("SELECT id FROM kept") == [(1,)]
        session.close()
        server.stop()
        assert list_marked(f"{folder.resolve()}:") == []


def test_nobody_signs_in_without_a_password(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "postgres", port=ports.port_of(ports.LOCAL_POSTGRES)) as server:
        uri = f"postgresql://lakehouse@{server.address}/postgres"

        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(uri)
