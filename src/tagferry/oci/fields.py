"""Read fields of manifests and descriptors, which other programs wrote, from their parsed JSON.

`field` is the place of the descriptor in its document, such as `layers[0]`; empty for the document itself.
"""

import re
from typing import Any

from tagferry import bounds
from tagferry.errors import Invalid

_NOT_PRINTED = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
"""Control characters and lone surrogates."""


def urls_of(urls: Any, field: str) -> tuple[str, ...]:
    """Return the texts of a descriptor's `urls`; raises Invalid if there are too many."""
    if not isinstance(urls, list):
        return ()
    if len(urls) > bounds.DESCRIPTOR_URLS:
        raise Invalid(f"{field}.urls", f"must have at most {bounds.DESCRIPTOR_URLS} entries", len(urls))
    return tuple(url for url in urls if isinstance(url, str))


def annotations_of(document: dict[str, Any], field: str) -> dict[str, str]:
    """Return the annotations whose values are texts; raises Invalid for a text with U+0000."""
    annotations = document.get("annotations")
    if not isinstance(annotations, dict):
        return {}
    for key, value in annotations.items():
        if "\0" in key or (isinstance(value, str) and "\0" in value):
            raise Invalid(_inside(field, "annotations"), "must not contain the character U+0000", key)
    return {key: value for key, value in annotations.items() if isinstance(value, str)}


def optional_text(document: dict[str, Any], field: str, name: str) -> str | None:
    """Return a field as `plain_text` does; None if it is absent, empty or no text."""
    value = document.get(name)
    return plain_text(value, field, name) if isinstance(value, str) and value else None


def plain_text(text: str, field: str, name: str) -> str:
    """Return a string that can be displayed, stored and sent everywhere; raises Invalid for others."""
    if len(text) > bounds.MEDIA_TYPE_CHARACTERS:
        raise Invalid(_inside(field, name), f"must be at most {bounds.MEDIA_TYPE_CHARACTERS} characters long", text)
    if not _is_clean(text):
        raise Invalid(_inside(field, name), "must not contain control characters or lone surrogates", text)
    return text


def _inside(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def platform_name(document: Any) -> str | None:
    """Return `os/architecture[/variant]` of a descriptor's `platform`, or of an image's config; None if it has none.

    A part that is not printable text is left out.
    """
    if not isinstance(document, dict):
        return None
    parts = (document.get("os"), document.get("architecture"), document.get("variant"))
    return "/".join(part for part in parts if isinstance(part, str) and _is_name(part)) or None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= bounds.MEDIA_TYPE_CHARACTERS and _is_clean(text)


def _is_clean(text: str) -> bool:
    return text.isprintable() or not re.search(_NOT_PRINTED, text)
