"""Files below a location, listed and deleted many at once: what PyIceberg's FileIO does not do, or one by one.

Hides which file system is behind it (pyarrow's or fsspec's), and that one file has several names. A location is only ever
touched as the file that it spells: PyIceberg takes `?` and `#` for the end of a name, and fsspec takes `*` and `[` for a
pattern, so what is called so can't be deleted through them, rather than something else in its place.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain, islice
from typing import Any, Final
from urllib.parse import urlsplit

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_assets.model.errors import StorageError

_THREADS: Final = 32  # a deletion is a request or three to an object store, which waits
_AT_ONCE: Final = 1000  # the most objects that S3 deletes with one request
_SAME_SCHEME: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs", "wasbs": "wasb"}
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(?://([^/]*))?(.*)", re.DOTALL)
_SLASHES = re.compile("/{2,}")
_CUT_SHORT = re.compile(r"[?#\t\r\n]")  # Python's urlsplit, by which PyIceberg finds the path
_PATTERN = re.compile(r"[*?\[]")
_MODIFIED: Final = ("mtime", "LastModified", "last_modified")  # fsspec: each file system has its own word


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a listing shows it; `modified_ms` (since 1970) is None where the storage does not say."""

    location: str
    size_bytes: int
    modified_ms: int | None


def normalize(location: str) -> str:
    """One spelling for what means the same file: schemes of one storage, slashes too many, paths without scheme.

    Only for comparing: on an object store it may name another object than `location` does.
    """
    if (parts := _SCHEME.fullmatch(location)) is None:
        parts = _SCHEME.fullmatch("file:" + os.path.abspath(location))
        assert parts is not None  # noqa: S101 - the expression takes every text that has a scheme
    scheme, authority, path = parts[1].lower(), (parts[2] or "").lower(), _SLASHES.sub("/", f"/{parts[3]}")
    path = os.path.normpath(path) if scheme == "file" else path
    return f"{_SAME_SCHEME.get(scheme, scheme)}://{authority}{path.rstrip('/')}"


def is_inside(location: str, folder: str) -> bool:
    """Whether a location is a folder itself or lies somewhere below it. Both are normalized."""
    return location == folder or location.startswith(folder.rstrip("/") + "/")


def list_files(io: FileIO, location: str) -> Iterator[StoredFile]:
    """Every file below a location, in no order; nothing where there is no such folder. Their locations begin as it does.

    Raises:
        StorageError: it can't be listed.
    """
    try:
        if isinstance(io, PyArrowFileIO):
            files, path = _arrow(io, location)
            found = files.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
            listed = ((info.path, info.size, _to_ms(info.mtime)) for info in found if info.type == FileType.File)
        else:
            files, path = _fsspec(io, location)
            files.invalidate_cache()
            details = files.find(path, detail=True).values()
            listed = (
                (info["name"], int(info["size"] or 0), next((_to_ms(info[word]) for word in _MODIFIED if word in info), None))
                for info in details
                if info["type"] == "file"
            )
    except FileNotFoundError:  # a file system's own answer where not even the bucket is there
        return
    except (OSError, ValueError) as error:
        raise StorageError("list the files under", location, str(error)) from error
    root, below = location.rstrip("/"), len(path.rstrip("/"))
    for name, size_bytes, modified_ms in listed:
        yield StoredFile(f"{root}/{name[below:].lstrip('/')}", size_bytes, modified_ms)


def delete_files(io: FileIO, locations: Iterable[str]) -> list[str]:
    """Delete files, many at a time; what could not be deleted is returned. What is not there counts as deleted."""
    kept: list[str] = []
    rest = iter(locations)
    with ThreadPoolExecutor(_THREADS) as pool:
        while window := list(islice(rest, _AT_ONCE)):
            if not _delete_together(io, window):
                share = len(window) // _THREADS + 1  # a thread is handed many at once: that costs as much as deleting one
                shares = (window[first : first + share] for first in range(0, len(window), share))
                kept += chain.from_iterable(pool.map(partial(_delete_each, io), shares))
    return kept


def delete_prefix(io: FileIO, location: str) -> None:
    """Delete a folder with all that is below it; nothing where there is none.

    Raises:
        StorageError: it can't be deleted, or is no folder but the root of a storage.
    """
    has_folder = bool(normalize(location).partition("://")[2].partition("/")[2])
    if not has_folder or _CUT_SHORT.search(location) or _PATTERN.search(location):
        raise StorageError("delete everything under", location, "it is no folder of its own")
    try:
        if isinstance(io, PyArrowFileIO):
            files, path = _arrow(io, location)
            files.delete_dir(path)
        else:
            files, path = _fsspec(io, location)
            files.rm(path, recursive=True)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise StorageError("delete everything under", location, str(error)) from error


def _delete_each(io: FileIO, locations: Sequence[str]) -> list[str]:
    return [location for location in locations if not _delete(io, location)]


def _delete(io: FileIO, location: str) -> bool:
    """Whether the file is gone."""
    if _CUT_SHORT.search(location):
        return False
    try:
        if isinstance(io, FsspecFileIO):
            files, path = _fsspec(io, location)
            files.rm_file(path)
        else:
            io.delete(location)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _delete_together(io: FileIO, locations: Sequence[str]) -> bool:
    """Whether few requests deleted all of them. If not, nobody knows which are gone: they are tried one by one."""
    if not isinstance(io, FsspecFileIO) or any(_CUT_SHORT.search(one) or _PATTERN.search(one) for one in locations):
        return False
    try:
        places = [_fsspec(io, location) for location in locations]
        (files,) = {id(files): files for files, _ in places}.values()
        files.rm([path for _, path in places])
    except (OSError, ValueError):
        return False
    return True


def _arrow(io: PyArrowFileIO, location: str) -> tuple[FileSystem, str]:
    scheme, authority, path = io.parse_location(location, io.properties)
    return io.fs_by_scheme(scheme, authority), path


def _fsspec(io: FileIO, location: str) -> tuple[Any, str]:
    if not isinstance(io, FsspecFileIO):
        raise ValueError(f"{type(io).__name__} has no folders; set py-io-impl to PyIceberg's for pyarrow or fsspec")
    place = urlsplit(location)
    files = io.get_fs(place.scheme, place.hostname)
    return files, files._strip_protocol(location)


def _to_ms(moment: datetime | float | None) -> int | None:
    if moment is None:
        return None
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    return int(seconds * 1000)
