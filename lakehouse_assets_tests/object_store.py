"""An object store that speaks S3, on this machine and in memory."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from pyarrow.fs import FileSelector, S3FileSystem

from lakehouse_assets.local.ports import HOST, is_port_open
from lakehouse_assets.local.processes import ProcessGroup, read_log_tail
from lakehouse_assets_tests.waiting import wait_until

ACCESS_KEY, SECRET_KEY, REGION = "reader", "never-to-be-shown", "us-east-1"

_START_SECONDS = 60.0


class ObjectStore:
    """A context manager: entering starts it, leaving ends it and forgets every object."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"{HOST}:{port}"
        self._folder, self.port = folder, port
        self._processes = ProcessGroup(folder)

    def __enter__(self) -> Self:
        log = self._folder / "object_store.log"
        command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
        process = self._processes.start(command, log=log)
        wait_until(lambda: process.poll() is not None or is_port_open(self.port), _START_SECONDS)
        assert process.poll() is None, read_log_tail(log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.stop()

    @property
    def properties(self) -> dict[str, str]:
        """What a catalog is told so that it finds the store, in PyIceberg's words."""
        return {
            "s3.endpoint": f"http://{self.address}",
            "s3.access-key-id": ACCESS_KEY,
            "s3.secret-access-key": SECRET_KEY,
            "s3.region": REGION,
        }

    def create_bucket(self, name: str) -> str:
        """Its location."""
        self._files.create_dir(name)
        return f"s3://{name}"

    def list_locations(self, location: str) -> set[str]:
        """Locations of every object under one."""
        found = self._files.get_file_info(FileSelector(location.removeprefix("s3://"), recursive=True))
        return {f"s3://{info.path}" for info in found if info.is_file}

    @property
    def _files(self) -> S3FileSystem:
        return S3FileSystem(
            access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=REGION, endpoint_override=self.address, scheme="http",
            allow_bucket_creation=True,
        )  # fmt: skip
