"""The sources of settings, the file and the environment, merged. Former keys are replaced by the current ones."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tagferry.errors import Invalid
from tagferry.settings.renames import RENAMED_SETTINGS

Key = tuple[str, ...]
"""The path of a setting, such as `("sync", "verify")`; the elements of a list have their index."""

ENVIRONMENT_PREFIX = "TAGFERRY_"
ENVIRONMENT_DELIMITER = "__"


@dataclass(frozen=True)
class RenamedSetting:
    """A former key that a configuration uses.

    Attributes:
        key: the path of the key that replaces it.
        old: the former key, as it is written in the file or the environment.
        new: the key that replaces it, written in the same way.
    """

    key: Key
    old: str
    new: str


class MergedSettings:
    """The settings of the file and the environment, which takes precedence.

    Args:
        file: the content of the file.
        environment: the settings of the environment.
        path: the path of the file, for messages.

    Attributes:
        values: the settings by their current keys.
        renamed: the former keys that are used.

    Raises:
        Invalid: a former key and the key that replaces it are both set in the file, or both in the environment.
    """

    def __init__(self, file: Mapping[str, Any], environment: Mapping[str, Any], *, path: str = "") -> None:
        self._path = path
        try:
            file, in_file = _replace_former(file, _file_key)
        except Invalid as error:
            raise Invalid(": ".join(filter(None, [path, error.field])), error.rule) from None
        self._environment, in_environment = _replace_former(environment, _environment_key)
        self._names = {
            setting.key: self._in_file((*setting.key[:-1], setting.old.rpartition(".")[2]))
            for setting in in_file
            if not _has_value(self._environment, setting.key)
        }
        self._names |= {setting.key: setting.old for setting in in_environment}
        self.values = _merge(file, self._environment)
        self.renamed = (*in_file, *in_environment)

    def name_of(self, key: Key) -> str:
        """Return a key as the user wrote it."""
        for length in range(len(key), 0, -1):
            if (name := self._names.get(key[:length])) is not None:
                return ".".join([name, *key[length:]])
        return _environment_key(key) if _has_value(self._environment, key) else self._in_file(key)

    def _in_file(self, key: Key) -> str:
        return ": ".join(filter(None, [self._path, setting_label(key)]))


def setting_label(key: Key) -> str:
    """Return a key of the file in words, such as `region cn-north-4: listen`."""
    match key:
        case ("regions", region, *rest):
            place = f"region {region}"
        case ("webhooks", index, *rest) if index.isdecimal():
            place = f"webhook {int(index) + 1}"
        case _:
            return _file_key(key)
    return f"{place}: {'.'.join(rest)}" if rest else place


def _file_key(key: Key) -> str:
    return ".".join(key)


def _environment_key(key: Key) -> str:
    """Return the variable that sets a key; if it has JSON, followed by the rest of the key."""
    variables = {name.upper(): name for name in os.environ}
    for length in range(len(key), 0, -1):
        variable = ENVIRONMENT_PREFIX + ENVIRONMENT_DELIMITER.join(key[:length])
        if (name := variables.get(variable.upper())) is not None:
            return ": ".join([name, *filter(None, [_file_key(key[length:])])])
    return (ENVIRONMENT_PREFIX + ENVIRONMENT_DELIMITER.join(key)).upper()


def _replace_former(
    document: Mapping[str, Any], written: Callable[[Key], str]
) -> tuple[dict[str, Any], list[RenamedSetting]]:
    """Return the document without former keys, and those; `written` returns a key as the user wrote it."""
    renamed: list[RenamedSetting] = []

    def replace(value: Any, key: Key) -> Any:
        if isinstance(value, list | tuple):
            return [replace(item, (*key, str(index))) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        names = _former_names(key)
        for name in value:
            if (new := names.get(name)) is not None:
                setting = RenamedSetting((*key, new), written((*key, name)), written((*key, new)))
                if new in value:
                    raise Invalid(setting.old, f"is the former name of {setting.new}, and both are set; remove one")
                renamed.append(setting)
        return {names.get(name, name): replace(item, (*key, name)) for name, item in value.items()}

    return replace(dict(document), ()), renamed


def _former_names(section: Key) -> Mapping[str, str]:
    for pattern, names in RENAMED_SETTINGS.items():
        if len(pattern) == len(section) and all(
            part in ("*", name) for part, name in zip(pattern, section, strict=True)
        ):
            return names
    return {}


def _has_value(document: Any, key: Key) -> bool:
    """True if a document sets this key, or a list or value that it is a part of."""
    for name in key:
        if not isinstance(document, dict):
            return True
        if name not in document:
            return False
        document = document[name]
    return not isinstance(document, dict)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        former = merged.get(name)
        merged[name] = _merge(former, value) if isinstance(former, dict) and isinstance(value, dict) else value
    return merged
