"""Turns what a model found wrong into `Problem`s: file, line, path, found, allowed, nearest valid name."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lakehouse_assets.model.errors import Problem
from lakehouse_assets.model.mistakes import Mistake, describe, nearest
from lakehouse_assets.model.spec import TableSpec

Location = tuple[str | int, ...]
ROOT = "declaration"  # the path of a mistake that concerns the file as a whole

_EXPECTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list, as [a, b]",
    "dict_type": "a mapping of names to values",
}


def list_problems(
    error: ValidationError,
    file: str,
    line_of: Callable[[Location, bool], int],
    root: type[BaseModel] = TableSpec,
) -> list[Problem]:
    """Every mistake in `error`, by line. `line_of` gets a place, and whether its key is meant; the declaration is a `root`."""
    problems = []
    for details in error.errors(include_url=False):
        place = details["loc"]
        mistake = _explain(details, root)
        line = line_of(place, details["type"] in ("extra_forbidden", "missing"))
        problems.append(
            Problem(file, line, format_path(place), mistake.found, mistake.allowed, mistake.suggestion)
        )
    meant = {problem.suggestion and _beside(problem.path, problem.suggestion) for problem in problems}
    missing = {format_path(details["loc"]) for details in error.errors() if details["type"] == "missing"}
    problems = [
        problem for problem in problems if problem.path not in meant & missing
    ]  # misspelt, not missing
    return sorted(problems, key=lambda problem: problem.line)


def list_expression_problems(
    spec: TableSpec, file: str, line_of: Callable[[Location], int], within: Location = ()
) -> list[Problem]:
    """Every mistake in the SQL of a declaration that is right otherwise. Loads DuckDB only where there is SQL.

    Columns that the newest schema gives are not known before a run, which looks then.
    """
    if not spec.has_expressions or not spec.columns:
        return []
    from lakehouse_assets.expressions import find_expression_mistakes

    return [
        Problem(file, line_of(place), format_path((*within, *place)), mistake.found, mistake.allowed, mistake.suggestion)
        for place, mistake in find_expression_mistakes(spec)
    ]


def format_path(place: Location) -> str:
    """A place as people read it: `schema[2].type`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or ROOT


def _beside(path: str, key: str) -> str:
    parent, dot, _ = path.rpartition(".")
    return f"{parent}{dot}{key}"


def _explain(details: ErrorDetails, root: type[BaseModel]) -> Mistake:
    place, found = details["loc"], details["input"]
    model, field = _find_field(place, root)
    match details["type"]:
        case "value_error":
            cause = details["ctx"]["error"].args[0]
            return cause if isinstance(cause, Mistake) else Mistake(describe(found), str(cause))
        case "extra_forbidden":
            return _explain_unknown_key(str(place[-1]), model, root)
        case "missing":
            return Mistake(f"no key {place[-1]!r}", f"{place[-1]}: {_first_sentence(field)}")
        case "literal_error":
            choices = [str(choice) for choice in _list_choices(field.annotation if field else None)]
            return Mistake(describe(found), ", ".join(choices), nearest(str(found), choices))
        case "model_type" | "model_attributes_type":
            keys = list_keys(_find_model(field.annotation if field else root) or root)
            return Mistake(describe(found), f"a mapping with the keys {', '.join(keys)}")
        case "greater_than_equal":
            return Mistake(describe(found), f"at least {details['ctx']['ge']}")
        case "less_than_equal":
            return Mistake(describe(found), f"at most {details['ctx']['le']}")
        case kind:
            return Mistake(describe(found), _EXPECTED.get(kind, details["msg"]))


def _explain_unknown_key(key: str, model: type[BaseModel], root: type[BaseModel]) -> Mistake:
    """Suggest the nearest key of this model; failing that, the same key elsewhere in the declaration."""
    keys = list_keys(model)
    by_attribute = {name: _key(name, field) for name, field in model.model_fields.items()}
    suggestion = by_attribute.get(key) or nearest(key, keys) or _find_key_elsewhere(key, root)
    return Mistake(f"the key {key!r}", ", ".join(keys), suggestion)


def _find_key_elsewhere(key: str, root: type[BaseModel]) -> str | None:
    for name, field in root.model_fields.items():
        inner = _find_model(field.annotation)
        if inner and key in list_keys(inner):
            return f"{_key(name, field)}.{key}"
    return key if key in list_keys(root) else None


def list_keys(model: type[BaseModel]) -> list[str]:
    """The keys of a model as they are written in YAML."""
    return [_key(name, field) for name, field in model.model_fields.items()]


def _key(name: str, field: FieldInfo) -> str:
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def _find_field(place: Location, root: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The model that holds the place, and the field that it is in (None for an unknown key)."""
    model = root
    field: FieldInfo | None = None
    for part in place:
        if isinstance(part, int):
            continue
        if field is not None:
            model = _find_model(field.annotation) or model
        field = next((f for name, f in model.model_fields.items() if part in (name, _key(name, f))), None)
        if field is None:
            break
    return model, field


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _find_model(part))), None)


def _list_choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _list_choices(part)]


def _first_sentence(field: FieldInfo | None) -> str:
    description = (field.description if field else None) or "a value"
    sentence = description.split(". ")[0].rstrip(".")
    return sentence[0].lower() + sentence[1:]
