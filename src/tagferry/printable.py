"""Text of strangers, made fit to be kept and shown: in the database, in answers, in logs and on terminals."""

import re

_ESCAPED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tabs and line ends, those that change the direction of writing, and lone surrogates.

PostgreSQL takes no NUL, UTF-8 has no surrogates, and the rest can make a terminal show something else than was written.
"""


def printable(text: str, limit: int | None = None) -> str:
    """Return the text with such characters as escapes, and with an ellipsis at its end where it is over the limit."""
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    if _ESCAPED.search(text) is None:
        return text
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
