"""Remove secrets from text for logs and traces.

This is the last line of defence. No code logs a secret on purpose, but messages of other servers and libraries may
quote requests. What looks like a secret is replaced, even if that replaces too much.
"""

import re
from typing import Any

HIDDEN = "***"
"""Replaces a secret."""

_QUOTE = r"\\*[\"']"
_SEPARATOR = rf"(?:{_QUOTE})?\s*[:=]\s*(?:b?{_QUOTE})?|{_QUOTE}\s*,\s*b?{_QUOTE}"
_HEADERS = r"(?:proxy-)?authorization|set-cookie|cookie|x-(?:auth|subject|security|registry)-(?:auth|token)"
_NAMES = (
    r"[\w.-]*(?:password|passwd|passphrase|secret|secret[_-]?key|private[_-]?key|api[_-]?key|token|signature"
    r"|credentials?)"
)

_PATTERNS = (
    # The whole value of a header, which may have several parts.
    (re.compile(rf"(\b(?:{_HEADERS})(?:{_SEPARATOR}))[^\"'\\\r\n]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # What follows the scheme of an authorization, but neither the parameters of a challenge nor an ordinary word.
    (
        re.compile(r"\b((?i:basic|bearer|digest|negotiate) )(?!\w+=\\*\")(?=[^\s\"'\\]*[A-Z0-9=])[^\s\"'\\,;)]{6,}"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b((?:AWS4|SDK|OAuth|GOOG4)[\w-]*-(?:SHA256|SHA1|SM3) )[^\"'\\\r\n]+"), rf"\1{HIDDEN}"),
    # The user and password of a URL, of a bounded length, so that the search is linear. A password may contain slashes,
    # but `host:5000/name@sha256:…` has none.
    (
        re.compile(
            r"(\b[A-Za-z][\w+.-]{0,30}://)"
            r"(?:[^\s\"'\\/?#@]{0,300}|[^\s\"'\\/?#@:]{1,100}:(?!\d{1,5}[/?#])[^\s\"'\\@]{0,300})@(?!sha(?:256|512):)"
        ),
        rf"\1{HIDDEN}@",
    ),
    # The query of a URL, which may be signed.
    (re.compile(r"(\bhttps?://[^\s\"'\\?]{1,1000}\?)[^\s\"'\\)>]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"([?&](?:x-(?:amz|goog)-[\w-]+|sig|signature|key-pair-id|policy|awsaccesskeyid|_state|code|verify"
            r"|[\w-]*token|[\w-]*password|[\w-]*secret)=)[^\s\"'\\&#;)]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # A field of JSON, a form or a log line, by its name.
    (re.compile(rf"((?<![\w.-]){_NAMES}(?:{_SEPARATOR}))[^\s\"'\\,;&)}}\]]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # JSON web tokens, the tokens of Fernet, and private keys.
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+)*\.?"), HIDDEN),
    (re.compile(r"\bgAAAA[\w-]{20,}={0,2}"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"'-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"), HIDDEN),
)
_SUSPICIOUS = re.compile(
    r"://|[?&]\w|authorization|cookie|basic |bearer |digest |negotiate |-sha|-sm3|-token|-auth|passw|passphrase|secret"
    r"|key|token|signature|credential|eyJ|gAAAA",
    re.IGNORECASE,
)
"""Matches in every text with a secret. Most texts have no match, and are searched once."""

_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:password|passwd|passphrase|secret|secret[_-]?key|private[_-]?key|api[_-]?key|token|authorization|cookie"
    r"|signature|credentials?)$",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Return a text without what looks like a password, token, key, authorization or the query of a URL."""
    if _SUSPICIOUS.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def is_secret(name: str) -> bool:
    """Return whether a field of this name has a secret as its value."""
    return _SECRET_NAME.search(name) is not None


def without_secret_fields(value: Any) -> Any:
    """Return a value with the secret fields of its mappings hidden, at any depth."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if isinstance(name, str) and is_secret(name) and one else without_secret_fields(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [without_secret_fields(one) for one in value]
    if type(value) is tuple:
        return tuple(without_secret_fields(one) for one in value)
    return value
