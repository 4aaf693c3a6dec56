"""Reads one YAML file as plain values, and remembers on which line each of them stands.

Scalars mean what editors take them for (YAML 1.2): `yes`, `on`, `1:30` and times are text. A key that is
given twice, a tag and a loop of anchors are mistakes.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lakehouse_assets.declarations.problems import Location, format_path
from lakehouse_assets.model.errors import Problem

_LOADER = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # libyaml is ten times as fast, where PyYAML was built with it
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = ("str", "timestamp", "merge", "value")
_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,30}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_DEPTH = 100
_TOO_DEEP = (f"values nested more than {_MAX_DEPTH} deep", "plain values")
_SURELY_SAFE_DEPTH = 1000  # ten times less than what libyaml's recursion was seen to survive
_MAX_NODES = 100_000  # anchors can multiply a small file without end


@dataclass
class YamlFile:
    """What a file says: `data` as dicts, lists and scalars, and the mistakes of its form."""

    file: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    value_lines: dict[Location, int] = field(default_factory=dict)
    key_lines: dict[Location, int] = field(default_factory=dict)

    def line_of(self, place: Location, is_key: bool = False) -> int:
        """Line of a value, or of its key; of the nearest thing around it where it is not in the file."""
        lines = self.key_lines if is_key else self.value_lines
        for length in range(len(place), -1, -1):
            if place[:length] in lines:
                return lines[place[:length]]
        return 1

    def add(self, line: int, place: Location, found: str, allowed: str) -> None:
        """Note a mistake of the file's form."""
        self.problems.append(Problem(self.file, line, format_path(place), found, allowed))


def load_yaml(path: Path, file: str) -> YamlFile:
    """Read `path`; `file` is its name in problems. A file that is no YAML has `data` None and one problem."""
    result = YamlFile(file)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        line = _find_line_too_deep(text)
        root = None if line else yaml.compose(text, Loader=_LOADER)
    except OSError as error:
        result.add(1, (), f"a file that can't be read ({error.strerror})", "a readable file")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        result.add(line, (), "bytes that are no UTF-8", "text in UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        if "nesting depth" in str(error.problem):  # libyaml has a limit of its own from 0.2.6 on, and looks ahead
            result.add(line, (), *_TOO_DEEP)
        else:
            context = f"{error.context}: " if error.context else ""
            result.add(line, (), f"a YAML mistake ({context}{error.problem})", "one YAML document")
    except yaml.YAMLError as error:
        result.add(1, (), f"a YAML mistake ({str(error).splitlines()[0]})", "one YAML document")
    else:
        if line:
            result.add(line, (), *_TOO_DEEP)
        elif root is None:
            result.add(1, (), "an empty file", "a mapping with at least the keys table, source, schema")
        else:
            _Builder(result).build_root(root)
    return result


def _find_line_too_deep(text: str) -> int | None:
    """The line on which values are nested too deep, or None.

    libyaml composes by recursion in C and takes the process down on a deep file. Every level of nesting needs
    a bracket or a column, so that only a file with many of either has to be looked at.
    """
    longest = max(map(len, text.splitlines()), default=0)
    if text.count("[") + text.count("{") + longest < _SURELY_SAFE_DEPTH:
        return None
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            return int(event.start_mark.line) + 1 if event.start_mark is not None else 1
    return None


class _Builder:
    """Walks the nodes of one document."""

    def __init__(self, result: YamlFile) -> None:
        self.result = result
        self.open: set[int] = set()
        self.node_count = 0

    def build_root(self, root: yaml.Node) -> None:
        line = root.start_mark.line + 1
        self.result.data = self.build(root, (), line)
        if not isinstance(self.result.data, dict):
            found = type(self.result.data).__name__.replace("str", "text")
            self.result.data = None
            self.result.add(line, (), f"a {found}", "a mapping with at least the keys table, source, schema")

    def build(self, node: yaml.Node, place: Location, key_line: int) -> Any:
        self.node_count += 1
        self.result.key_lines[place] = self.result.value_lines[place] = key_line
        if id(node) in self.open or self.node_count > _MAX_NODES:
            self.result.add(key_line, place, "anchors that multiply without end", "plain values")
            return None
        if len(place) > _MAX_DEPTH:
            self.result.add(_line(node), place[:1], *_TOO_DEEP)
            return None
        self.open.add(id(node))
        try:
            match node:
                case yaml.MappingNode():
                    return self.build_mapping(node, place)
                case yaml.SequenceNode():
                    self.refuse_tag(node, place, "seq")
                    return [self.build(item, (*place, i), _line(item)) for i, item in enumerate(node.value)]
                case yaml.ScalarNode():
                    return self.build_scalar(node, place)
                case _:
                    raise TypeError(f"YAML has no node of the kind {type(node).__name__}")
        finally:
            self.open.discard(id(node))

    def build_mapping(self, node: yaml.MappingNode, place: Location) -> dict[str, Any]:
        self.refuse_tag(node, place, "map")
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.result.add(line, place, "a key that is no text", "keys that are text")
                continue
            key = key_node.value
            inner = (*place, key)
            if key in values:
                first = self.result.key_lines[inner]
                self.result.add(
                    line, inner, f"the key {key!r} a second time (first on line {first})", "each key once"
                )
                continue
            values[key] = self.build(value_node, inner, line)
        return values

    def build_scalar(self, node: yaml.ScalarNode, place: Location) -> Any:
        text = node.value
        kind = node.tag.removeprefix(_TAG)
        if text:
            self.result.value_lines[place] = _line(node)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind == "int" and _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        if kind == "float" and _NUMBER.fullmatch(text):
            return float(text)
        self.refuse_tag(node, place, *_TEXT_TAGS, "bool", "int", "float")
        return text

    def refuse_tag(self, node: yaml.Node, place: Location, *expected: str) -> None:
        if node.tag.removeprefix(_TAG) not in expected:
            self.result.add(
                _line(node), place, f"the tag {node.tag.replace(_TAG, '!!')}", "plain values without tags"
            )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
