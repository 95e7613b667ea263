"""Turns error bodies of other servers into one-line messages without secrets."""

import re
from typing import Any

_PAGE_LIMIT = 100
"""Characters of a web page that are quoted: what follows its title is of no use in a message."""
_READ = 2000
"""Characters of a text that are processed, more than a message shows."""
_TITLE_WITHIN = 4096
"""Characters of a web page that are searched for its title."""
_TITLE = r"(?is)<title[^>]*>(.*?)</title\s*>"
_HIDDEN = r"(?is)<(script|style)\b.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)"
_TAG = r"<[^>]*>?"
_KEYS = ("code", "error", "errors", "title", "message", "error_description", "error_msg", "details", "detail")

_SECRETS = r"(?<=://)[^\s/@]+@|\?[^\s\"'?]+=[^\s\"']*|(?i:(?<=bearer )|(?<=basic ))\S{8,}|eyJ[\w-]+(\.[\w-]*)+"
"""Credentials in URLs, queries (of signed URLs), authorizations and JSON web tokens."""


def without_secrets(text: str) -> str:
    """Return a text without possible credentials: some servers repeat the request that they refuse."""
    if len(text) > _READ:
        # The cut may fall into a secret, so the last word is dropped.
        text = text[:_READ].rpartition(" ")[0] or text[:_READ]
    return re.sub(_SECRETS, "…", text)


def one_line(text: str, limit: int = 300) -> str:
    """Return a text as one line of printable characters, truncated to a limit."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= limit else f"{line[:limit]}…"


def explain(document: dict[str, Any], body: bytes, media_type: str) -> str:
    """Return the reason in an error's body as one line; an empty string if the body is not meant for people.

    Args:
        document: the JSON object in the body, if there is one.
        body: the raw body.
        media_type: lower case, without parameters.
    """
    if reasons := _reasons(document):
        return ": ".join(dict.fromkeys(reasons))
    text = _decoded(body)
    if not media_type.startswith(("text/", "application/")) and media_type:
        return ""
    if "\x00" in text or text.count("\ufffd") > len(text) // 10:
        return ""
    if text.lstrip()[:1] == "<":
        return _page(text)
    return " ".join(text.split())


def _decoded(body: bytes) -> str:
    """Decode as UTF-8, or else as Latin-1 unless the bytes include control characters."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        is_text = not re.search(rb"[\x00-\x08\x0e-\x1a\x80-\x9f]", body)
        return body.decode("latin-1" if is_text else "utf-8", "replace")


def _reasons(part: Any, depth: int = 0) -> list[str]:
    """Return the texts of the members that hold a reason."""
    if isinstance(part, str):
        return [" ".join(part.split())] if part.strip() else []
    if depth > 2:
        return []
    if isinstance(part, list):
        return [text for one in part[:3] for text in _reasons(one, depth + 1)]
    if isinstance(part, dict):
        return [text for key in _KEYS if key in part for text in _reasons(part[key], depth + 1)]
    return []


def _page(text: str) -> str:
    # Imported here: web pages are rare, and the table of entities is large.
    from html import unescape

    title = re.search(_TITLE, text[:_TITLE_WITHIN])
    shown = title[1] if title and title[1].strip() else re.sub(_TAG, " ", re.sub(_HIDDEN, " ", text))
    return one_line(unescape(shown), _PAGE_LIMIT)
