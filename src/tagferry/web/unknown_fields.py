"""The fields of a JSON body that its operation does not have, such as a mistyped name of an optional field."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from tagferry import bounds

Models = tuple[type[BaseModel], ...]

_UNUSUAL = re.compile(r"[^A-Za-z0-9_.:$@/-]")
_LONGEST_NAME = 64


def unknown_fields(annotation: Any, document: Any) -> list[str]:
    """Return the paths of the unknown fields, such as `rules[0].templates`.

    There are at most `UNKNOWN_FIELDS_REPORTED` paths, and then `...` if there are more. They are short and have plain
    characters only, since the names are those of a client, which may not be authenticated yet.

    Args:
        annotation: the type of the body: a model, or a list of models.
        document: the parsed body; parts of another type than the model's are ignored.
    """
    found: list[str] = []
    _search(_models_in(annotation), document, "body" if isinstance(document, list) else "", found)
    most = bounds.UNKNOWN_FIELDS_REPORTED
    return [*found[:most], "..."] if len(found) > most else found


def _search(models: Models, value: Any, path: str, found: list[str]) -> None:
    """Add the paths of the unknown fields of a value, which is of any of these models, until there are too many."""
    if not models or len(found) > bounds.UNKNOWN_FIELDS_REPORTED:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _search(models, item, f"{path}[{index}]", found)
    elif isinstance(value, dict):
        known = {name: inner for model in models for name, inner in _fields_of(model).items()}
        for name, inner in value.items():
            if name in known:
                _search(known[name], inner, _below(path, name), found)
            elif len(found) <= bounds.UNKNOWN_FIELDS_REPORTED:
                found.append(_below(path, _plain(name)))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _plain(name: str) -> str:
    return _UNUSUAL.sub("?", name[:_LONGEST_NAME]) or "?"


@cache
def _fields_of(model: type[BaseModel]) -> Mapping[str, Models]:
    """Return the names of a model's fields in JSON, each with the models of its value."""
    return {
        name: _models_in(field.annotation)
        for attribute, field in model.model_fields.items()
        for name in _names(attribute, field)
    }


def _names(attribute: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias or field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or attribute]
    return [str(choice.path[0]) if isinstance(choice, AliasPath) else choice for choice in choices]


def _models_in(annotation: Any) -> Models:
    """Return the models of a field's type, also of its elements; none if the field may have any content."""
    if get_origin(annotation) is dict:
        return ()
    if isinstance(annotation, type) and get_origin(annotation) is None:
        is_closed = issubclass(annotation, BaseModel) and annotation.model_config.get("extra") != "allow"
        return (annotation,) if is_closed else ()
    return tuple(model for part in get_args(annotation) for model in _models_in(part))
