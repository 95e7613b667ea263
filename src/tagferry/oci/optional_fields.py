"""The types of optional fields, as the OCI image-spec 1.1 defines them ("Content Descriptors", "Annotation Rules").

They are checked when a client pushes a manifest. A manifest that a registry already holds is copied unchanged, since
a copy keeps its digest; fields of other types are ignored there.
"""

from collections.abc import Callable, Iterator
from typing import Any

from tagferry.errors import Invalid

_Rule = tuple[Callable[[Any], bool], str]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _map_to_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_OF_MANIFEST: dict[str, _Rule] = {
    "mediaType": (_is_text, "must be a string"),
    "artifactType": (_is_text, "must be a string"),
    "annotations": (_map_to_texts, "must be an object whose values are strings"),
}
_OF_DESCRIPTOR: dict[str, _Rule] = {
    **_OF_MANIFEST,
    "urls": (_are_texts, "must be an array of strings"),
    "platform": (_is_object, "must be an object"),
    "data": (_is_text, "must be a string"),
}
_SINGLE = ("config", "subject")
_LISTS = ("layers", "manifests", "blobs")


def check_optional_fields(document: dict[str, Any]) -> None:
    """Check the optional fields of a manifest and its descriptors; null counts as absent.

    Raises:
        Invalid: a field has another type than the specification requires; names the field.
    """
    _check(document, _OF_MANIFEST, "")
    for name, descriptor in _descriptors(document):
        _check(descriptor, _OF_DESCRIPTOR, f"{name}.")


def _check(document: dict[str, Any], rules: dict[str, _Rule], prefix: str) -> None:
    for name, (is_valid, rule) in rules.items():
        value = document.get(name)
        if value is not None and not is_valid(value):
            raise Invalid(f"{prefix}{name}", rule, value)


def _descriptors(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in _SINGLE:
        if isinstance(document.get(name), dict):
            yield name, document[name]
    for name in _LISTS:
        entries = document.get(name)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                yield f"{name}[{index}]", entry
