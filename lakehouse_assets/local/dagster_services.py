"""How Dagster's processes are started on this machine, and how one sees that they answer.

One code server for webserver and daemon, all started at once. Measured against `dagster dev`, which starts them one after
the other: 6 s against 15 s until the UI answers.
"""

import json
import shutil
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.ports import HOST, is_port_open

# As in `orchestration.names`, which a test compares: to import that would cost the supervisor two seconds of Dagster.
INGEST_TAG = "lakehouse/ingest"
_ANSWER_SECONDS = 5.0
_UNREACHABLE = "DagsterUserCodeUnreachableError"
_LOCATIONS_QUERY = """
{ workspaceOrError { ... on Workspace { locationEntries {
    locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
_RUNS_QUERY = """
{ runsOrError(filter: {statuses: [STARTING, STARTED]}) { ... on Runs { results { runId tags { key } } } } }
"""
_CANCEL_MUTATION = """
mutation ($runIds: [String!]!) { terminateRuns(runIds: $runIds, terminatePolicy: SAFE_TERMINATE) { __typename } }
"""

# Memory that was used once stays with the process: fresh pages cost up to 4 s per gigabyte on virtual machines, used ones
# next to nothing. Arenas are few, or every thread would keep such a stock of its own. Read by glibc only.
ALLOCATOR_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "33554432",  # the largest that glibc accepts
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """The module that holds the definitions, and the name that Dagster shows for it."""

    module_name: str
    location_name: str


@dataclass(frozen=True, slots=True)
class DagsterServices:
    """Commands and places of one instance. `folder` is DAGSTER_HOME."""

    folder: Path
    location: CodeLocation
    code_server_port: int
    webserver_port: int

    @property
    def url(self) -> str:
        """Where the UI answers."""
        return f"http://{HOST}:{self.webserver_port}"

    @property
    def is_prepared(self) -> bool:
        """Whether the storage of the instance was created completely once."""
        return self._prepared_mark.is_file()

    def mark_prepared(self) -> None:
        """Remember that `prepare_command` has ended well."""
        self._prepared_mark.touch()

    def write_files(self, dagster_yaml: Path) -> None:
        """Give the instance the project's settings, and the address of the code server."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A copy, not a link: an instance must not change while its processes run.
        shutil.copyfile(dagster_yaml, self.folder / "dagster.yaml")
        server = {"host": HOST, "port": self.code_server_port, "location_name": self.location.location_name}
        self._workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))

    @property
    def prepare_command(self) -> list[str]:
        """Ends by itself."""
        return _python("lakehouse_assets.local.runs")

    @property
    def code_server_command(self) -> list[str]:
        """Reloads when the UI's button says so, so that a changed declaration needs no restart."""
        return [
            *_python("dagster", "code-server", "start", "-m", self.location.module_name),
            *("--location-name", self.location.location_name),
            *("--host", HOST, "--port", str(self.code_server_port)),
        ]

    @property
    def webserver_command(self) -> list[str]:
        """The UI."""
        port = str(self.webserver_port)
        return _python("dagster_webserver", "-w", str(self._workspace), "-h", HOST, "-p", port)

    @property
    def daemon_command(self) -> list[str]:
        """Sensors, schedules, queue, backfills."""
        return _python("dagster._daemon", "run", "-w", str(self._workspace))

    def is_code_served(self) -> bool:
        """Whether the code server listens."""
        return is_port_open(self.code_server_port)

    def find_load_error(self) -> str | None:
        """Empty when the UI answers and shows the definitions; why they don't load; None while it does not answer yet."""
        answer = self._ask(_LOCATIONS_QUERY)
        if answer is None:
            return None
        entries = answer["workspaceOrError"].get("locationEntries", [])
        loads = [entry["locationOrLoadError"] for entry in entries]
        errors = [load["message"] for load in loads if load and load["__typename"] == "PythonError"]
        # Until the code server answers, the webserver shows that it does not, and asks again by itself.
        if not loads or None in loads or any(_UNREACHABLE in error for error in errors):
            return None
        return "".join(errors).strip()

    def cancel_ingestion(self) -> None:
        """Ask ingestion runs in progress to stop at their next commit, as the UI's button does; does not wait for them.

        Others are left: they end as failed when their process is told to, and Dagster starts them again next time. An
        ingestion run needs no second attempt, because its sensor asks for a new one.
        """
        answer = self._ask(_RUNS_QUERY)
        runs = answer["runsOrError"].get("results", []) if answer else []
        run_ids = [run["runId"] for run in runs if INGEST_TAG in {tag["key"] for tag in run["tags"]}]
        if run_ids:
            self._ask(_CANCEL_MUTATION, {"runIds": run_ids})

    def _ask(self, query: str, variables: Mapping[str, object] | None = None) -> "dict[str, Any] | None":
        """What the webserver says, None where it does not answer."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
                data: dict[str, Any] | None = json.load(response).get("data")
                return data
        except OSError:  # refused, reset, timed out
            return None

    @property
    def _workspace(self) -> Path:
        return self.folder / "workspace.yaml"

    @property
    def _prepared_mark(self) -> Path:
        return self.folder / "prepared"


def read_code_location(workspace: Path) -> CodeLocation:
    """The one Python module that a workspace file names.

    Raises:
        LocalPlatformError: the file names none, or more than one.
    """
    content = yaml.safe_load(workspace.read_text())
    entries = content.get("load_from", []) if isinstance(content, dict) else []
    modules = [
        entry["python_module"] for entry in entries if isinstance(entry, dict) and "python_module" in entry
    ]
    if len(entries) != 1 or len(modules) != 1:
        raise LocalPlatformError(
            f"read {workspace}",
            f"found {len(entries)} entries, {len(modules)} of them a 'python_module'; expected one 'python_module'",
            "Start Dagster by yourself where you serve several code locations.",
        )
    module = modules[0] if isinstance(modules[0], dict) else {"module_name": modules[0]}
    module_name = str(module["module_name"])
    return CodeLocation(module_name, str(module.get("location_name", module_name)))


def find_project_file(name: str) -> Path:
    """A fixed file of the project: of the current folder, of the checkout, or of the installed package.

    Raises:
        LocalPlatformError: it is in none of them.
    """
    folders = [Path.cwd(), Path(__file__).parents[2], Path(sys.prefix, "share", "lakehouse_assets")]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise LocalPlatformError(
        f"find {name}", f"it is in none of {looked}", "Start in the folder of the project."
    )


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
