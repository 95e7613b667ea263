"""Explain what is wrong with a configuration: the setting, as its author wrote it, and the rule that it violates."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from tagferry.errors import Invalid
from tagferry.settings.sources import ENVIRONMENT_PREFIX, Key

_RULES = {
    "missing": "is mandatory",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_too_short": "must have at least {min_length} characters",
    # Of secrets.
    "too_short": "must have at least {min_length} characters",
    "dict_type": "must be a section",
    "model_type": "must be a section",
    "model_attributes_type": "must be a section",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}
"""The rules by the validation library's types of errors, with the parameters of the error."""

_SYNTAX = {
    "Cannot overwrite": "a key is set twice, remove one",
    "Cannot declare": "a section exists twice, join them",
    "Duplicate inline table key": "a key is set twice, remove one",
    "Invalid value": "text needs quotes",
    "Expected newline": "text needs quotes, and each setting a line of its own",
    "Expected '='": "a key needs = and a value",
    "Invalid statement": "a line is a comment, a [section], or a key with = and a value",
    "Invalid initial character for a key": "a key with characters other than letters, digits, - and _ needs quotes",
    "Unterminated string": "the quotes of a text are not closed",
    "Illegal character": "the quotes of a text are not closed, or it has a control character",
    "Unescaped": "a backslash in a text has to be doubled, or the text put in single quotes",
    "Unclosed": "a list or a section is not closed",
    "Expected ']": "the brackets of a section are not closed",
}
"""Rules of TOML by the beginnings of the parser's messages."""

_NO_TOML = "compare it with a file that tagferry init has written"
NO_REGION = "must name at least one region, in a section [regions.ID]"
"""The rule of a configuration without regions."""
_SECRETS = ("password", "secret", "token", "database_url", "webhooks")
_MISSPELLED, _SIMILAR, _LIKE = 0.9, 0.75, 0.6
"""The least similarities of an unknown setting to the one that was meant; the least one only in its own section."""


def explain(error: Mapping[str, Any], settings: type[BaseModel], name_of: Callable[[Key], str]) -> Invalid:
    """Return the error that names the setting and the rule, and the value unless it may contain a secret.

    Args:
        error: an error of the validation library.
        settings: the whole configuration.
        name_of: returns a key as the user wrote it.
    """
    key = tuple(str(part) for part in error["loc"] if part != "[key]")
    field = name_of(key) or "settings"
    if error["type"] == "extra_forbidden":
        return Invalid(field, f"is an unknown setting{_suggestion(key, field, settings) or '; remove it'}")
    value = error["input"]
    is_public = isinstance(value, str | int | float) and "@" not in str(value)
    if any(secret in ".".join(key) for secret in _SECRETS):
        is_public = False
    return Invalid(field, _rule(error), value if is_public else None)


def explain_syntax(message: str, field: str) -> Invalid:
    """Return the error for a file that is not TOML.

    Args:
        message: the parser's message.
        field: the path of the file.
    """
    place = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if place is not None:
        field += f": line {place[1]}, column {place[2]}," if place[1] else ": the last line"
    rule = next((rule for beginning, rule in _SYNTAX.items() if message.startswith(beginning)), "")
    if place is not None and not place[1] and message.startswith("Invalid value"):
        rule = "a value is missing, or a list is not closed"
    return Invalid(field, f"is not valid TOML; {rule or _NO_TOML}")


def similar_setting(name: str, settings: type[BaseModel]) -> str | None:
    """Return the key of the top-level setting or section whose name is most similar to an unknown one, if any is."""
    return next(iter(difflib.get_close_matches(name, settings.model_fields, n=1, cutoff=_SIMILAR)), None)


def _rule(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing" and error["loc"] == ("regions",):
        return NO_REGION
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        expected = re.sub(r"\b(True|False)\b", lambda found: found[0].lower(), context["expected"])
        return f"must be {expected}".replace("'", '"')
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "must not be empty"
    rule = _RULES.get(kind)
    if kind == "too_short":
        return f"{rule}; make one with: openssl rand -hex 32".format(**context)
    return rule.format(**context) if rule is not None else "is invalid"


def _suggestion(key: Key, field: str, settings: type[BaseModel]) -> str:
    """Return a hint with the setting that was probably meant; empty if there is none."""
    name, own = key[-1], _section(key[:-1], settings)
    others = {label: section for label, section in _sections(settings) if section is not own}
    if places := [label for label, section in others.items() if name in section.model_fields]:
        return f"; it belongs {' or '.join(places)}"
    everywhere = {known: label for label, section in others.items() for known in section.model_fields}
    for cutoff, elsewhere in ((_MISSPELLED, _MISSPELLED), (_LIKE, _SIMILAR)):
        if similar := difflib.get_close_matches(name, own.model_fields, n=1, cutoff=cutoff):
            if field.startswith(ENVIRONMENT_PREFIX) and field.upper().endswith(name.upper()) and ":" not in field:
                return f"; did you mean {field[: -len(name)]}{similar[0].upper()}?"
            return f'; did you mean "{similar[0]}"?'
        if similar := difflib.get_close_matches(name, everywhere, n=1, cutoff=elsewhere):
            return f'; did you mean "{similar[0]}" {everywhere[similar[0]]}?'
    return ""


def _section(key: Key, settings: type[BaseModel]) -> type[BaseModel]:
    """Return the innermost section on the way to a key."""
    section = settings
    for part in key:
        # Other parts are ids of regions and indexes of lists.
        if (field := section.model_fields.get(part)) is not None:
            section = next(_models(field.annotation), section)
    return section


def _sections(settings: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield all sections with their places, such as "in [sync]"."""
    yield "at the top of the file, before all sections", settings
    for name, field in settings.model_fields.items():
        for model in _models(field.annotation):
            title = {"regions": "[regions.ID]", "webhooks": "[[webhooks]]"}.get(name, f"[{name}]")
            yield f"in {title}", model
            for inner, below in model.model_fields.items():
                for innermost in _models(below.annotation):
                    yield f"in {title[:-1]}.{inner}]", innermost


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
