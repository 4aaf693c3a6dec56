"""Protobuf schemas: texts as a registry keeps them become descriptors.

Hides the compiler, which runs in a process of its own: the texts are others', and it says what is wrong on its standard error.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from lakehouse_assets.decode.decoded import BrokenSchema
from lakehouse_assets.model.errors import ConfigurationError

_COMPILER = "grpc_tools"
_MAIN = "lakehouse_schema.proto"  # a schema has no file name in the registry
_SECONDS = 30.0


class CompiledSchema:
    """The messages of one schema."""

    def __init__(self, files: FileDescriptorSet) -> None:
        pool = DescriptorPool()
        for file in files.file:
            pool.Add(file)
        names = [message.name for message in files.file[-1].message_type]  # in the order of the text
        package = files.file[-1].package
        self._messages = [pool.FindMessageTypeByName(f"{package}.{name}" if package else name) for name in names]

    def find_message(self, path: Sequence[int]) -> Descriptor | None:
        """The message under a list of indexes, each inside the one before; None: there is none."""
        inside: Sequence[Descriptor] = self._messages
        found = None
        for index in path:
            if not 0 <= index < len(inside):
                return None
            found = inside[index]
            inside = found.nested_types
        return found


def compile_schema(text: str, references: Sequence[tuple[str, str]] = ()) -> CompiledSchema:
    """Compile a schema and what it imports; Protobuf's own well-known types need not be among `references`.

    Raises:
        BrokenSchema
        ConfigurationError: the compiler is not installed.
    """
    if find_spec(_COMPILER) is None:
        raise ConfigurationError(
            "'source.format' protobuf", "no compiler of its schemas", "it comes with `pip install lakehouse_assets[protobuf]`"
        )
    with TemporaryDirectory(prefix="lakehouse-protobuf-") as name:
        folder = Path(name)
        for file, content in [*references, (_MAIN, text)]:
            _write(folder, file, content)
        output = folder / "descriptors"
        command = [sys.executable, "-m", f"{_COMPILER}.protoc", f"-I{folder}", "--include_imports"]
        command += [f"--descriptor_set_out={output}", _MAIN]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=folder)
        except subprocess.TimeoutExpired:
            raise BrokenSchema(f"its compiler did not end within {_SECONDS:g} s") from None
        if done.returncode:
            raise BrokenSchema(_first_mistake(done.stderr))
        try:
            return CompiledSchema(FileDescriptorSet.FromString(output.read_bytes()))
        except TypeError as error:  # of the pool
            raise BrokenSchema(str(error).replace(_MAIN, "it").strip()) from None


def _write(folder: Path, name: str, text: str) -> None:
    """Only below the folder: names come from the registry."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise BrokenSchema(f"it imports {name!r}, which is no path below the schemas")
    target = folder.joinpath(*path.parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BrokenSchema(f"it imports {name!r}, which is no name of a file ({type(error).__name__})") from None


def _first_mistake(said: str) -> str:
    lines = [line.removeprefix(f"{_MAIN}:") for line in said.splitlines() if "warning:" not in line and line.strip()]
    return lines[0] if lines else "its compiler says nothing"
