"""Clean text from clients and registries for the database, responses, logs and terminals."""

import re

_ESCAPED = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
"""Control characters except tabs and line ends, characters that change the writing direction, and lone surrogates.

PostgreSQL rejects NUL, UTF-8 has no surrogates, and the others can make a terminal show different text.
"""


def printable(text: str, limit: int | None = None) -> str:
    """Return the text with unprintable characters escaped, cut with an ellipsis if it exceeds the limit."""
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    if text.isprintable():
        return text
    return re.sub(_ESCAPED, lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
