"""Parse I-JSON (RFC 7493), which has one interpretation.

Documents from clients and registries are parsed with it. It rejects content that programs interpret differently, or
cannot store or forward: repeated names, invalid Unicode, numbers that are not finite.
"""

import json
import math
import re
from typing import Any

from tagferry import bounds
from tagferry.errors import Invalid

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOO_DEEP = f"must not nest objects and arrays more than {bounds.JSON_DEPTH} levels deep"


def parse_object(raw: bytes, *, field: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        raw: the bytes, in UTF-8 without a byte order mark.
        field: the document's name in errors.

    Raises:
        Invalid: it is not an object, violates one of the rules above, or has too many values.
    """
    if has_too_many_values(raw):
        raise Invalid(field, f"must hold at most {bounds.JSON_VALUES} values")
    try:
        document = _DECODER.decode(raw.decode("utf-8"))
        if _SURROGATE.search(raw):
            # Escapes may encode a surrogate pair, or a lone surrogate.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Invalid(field, _rule(error)) from None
    if not isinstance(document, dict):
        raise Invalid(field, "must be a JSON object")
    if _is_deep(document):
        raise Invalid(field, _TOO_DEEP)
    return document


def has_too_many_values(raw: bytes) -> bool:
    """Return whether a JSON document has too many values to be parsed, since they take far more memory than its bytes.

    A document of up to `PARSED_AT_ONCE_BYTES` is always parsed.
    """
    if len(raw) <= bounds.PARSED_AT_ONCE_BYTES:
        return False
    return sum(raw.count(mark) for mark in (b",", b"[", b"{")) > bounds.JSON_VALUES


class _Violation(ValueError):
    """A rule that the document violates."""


def _rule(error: Exception) -> str:
    if isinstance(error, _Violation):
        return str(error)
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeEncodeError):
        return "must not contain halves of surrogate pairs"
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return "must be JSON in UTF-8"
    # Python does not parse integers of thousands of digits.
    return "must not contain whole numbers of thousands of digits"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _Violation("must not repeat a name within an object")
    return document


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Violation("must contain finite numbers only")
    return number


def _constant(_text: str) -> float:
    raise _Violation("must contain finite numbers only")


def _is_deep(document: dict[str, Any]) -> bool:
    level: list[Any] = [document]
    for _ in range(bounds.JSON_DEPTH):
        values = (value for one in level for value in (one.values() if isinstance(one, dict) else one))
        level = [value for value in values if isinstance(value, (dict, list))]
        if not level:
            return False
    return True


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant)
